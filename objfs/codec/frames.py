"""Frames of the Zstandard seekable format: encoded, and decoded within declared bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard

from objfs.codec.values import LONE_FRAME_BYTES, MAX_FRAME_BYTES, Frame
from objfs.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.codec.table import SeekTable

Buffer = bytes | bytearray | memoryview

CHECKSUM_BYTES = 4  # at the end of a frame: the low half of the content's XXH64 (RFC 8878, 3.1.1)
# A frame without a content size may ask for a window of its own; more would be taken before any check.
MAX_WINDOW_BYTES = MAX_FRAME_BYTES
_BLOCK_HEADER_BYTES = 3  # RFC 8878, 3.1.1.2
_RLE_BLOCK = 1  # a block of one byte, repeated


class FrameEncoder:
    """Makes frames of one level. Not thread-safe; the work itself lets other threads run."""

    def __init__(self, level: int) -> None:
        self._compressor = zstandard.ZstdCompressor(
            level=level, write_checksum=True, write_content_size=True, write_dict_id=False
        )

    def encode(self, content: Buffer) -> tuple[bytes, Frame]:
        """One frame, and its entry of the seek table."""
        data = self._compressor.compress(content)
        return data, Frame(stored_bytes=len(data), content_bytes=len(content), checksum=frame_checksum(data))


def frame_checksum(data: Buffer) -> int:
    """The checksum at the end of a frame that has one."""
    return int.from_bytes(data[-CHECKSUM_BYTES:], "little")


def lone_frame(data: Buffer) -> Frame | None:
    """The one frame that a small object is, if it is one and tells its size (RFC 8878, 3.1.1)."""
    try:
        told = zstandard.get_frame_parameters(data)
        at = zstandard.frame_header_size(data)
    except zstandard.ZstdError:
        return None
    if told.dict_id or not 0 < told.content_size <= LONE_FRAME_BYTES:  # unknown is greater
        return None
    is_last = False
    while not is_last and at + _BLOCK_HEADER_BYTES <= len(data):
        header = int.from_bytes(data[at : at + _BLOCK_HEADER_BYTES], "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        at += _BLOCK_HEADER_BYTES + (1 if kind == _RLE_BLOCK else size)
    at += CHECKSUM_BYTES if told.has_checksum else 0
    if not is_last or at != len(data):
        return None
    return Frame(stored_bytes=len(data), content_bytes=told.content_size)


def decode_frames(data: Buffer, table: SeekTable, frames: range) -> Iterator[tuple[int, bytes]]:
    """The contents of adjacent frames: (offset in the content, bytes) for each that is not empty.

    Each frame is checked against the table before memory is taken for its content, which is at most
    `MAX_FRAME_BYTES` at a time.

    Raises:
        CorruptError: a frame is not what the table says, or damaged.
    """
    start, stop = table.stored_at(frames)
    if len(data) != stop - start:
        raise CorruptError(f"{len(data)} bytes of frames instead of {stop - start}")
    view = memoryview(data)
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    for number in frames:
        frame = table.frame(number)
        piece, view = view[: frame.stored_bytes], view[frame.stored_bytes :]
        if frame.content_bytes:
            yield table.content_at(range(number, number + 1))[0], _decode(decompressor, piece, frame)


def _decode(decompressor: zstandard.ZstdDecompressor, piece: memoryview, frame: Frame) -> bytes:
    try:
        header = zstandard.get_frame_parameters(piece)
        if header.content_size not in (frame.content_bytes, zstandard.CONTENTSIZE_UNKNOWN):
            raise CorruptError("a frame and the seek table disagree about its size")
        if header.dict_id:
            raise CorruptError("a frame needs a dictionary")
        if header.has_checksum and frame.checksum not in (None, frame_checksum(piece)):
            raise CorruptError("a frame and the seek table disagree about its checksum")
        content = decompressor.decompress(piece, max_output_size=frame.content_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"a frame cannot be decoded: {error}") from error
    if len(content) != frame.content_bytes:
        raise CorruptError(f"a frame holds {len(content)} bytes instead of {frame.content_bytes}")
    return content
