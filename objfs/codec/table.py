"""Seek tables of the Zstandard seekable format: read with every doubt, written.

A table is a skippable frame at the end of the object: magic, size; per frame the stored size, the content's
size and (flagged) a checksum, 32 bits each; the number of frames, a descriptor byte, the seekable magic. All
little-endian. (zstd: contrib/seekable_format/zstd_seekable_compression_format.md)
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from objfs.codec.values import FRAME_BYTES, MAX_FRAME_BYTES, MAX_FRAMES, Frame
from objfs.errors import CorruptError
from objfs.store.values import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable

SKIPPABLE_MAGIC = 0x184D2A5E
SEEKABLE_MAGIC = 0x8F92EAB1
CHECKSUM_FLAG = 0x80
RESERVED_BITS = 0x7C  # "must be 0"
_HEADER = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")
_PLAIN_ENTRY = struct.Struct("<II")
_CHECKED_ENTRY = struct.Struct("<III")
FOOTER_BYTES = _FOOTER.size
# What zstd may add to content that it cannot shrink, and frames of other writers besides.
STORED_SLACK_BYTES = 64 * KIB
TAIL_MIN_BYTES = 16 * KIB


class SeekTable:
    """Where each frame is, in the object and in the content."""

    __slots__ = ("_checksums", "_content", "_stored", "table_bytes")

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._stored = array("Q", [0])
        self._content = array("Q", [0])
        self._checksums: array[int] | None = array("L")
        for frame in frames:
            self._stored.append(self._stored[-1] + frame.stored_bytes)
            self._content.append(self._content[-1] + frame.content_bytes)
            if frame.checksum is None:
                self._checksums = None
            elif self._checksums is not None:
                self._checksums.append(frame.checksum)
        self.table_bytes = table_bytes(len(self), is_checked=self._checksums is not None)
        """Length of the table's own frame, in bytes."""

    def __len__(self) -> int:
        return len(self._stored) - 1

    @property
    def stored_bytes(self) -> int:
        """Length of all frames in the object, without the table."""
        return self._stored[-1]

    @property
    def content_bytes(self) -> int:
        """Length of the content."""
        return self._content[-1]

    @property
    def memory_bytes(self) -> int:
        """What the table takes in memory."""
        return 24 * len(self._stored)

    def frame(self, number: int) -> Frame:
        """One frame."""
        return Frame(
            stored_bytes=self._stored[number + 1] - self._stored[number],
            content_bytes=self._content[number + 1] - self._content[number],
            checksum=self._checksums[number] if self._checksums is not None else None,
        )

    def covering(self, start: int, stop: int) -> range:
        """The frames that [start, stop) of the content, not empty, touches."""
        return range(bisect_right(self._content, start) - 1, bisect_left(self._content, stop))

    def stored_at(self, frames: range) -> tuple[int, int]:
        """Where adjacent frames are in the object: [start, stop)."""
        return self._stored[frames.start], self._stored[frames.stop]

    def content_at(self, frames: range) -> tuple[int, int]:
        """Which part of the content adjacent frames hold: [start, stop)."""
        return self._content[frames.start], self._content[frames.stop]

    def encode(self) -> bytes:
        """The table as it stands at the end of an object."""
        descriptor = CHECKSUM_FLAG if self._checksums is not None else 0
        body = array("I")
        for number in range(len(self)):
            body.append(self._stored[number + 1] - self._stored[number])
            body.append(self._content[number + 1] - self._content[number])
            if self._checksums is not None:
                body.append(self._checksums[number])
        entries = struct.pack(f"<{len(body)}I", *body)
        header = _HEADER.pack(SKIPPABLE_MAGIC, len(entries) + FOOTER_BYTES)
        return header + entries + _FOOTER.pack(len(self), descriptor, SEEKABLE_MAGIC)


def table_bytes(frames: int, *, is_checked: bool) -> int:
    """Length of the table of so many frames."""
    return _HEADER.size + frames * (_CHECKED_ENTRY if is_checked else _PLAIN_ENTRY).size + FOOTER_BYTES


def tail_bytes(content_bytes: int) -> int:
    """How much of the end of an object is likely to hold the table."""
    frames = -(-content_bytes // FRAME_BYTES)
    return max(TAIL_MIN_BYTES, table_bytes(min(frames, MAX_FRAMES), is_checked=True))


def has_table(tail: bytes | memoryview) -> bool:
    """Whether an object that ends so claims to have a seek table."""
    return len(tail) >= FOOTER_BYTES and _FOOTER.unpack(tail[-FOOTER_BYTES:])[2] == SEEKABLE_MAGIC


def parse_footer(tail: bytes | memoryview, stored_bytes: int) -> int:
    """Length of the table, from the last bytes of an object of `stored_bytes`.

    Raises:
        CorruptError: there is no seek table, or it is out of bounds.
    """
    if len(tail) < FOOTER_BYTES:
        raise CorruptError("the object is too short for a seek table")
    count, descriptor, magic = _FOOTER.unpack(tail[-FOOTER_BYTES:])
    if magic != SEEKABLE_MAGIC:
        raise CorruptError("the object does not end in a seek table")
    if descriptor & RESERVED_BITS:
        raise CorruptError("the seek table is of an unknown kind")
    if count > MAX_FRAMES:
        raise CorruptError(f"the seek table has {count} frames, more than can be read")
    length = table_bytes(count, is_checked=bool(descriptor & CHECKSUM_FLAG))
    if length > stored_bytes:
        raise CorruptError("the seek table is longer than the object")
    return length


def parse_table(data: bytes | memoryview, stored_bytes: int, content_bytes: int | None = None) -> SeekTable:
    """The table that ends with an object.

    Args:
        data: the end of the object; at least as long as `parse_footer` said.
        stored_bytes: length of the object.
        content_bytes: length that the content must have, if it was promised.

    Raises:
        CorruptError: the table contradicts itself, the object or the promise, or its frames are too large.
    """
    length = parse_footer(data, stored_bytes)
    if length > len(data):
        raise CorruptError("the seek table is cut off")
    view = memoryview(data)[len(data) - length :]
    magic, size = _HEADER.unpack(view[: _HEADER.size])
    if magic != SKIPPABLE_MAGIC or size != length - _HEADER.size:
        raise CorruptError("the seek table contradicts its own size")
    is_checked = bool(view[-5] & CHECKSUM_FLAG)
    entry = _CHECKED_ENTRY if is_checked else _PLAIN_ENTRY
    table = SeekTable(
        _checked(Frame(stored_bytes=stored, content_bytes=content, checksum=rest[0] if rest else None))
        for stored, content, *rest in entry.iter_unpack(view[_HEADER.size : -FOOTER_BYTES])
    )
    if table.stored_bytes + length != stored_bytes:
        raise CorruptError("the seek table contradicts the object's length")
    if content_bytes not in (None, table.content_bytes):
        raise CorruptError(f"the object holds {table.content_bytes} bytes and promises {content_bytes}")
    return table


def _checked(frame: Frame) -> Frame:
    if frame.content_bytes > MAX_FRAME_BYTES:
        raise CorruptError(f"a frame of {frame.content_bytes} bytes is larger than can be read")
    if frame.stored_bytes > frame.content_bytes + frame.content_bytes // 128 + STORED_SLACK_BYTES:
        raise CorruptError("a frame is stored in more bytes than zstd could need")
    return frame
