"""Multipart uploads of the local driver: a folder per upload, a file per part."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from objfs.drivers.local.files import (
    READ_FLAGS,
    append_range,
    create_file,
    make_state_folder,
    store_errors,
    write_all,
    write_body,
)
from objfs.drivers.local.layout import etag_of
from objfs.drivers.local.sidecars import decode_options, encode_options
from objfs.errors import CorruptError, InvalidRequestError, NotFoundError, UploadNotFoundError
from objfs.store.checks import check_encryption, check_key, check_metadata
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ANY, TIB, MultipartLimits, Part, PendingUpload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from objfs.drivers.local.store import LocalStore
    from objfs.store.values import Body, ByteRange, Condition, PutOptions, Version

_LIMITS = MultipartLimits(min_part_bytes=1, max_part_bytes=TIB)
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_TICKET = "upload.json"


class LocalMultipart:
    """The multipart and compose faces of a `LocalStore`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._layout = store.layout

    @property
    def limits(self) -> MultipartLimits:
        """See `MultipartApi`."""
        return _LIMITS

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        check_key(key, self._store.capabilities.max_key_bytes)
        check_metadata(options.metadata, self._store.capabilities.max_metadata_bytes, key=key)
        check_encryption(options.encryption, key=key)
        upload_id = uuid.uuid4().hex
        facts = {"key": key, "initiated_ns": time.time_ns(), "options": encode_options(options).decode()}
        with store_errors(self._layout.root, key):
            make_state_folder(self._layout.uploads)
            os.mkdir(self._folder(key, upload_id))
            fd = create_file(self._ticket(key, upload_id))
            try:
                write_all(fd, json.dumps(facts).encode())
            finally:
                os.close(fd)
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """See `MultipartApi`."""
        target = self._part_path(key, upload_id, number)
        with self._store.new_file(key, DEFAULT_PUT) as (path, fd):
            write_body(fd, body)
            return self._keep_part(number, path, fd, target)

    def copy_part(
        self,
        source_key: str,
        byte_range: ByteRange,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_if_match: str | None = None,
    ) -> Part:
        """See `ComposeApi`."""
        target = self._part_path(key, upload_id, number)
        with self._store.opened(source_key, if_match=source_if_match) as (source, info):
            if byte_range.stop > info.version.size_bytes:
                raise InvalidRequestError("The range is not within the source object.", key=source_key)
            with self._store.new_file(key, DEFAULT_PUT) as (path, fd):
                append_range(source, byte_range.start, byte_range.length, fd)
                return self._keep_part(number, path, fd, target)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        numbers = [part.number for part in parts]
        if not parts or numbers != sorted(set(numbers)):
            raise InvalidRequestError("The parts are not in order.", key=key)
        options = decode_options(str(self._facts(key, upload_id)["options"]).encode(), key=key)
        with self._store.new_file(key, options) as (path, fd):
            for part in parts:
                self._append_part(key, upload_id, part, fd)
            draft = self._store.draft(path, fd)
            ticket = self._ticket(key, upload_id)
            version = self._store.publish(key, draft, options, condition, ticket=ticket)
        self.abort(key, upload_id)
        return version

    def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        with store_errors(self._layout.root, key), suppress(FileNotFoundError):
            shutil.rmtree(self._folder(key, upload_id))

    def list_uploads(self, prefix: str) -> list[PendingUpload]:
        """See `MultipartApi`."""
        with store_errors(self._layout.root):
            try:
                upload_ids = os.listdir(self._layout.uploads)
            except FileNotFoundError:
                return []
        found: list[PendingUpload] = []
        for upload_id in upload_ids:
            with suppress(NotFoundError):
                facts = self._facts("", upload_id)
                key, initiated_ns = str(facts["key"]), int(str(facts["initiated_ns"]))
                if key.startswith(prefix):
                    found.append(PendingUpload(key=key, upload_id=upload_id, initiated_ns=initiated_ns))
        return sorted(found, key=lambda upload: (upload.key, upload.initiated_ns))

    def _folder(self, key: str, upload_id: str) -> str:
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise UploadNotFoundError("There is no such upload.", key=key)
        return f"{self._layout.uploads}/{upload_id}"

    def _ticket(self, key: str, upload_id: str) -> str:
        return f"{self._folder(key, upload_id)}/{_TICKET}"

    def _facts(self, key: str, upload_id: str) -> dict[str, object]:
        """What was said when the upload began; `key` "" takes any."""
        try:
            with open(self._ticket(key, upload_id), "rb") as source:
                facts: dict[str, object] = json.load(source)
        except (FileNotFoundError, ValueError) as error:
            raise UploadNotFoundError("There is no such upload.", key=key) from error
        if key not in ("", facts["key"]):
            raise UploadNotFoundError("There is no such upload.", key=key)
        return facts

    def _part_path(self, key: str, upload_id: str, number: int) -> str:
        if not 1 <= number <= _LIMITS.max_parts:
            raise InvalidRequestError(f"Parts are numbered 1 to {_LIMITS.max_parts}.", key=key)
        self._facts(key, upload_id)
        return f"{self._folder(key, upload_id)}/{number:05d}"

    def _keep_part(self, number: int, path: str, fd: int, target: str) -> Part:
        draft = self._store.draft(path, fd)
        os.rename(path, target)
        return Part(number=number, etag=draft.version.etag, size_bytes=draft.version.size_bytes)

    def _append_part(self, key: str, upload_id: str, part: Part, target: int) -> None:
        try:
            source = os.open(self._part_path(key, upload_id, part.number), READ_FLAGS)
        except FileNotFoundError as error:
            self._facts(key, upload_id)  # the upload itself may be gone
            raise CorruptError(f"Part {part.number} was never uploaded.", key=key) from error
        try:
            stat = os.fstat(source)
            if etag_of(stat) != part.etag:
                raise CorruptError(f"Part {part.number} is another one.", key=key)
            append_range(source, 0, stat.st_size, target)
        finally:
            os.close(source)
