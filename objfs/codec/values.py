"""Frozen values of compression, and the names by which objects tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from objfs.store.values import KIB, MIB

ENCODING = "zstd"  # Content-Encoding (RFC 8878)
SIZE_METADATA = "objfs-size"  # length of the content, decimal
SHA256_METADATA = "objfs-sha256"  # of the content, hexadecimal

# Measured for 128 / 256 / 512 / 1024 KiB at level 3 on program text: 4.6x / 4.75x / 4.9x / 5.3x smaller; a
# read of 4 KiB decodes one frame: 0.2 / 0.25 / 0.5 / 0.8 ms. A multiple of the reader's block.
FRAME_BYTES = 512 * KIB
MAX_FRAMES = 2**18  # tables of at most 3 MiB; frames of larger objects grow instead
MAX_FRAME_BYTES = 64 * MIB  # content of one frame that is taken into memory; ours have this at 16 TiB
# Objects that are one frame, as `zstd FILE` makes them, are read whole: most bytes of content, and stored.
LONE_FRAME_BYTES = 8 * MIB
LONE_STORED_BYTES = MIB
DEFAULT_LEVEL = 3  # as zstd(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One independent frame: its lengths in bytes, and the low half of its content's XXH64 if it is known."""

    stored_bytes: int
    content_bytes: int
    checksum: int | None = None


def frame_bytes(length: int) -> int:
    """Content of one frame of an object of so many bytes: a power of two, so that blocks never straddle."""
    size = FRAME_BYTES
    while size < MAX_FRAME_BYTES and length > size * (MAX_FRAMES // 2):
        size *= 2
    return size
