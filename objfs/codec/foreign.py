"""Compressed objects of other writers, shown as if they told the length of their content themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.codec.frames import lone_frame
from objfs.codec.marks import content_version
from objfs.codec.table import TAIL_MIN_BYTES, parse_footer, parse_table
from objfs.codec.values import ENCODING, LONE_STORED_BYTES, SIZE_METADATA
from objfs.errors import CorruptError, PermissionDeniedError, PreconditionFailedError
from objfs.store.forward import ForwardingStore
from objfs.store.values import ByteRange

if TYPE_CHECKING:
    from objfs.store.values import ListPage, ObjectInfo


class DecodedStore(ForwardingStore):
    """Adds `objfs-size` to what HEAD tells of `Content-Encoding: zstd`, if the content can be read.

    It can if the object ends in a seek table, or is one small frame that tells its size. It costs one or two
    requests more per such object, and the reading of such a frame.
    """

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        info = super().head(key)
        if not _is_foreign(info):
            return info
        try:
            length = self._content_bytes(info)
        except PreconditionFailedError:  # replaced meanwhile
            return self.head(key)
        except PermissionDeniedError:  # archived, for instance
            length = None
        if length is None:
            return info
        return replace(info, metadata={**(info.metadata or {}), SIZE_METADATA: str(length)})

    def list(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page: str | None = None,
        max_keys: int = 1000,
        with_metadata: bool = False,
    ) -> ListPage:
        """See `ObjectStore`; metadata of such objects are left to HEAD."""
        found = super().list(
            prefix,
            delimiter=delimiter,
            start_after=start_after,
            page=page,
            max_keys=max_keys,
            with_metadata=with_metadata,
        )
        if not any(_is_foreign(info) for info in found.objects):
            return found
        objects = (replace(info, metadata=None) if _is_foreign(info) else info for info in found.objects)
        return replace(found, objects=tuple(objects))

    def _content_bytes(self, info: ObjectInfo) -> int | None:
        """Length of the content, or None if it can't be told or read."""
        stored = info.version.size_bytes
        if not stored:
            return None
        tail = self._get(info, max(0, stored - TAIL_MIN_BYTES), stored)
        try:
            length = parse_footer(tail, stored)
            if length > len(tail):
                tail = self._get(info, stored - length, stored)
            return parse_table(tail, stored).content_bytes
        except CorruptError:
            frame = lone_frame(self._get(info, 0, stored)) if stored <= LONE_STORED_BYTES else None
            return frame.content_bytes if frame is not None else None

    def _get(self, info: ObjectInfo, start: int, stop: int) -> bytes:
        byte_range = ByteRange(start=start, stop=stop)
        return self.get(info.key, byte_range=byte_range, if_match=info.version.etag).data


def _is_foreign(info: ObjectInfo) -> bool:
    is_encoded = info.content_encoding == ENCODING and info.metadata is not None
    return is_encoded and content_version(info).decoded_bytes is None
