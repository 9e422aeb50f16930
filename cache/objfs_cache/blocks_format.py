"""What makes a directory a block cache: its format file, its mode, nothing foreign in it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from objfs_cache.blocks_files import SUBDIRECTORIES
from objfs_cache.blocks_rows import DATABASE_NAMES
from objfs_cache.directory import CacheFormatError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION = 1
_FORMAT_WORD = "objfs-blocks"
_FORMAT_NAME = "FORMAT"
_CLEAN_NAME = "CLEAN"  # written by an orderly end: there are no orphans to look for at the next start

_CONTENT_NAMES = DATABASE_NAMES | {f"{number:02x}" for number in range(SUBDIRECTORIES)}
_OWN_NAMES = _CONTENT_NAMES | {_FORMAT_NAME, f"{_FORMAT_NAME}.tmp", _CLEAN_NAME}


def prepare(directory: Path) -> None:
    """Make the directory a block cache: mode 0700, with a format file. Raises CacheFormatError, OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise PermissionError(f"{directory} belongs to somebody else")
        if not has_format(directory):
            foreign = set(os.listdir(fd)) - _OWN_NAMES
            if foreign:
                raise CacheFormatError(f"{directory} is no block cache: it holds {min(foreign)!r}")
            empty(directory)
            set_clean_mark(directory)
            _write_format(directory, fd)
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def set_clean_mark(directory: Path) -> None:
    """Tell the next start that nothing was left behind."""
    (directory / _CLEAN_NAME).touch(mode=0o600)


def take_clean_mark(directory: Path) -> bool:
    """Whether the last end was an orderly one; from now on it was not."""
    try:
        (directory / _CLEAN_NAME).unlink()
    except FileNotFoundError:
        return False
    return True


def empty(directory: Path) -> None:
    """Remove database and blocks; only names of our own making."""
    for name in _CONTENT_NAMES:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def has_format(directory: Path) -> bool:
    """Whether there is a format file of ours; an older format counts as none, the cache begins anew.

    Raises:
        CacheFormatError: it is a newer one, or nothing of ours.
    """
    try:
        text = (directory / _FORMAT_NAME).read_text("ascii", errors="replace")
    except FileNotFoundError:
        return False
    word, _, number = text.strip().partition(" ")
    if word != _FORMAT_WORD or not (number.isascii() and number.isdigit()):
        raise CacheFormatError(f"{directory} is no block cache: its {_FORMAT_NAME} file is not ours")
    if int(number) > FORMAT_VERSION:
        raise CacheFormatError(
            f"{directory} was written by a newer objfs (format {number}, this one knows {FORMAT_VERSION})"
        )
    return int(number) == FORMAT_VERSION


def _write_format(directory: Path, directory_fd: int) -> None:
    temporary = directory / f"{_FORMAT_NAME}.tmp"
    with temporary.open("w", encoding="ascii") as file:
        file.write(f"{_FORMAT_WORD} {FORMAT_VERSION}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(directory / _FORMAT_NAME)
    os.fsync(directory_fd)
