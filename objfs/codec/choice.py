"""Whether a file is worth compressing: by its name and type, and by trying pieces of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.store.values import KIB

if TYPE_CHECKING:
    from objfs.config.rules import Compression

SAMPLE_BYTES = 64 * KIB  # enough for zstd to show what it can
MAX_SAMPLES = 8

# Packed already. Formats that are compressed only sometimes (pdf, sqlite, tar) are tried.
_PACKED = """
    7z aac apk arrow avif br bz2 cab crx deb docx flac gif gz heic heif ipa jar jpeg jpg jxl lz lz4 lzma lzo
    m4a m4v mkv mov mp3 mp4 mpeg mpg odp ods odt ogg opus pack parquet png pptx rar rpm snap sz tbz2 tgz txz
    webm webp whl wma wmv xlsx xz zip zst zstd
"""
PACKED_SUFFIXES = frozenset(_PACKED.split())
PACKED_TYPES = ("audio/", "video/", "image/jpeg", "image/png", "image/gif", "image/webp", "image/avif")
UNPACKED_TYPES = frozenset({"audio/x-wav", "audio/wav", "audio/basic", "audio/x-aiff"})


def may_shrink(name: str, content_type: str | None) -> bool:
    """Whether neither name nor type says that the content is packed already."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind.startswith(PACKED_TYPES) and kind not in UNPACKED_TYPES:
        return False
    return name.rpartition(".")[2].lower() not in PACKED_SUFFIXES or "." not in name


def sample_offsets(length: int) -> list[int]:
    """Where to take samples of `SAMPLE_BYTES` of a file of so many bytes: the first bytes, then evenly."""
    count = min(MAX_SAMPLES, max(1, length // (4 * SAMPLE_BYTES)))
    step = (length - SAMPLE_BYTES) // max(1, count - 1)
    return [max(0, number * step) for number in range(count)]


def saves_enough(compression: Compression, content_bytes: int, stored_bytes: int) -> bool:
    """Whether compression saves what it has to."""
    return stored_bytes <= content_bytes * (1 - compression.least_saving)
