"""Compressed objects in a store: their seek tables, and the frames that a range of the content needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.codec.frames import lone_frame
from objfs.codec.table import SeekTable, has_table, parse_footer, parse_table, tail_bytes
from objfs.codec.values import LONE_STORED_BYTES
from objfs.errors import CorruptError, StaleVersionError
from objfs.store.values import ByteRange, Version

if TYPE_CHECKING:
    from objfs.store.protocol import AsyncObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """A seek table, with the end of the object that it was read from.

    Attributes:
        start: offset of `data` in the object.
    """

    table: SeekTable
    start: int
    data: bytes

    def has(self, start: int, stop: int) -> bool:
        """Whether these bytes of the object came along."""
        return self.start <= start and stop <= self.start + len(self.data)

    def cut(self, start: int, stop: int) -> memoryview:
        """Bytes of the object that came along."""
        return memoryview(self.data)[start - self.start : stop - self.start]


async def fetch_tail(store: AsyncObjectStore, key: str, version: Version, *, whole_bytes: int = 0) -> Tail:
    """The seek table of one version: one GET of the object's end, a second one if that was guessed too short.

    Args:
        store: asked for exactly this version.
        key: of the object.
        version: its `decoded_bytes` is what the table must add up to.
        whole_bytes: objects up to this size are fetched whole.

    Raises:
        CorruptError: the object has no table that can be believed.
        PreconditionFailedError, NotFoundError, StaleVersionError: the version is gone.
    """
    stored = version.size_bytes
    guess = stored if stored <= whole_bytes else min(stored, tail_bytes(version.content_bytes))
    data = await fetch_stored(store, key, version, stored - guess, stored)
    try:
        if not has_table(data):
            return await _lone_frame(store, key, version)
        length = parse_footer(data, stored)
        if length > guess:
            data = await fetch_stored(store, key, version, stored - length, stored - guess) + data
        table = parse_table(data, stored, version.decoded_bytes)
    except CorruptError as error:
        raise CorruptError(f"{key}: {error}", key=key) from error
    return Tail(table=table, start=stored - len(data), data=data)


async def _lone_frame(store: AsyncObjectStore, key: str, version: Version) -> Tail:
    """A table for an object that is one frame, and small."""
    stored = version.size_bytes
    data = await fetch_stored(store, key, version, 0, stored) if stored <= LONE_STORED_BYTES else b""
    frame = lone_frame(data)
    if frame is None or frame.content_bytes != version.decoded_bytes:
        raise CorruptError("the object does not end in a seek table")
    return Tail(table=SeekTable([frame]), start=0, data=data)


async def fetch_stored(store: AsyncObjectStore, key: str, version: Version, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of an object as stored, of exactly this version.

    Raises:
        CorruptError: the answer has another length.
        PreconditionFailedError, NotFoundError, StaleVersionError: the version is gone.
    """
    if start >= stop:
        return b""
    blob = await store.get(key, byte_range=ByteRange(start=start, stop=stop), if_match=version.etag or None)
    # Not every store honours If-Match on GET, and not every proxy a range.
    if blob.info.version != version:
        raise StaleVersionError(f"{key} was replaced")
    if len(blob.data) != stop - start:
        raise CorruptError(f"{key}: {len(blob.data)} bytes instead of {stop - start} at {start}", key=key)
    return blob.data
