"""Block files: one per block, written once, checked at each reading."""

from __future__ import annotations

import contextlib
import itertools
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUBDIRECTORIES = 256  # 200,000 blocks are 800 names per directory: small enough to list and to look up fast

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """Where a block lies and what it must be. `filename` is relative to the cache directory."""

    filename: str
    crc: int
    length: int


class BlockFiles:
    """The files of one cache directory. Thread-safe.

    Attributes:
        session: part of every name written here; so files of earlier sessions are known as such.
    """

    def __init__(self, directory: Path) -> None:
        self._root = str(directory)
        self._numbers = itertools.count()
        self.session = os.urandom(6).hex()

    def write(self, data: Buffer) -> StoredBlock:
        """Write one block to a new file. Raises OSError; leaves nothing behind then."""
        number = next(self._numbers)
        filename = f"{number % SUBDIRECTORIES:02x}/{self.session}-{number:x}"
        path = f"{self._root}/{filename}"
        fd = _create(path)
        try:
            _write_all(fd, data)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        return StoredBlock(filename, zlib.crc32(data), len(data))

    def read(self, block: StoredBlock) -> bytes | None:
        """The block's bytes, or None if they are not what was stored. Raises FileNotFoundError, OSError."""
        fd = os.open(f"{self._root}/{block.filename}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            data = os.read(fd, block.length + 1)
        finally:
            os.close(fd)
        return data if len(data) == block.length and zlib.crc32(data) == block.crc else None

    def remove(self, filename: str) -> None:
        """Remove a block's file, which may be gone already. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._root}/{filename}")

    def earlier(self) -> set[str]:
        """Names of all files of earlier sessions. They only grow fewer."""
        names: set[str] = set()
        for number in range(SUBDIRECTORIES):
            names.update(name for name in self._listed(f"{number:02x}") if self.session not in name)
        return names

    def _listed(self, subdirectory: str) -> Iterator[str]:
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(f"{self._root}/{subdirectory}") as entries,
        ):
            for entry in entries:
                yield f"{subdirectory}/{entry.name}"


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o700)
        return os.open(path, flags, 0o600)


def _write_all(fd: int, data: Buffer) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])
