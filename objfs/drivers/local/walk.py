"""Keys of the folder in the order of a listing."""

from __future__ import annotations

import heapq
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from objfs.drivers.local.layout import MARKER_FILE, STATE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.drivers.local.layout import Layout


def sorted_keys(layout: Layout, prefix: str, start: str, *, fold: bool) -> Iterator[str]:
    """Keys below `prefix` from about `start` on; with `fold`, a folder that has objects is one key `dir/`."""
    folder_key = prefix[: prefix.rfind("/") + 1]
    odd = sorted(layout.odd_keys())
    plain: Iterator[str] = iter(())
    if folder_key == "" or layout.plain_path(folder_key) is not None:
        walk = _Walk(prefix, start, fold=fold)
        plain = walk.below(f"{layout.root}/{folder_key}", folder_key)
    return heapq.merge(plain, odd) if odd else plain


class _Walk:
    def __init__(self, prefix: str, start: str, *, fold: bool) -> None:
        self._prefix = prefix
        self._start = start
        self._fold = fold

    def below(self, path: str, folder_key: str) -> Iterator[str]:
        """Keys of a folder, `path` and `folder_key` both ending in `/` (or the key being "")."""
        for key in sorted(filter(self._is_wanted, _entries(path, folder_key))):
            if key == folder_key or not key.endswith("/"):
                yield key
            elif not self._fold:
                yield from self.below(path + key[len(folder_key) :], key)
            elif has_object(path + key[len(folder_key) :]):
                yield key

    def _is_wanted(self, key: str) -> bool:
        if not key.startswith(self._prefix):
            return key.endswith("/") and self._prefix.startswith(key)
        return key >= self._start or self._start.startswith(key)


def _entries(path: str, folder_key: str) -> Iterator[str]:
    """Keys of a folder's files, and `name/` for its folders; links, devices, names not in UTF-8 are none."""
    try:
        entries = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            name = entry.name
            if not name.isascii() and not _is_unicode(name):
                continue
            if entry.is_file(follow_symlinks=False):
                if name != MARKER_FILE:
                    yield folder_key + name
                elif folder_key:
                    yield folder_key
            elif entry.is_dir(follow_symlinks=False) and (folder_key or name != STATE_FOLDER):
                yield f"{folder_key}{name}/"


def has_object(path: str) -> bool:
    """Whether there is any file in a folder or below."""
    folders: list[str] = []
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                return True
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
    return any(map(has_object, folders))


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
