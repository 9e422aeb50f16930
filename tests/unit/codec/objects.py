"""Compressed objects made and read in memory."""

from __future__ import annotations

from objfs.codec.frames import FrameEncoder, decode_frames
from objfs.codec.table import SeekTable, parse_table


def compressed(content: bytes, *, size: int = 65536, level: int = 3) -> bytes:
    """An object of the seekable format with frames of `size` bytes."""
    encoder = FrameEncoder(level)
    made = [encoder.encode(content[start : start + size]) for start in range(0, len(content), size)]
    return b"".join(data for data, _ in made) + SeekTable(frame for _, frame in made).encode()


def content_of(data: bytes, *, content_bytes: int | None = None) -> bytes:
    """What an object holds."""
    table = parse_table(data, len(data), content_bytes)
    frames = range(len(table))
    low, high = table.stored_at(frames)
    return b"".join(piece for _, piece in decode_frames(data[low:high], table, frames))
