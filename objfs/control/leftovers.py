"""Caches of mounts that are gone, and whether changes wait in their journals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.config import read_records
from objfs.errors import MountError
from objfs_cache.directory import CacheDirectory, CacheError
from objfs_cache.journal import peek_journal

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.config import MountRecord
    from objfs_cache.journal import Record


def find_leftovers(cache_base: Path) -> list[MountRecord]:
    """The caches below a folder in whose journals something waits, the last mounted first."""
    return [record for record in read_records(cache_base) if peek(record.cache_path)]


def find_by_mountpoint(cache_base: Path, mountpoint: Path) -> MountRecord | None:
    """The cache that was last mounted there; one where something waits comes before others."""
    found = [record for record in read_records(cache_base) if record.mountpoint == mountpoint]
    waiting = (record for record in found if peek(record.cache_path))
    return next(waiting, found[0] if found else None)


def peek(cache_path: Path) -> list[Record]:
    """What waits in a cache folder's journal, in its order; nothing is changed, and nobody has to be gone.

    Raises:
        MountError: it cannot be read.
    """
    try:
        return peek_journal(CacheDirectory(path=cache_path).journal_path)
    except CacheError as error:
        raise MountError(str(error)) from error
