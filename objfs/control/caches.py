"""The cache folders of this user: how large they are, and emptying them of clean data."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.config import read_records
from objfs.control.leftovers import peek
from objfs.control.pins import read_pins
from objfs.errors import MountError
from objfs_cache.directory import CacheBusyError, CacheDirectory, CacheError, open_cache_directory

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK_BYTES = 512  # unit of st_blocks (stat(2))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFacts:
    """One cache folder. Sizes are of disk space; `waiting` counts changes that are not uploaded.

    Attributes:
        pins: paths below the mount's root that are kept in it; "" is all.
    """

    path: Path
    url: str
    mountpoint: Path
    clean_bytes: int
    staged_bytes: int
    waiting: int
    in_use: bool
    pins: tuple[str, ...] = ()


def find_caches(cache_base: Path) -> list[CacheFacts]:
    """All cache folders below a base, the last mounted first."""
    found = []
    for record in read_records(cache_base):
        directory = CacheDirectory(path=record.cache_path)
        found.append(
            CacheFacts(
                path=record.cache_path,
                url=record.url,
                mountpoint=record.mountpoint,
                clean_bytes=sum(map(_used_bytes, _clean_folders(directory))),
                staged_bytes=_used_bytes(directory.staging_path),
                waiting=len(peek(record.cache_path)),
                in_use=_is_in_use(record.cache_path),
                pins=tuple(read_pins(record.cache_path)),
            )
        )
    return found


def clear_clean_data(cache_path: Path) -> int:
    """Delete a cache's clean data, which the store has too; returns how many bytes that gave.

    Raises:
        MountError: a mount uses it.
    """
    try:
        with open_cache_directory(cache_path) as directory:
            folders = [folder for folder in _clean_folders(directory) if folder.exists()]
            freed_bytes = sum(map(_used_bytes, folders))
            for folder in folders:
                shutil.rmtree(folder)
            return freed_bytes
    except CacheError as error:
        raise MountError(str(error)) from error


def _clean_folders(directory: CacheDirectory) -> tuple[Path, ...]:
    return directory.blocks_path, directory.metadata_path


def _is_in_use(cache_path: Path) -> bool:
    try:
        with open_cache_directory(cache_path):
            return False
    except CacheBusyError:
        return True
    except CacheError as error:
        raise MountError(str(error)) from error


def _used_bytes(folder: Path) -> int:
    total = 0
    for place, _folders, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * _BLOCK_BYTES
            except FileNotFoundError:  # a mount at work
                continue
    return total
