"""Metadata and headers of an object, kept beside its file under the name of its ETag."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from objfs.drivers.local.files import create_file, read_exactly, sync_folder, write_all
from objfs.errors import CorruptError
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import PutOptions

if TYPE_CHECKING:
    from objfs.drivers.local.layout import Layout


def encode_options(options: PutOptions) -> bytes:
    """Options as JSON."""
    fields = {
        "metadata": dict(options.metadata),
        "content_type": options.content_type,
        "content_encoding": options.content_encoding,
        "cache_control": options.cache_control,
        "storage_class": options.storage_class,
        "tags": dict(options.tags or {}),
        "headers": dict(options.headers),
    }
    return json.dumps({name: value for name, value in fields.items() if value}).encode()


def decode_options(data: bytes, *, key: str) -> PutOptions:
    """Options from JSON; CorruptError if it is none."""
    try:
        return PutOptions(**json.loads(data))
    except (TypeError, ValueError) as error:
        raise CorruptError("The object's metadata file is damaged.", key=key) from error


class Sidecars:
    """The folder `meta`."""

    def __init__(self, layout: Layout, *, fsync: bool) -> None:
        self._layout = layout
        self._fsync = fsync

    def write(self, etag: str, options: PutOptions) -> None:
        """Keep the options of a version that is not visible yet."""
        if options == DEFAULT_PUT:
            return
        path = self._layout.sidecar(etag)
        fd = create_file(path)
        try:
            write_all(fd, encode_options(options))
            if self._fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        if self._fsync:
            sync_folder(os.path.dirname(path))

    def read(self, etag: str, *, key: str) -> PutOptions | None:
        """The options of a version, or None if it has none."""
        try:
            fd = os.open(self._layout.sidecar(etag), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return decode_options(read_exactly(fd, 0, os.fstat(fd).st_size), key=key)
        finally:
            os.close(fd)

    def drop(self, etag: str) -> None:
        """Forget a version that is gone."""
        with suppress(FileNotFoundError):
            os.unlink(self._layout.sidecar(etag))
