"""Compressed objects of other writers, shown as if they told the length of their content themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.codec.frames import HEADER_BYTES, single_frame
from objfs.codec.marks import content_version
from objfs.codec.table import TAIL_MIN_BYTES, parse_footer, parse_table
from objfs.codec.values import ENCODING, SIZE_METADATA
from objfs.errors import CorruptError
from objfs.store.forward import ForwardingStore
from objfs.store.values import ByteRange

if TYPE_CHECKING:
    from objfs.store.values import ListPage, ObjectInfo


class DecodedStore(ForwardingStore):
    """Adds `objfs-size` to what HEAD tells of `Content-Encoding: zstd`, if the content can be read.

    It can if the object ends in a seek table, or is one frame of a size that is small enough. It costs one
    or two requests more per such object.
    """

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        info = super().head(key)
        if not _is_foreign(info):
            return info
        length = self._content_bytes(info)
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
        if stored < HEADER_BYTES:
            return None
        tail = self._get(info, max(0, stored - TAIL_MIN_BYTES), stored)
        try:
            length = parse_footer(tail, stored)
            if length > len(tail):
                tail = self._get(info, stored - length, stored)
            return parse_table(tail, stored).content_bytes
        except CorruptError:
            frame = single_frame(self._get(info, 0, HEADER_BYTES), stored)
            return frame.content_bytes if frame is not None else None

    def _get(self, info: ObjectInfo, start: int, stop: int) -> bytes:
        byte_range = ByteRange(start=start, stop=stop)
        return self.get(info.key, byte_range=byte_range, if_match=info.version.etag).data


def _is_foreign(info: ObjectInfo) -> bool:
    is_encoded = info.content_encoding == ENCODING and info.metadata is not None
    return is_encoded and content_version(info).decoded_bytes is None
