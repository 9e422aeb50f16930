"""Where a key lives in the folder.

| what | where |
|---|---|
| object `dir/a.txt` | the plain file `dir/a.txt` |
| marker `dir/` | the file `dir/.objfs-marker` |
| keys that are no path, or are in the way of one (`..`, `a//b`, `a` beside `a/b`, parts over 255 bytes) | `.objfs-store/odd/` |
| metadata and headers | `.objfs-store/meta/`, named by ETag, so that it is never that of another version |
| bodies being written, locks, multipart uploads | `.objfs-store/tmp`, `locks`, `uploads` |

ETags are (inode, size, mtime) of the file. Every write makes a new inode with a new time, and somebody's edit of
the plain file changes them too; its metadata then no longer applies.
"""  # noqa: E501  # a table row does not wrap

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_FOLDER = ".objfs-store"
MARKER_FILE = ".objfs-marker"
MAX_NAME_BYTES = 255  # NAME_MAX of Linux file systems
MAX_PATH_BYTES = 4095  # PATH_MAX of Linux, without the closing NUL
ODD_PIECE_CHARS = 200  # below NAME_MAX with the piece's leading letter
LOCKS = 64  # enough that writers of different keys seldom meet


class Layout:
    """Paths of one store's files; touches no disk."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.state = os.path.join(root, STATE_FOLDER)
        self.odd = os.path.join(self.state, "odd")
        self.meta = os.path.join(self.state, "meta")
        self.tmp = os.path.join(self.state, "tmp")
        self.locks = os.path.join(self.state, "locks")
        self.uploads = os.path.join(self.state, "uploads")

    def plain_path(self, key: str) -> str | None:
        """The path of a key that can be a plain file (or marker), or None."""
        *parents, name = key.split("/")
        names = [*parents, name or MARKER_FILE]
        if (name == "" and not parents) or names[0] == STATE_FOLDER or "\0" in key:
            return None
        if not all(map(_is_plain_name, parents)) or not (name == "" or _is_plain_name(name)):
            return None
        path = f"{self.root}/{'/'.join(names)}"
        return path if len(os.fsencode(path)) <= MAX_PATH_BYTES else None

    def odd_path(self, key: str) -> str:
        """The path of a key that cannot be a plain file: its quoted form cut into pieces."""
        quoted = quote(key, safe="")
        cuts = range(0, len(quoted), ODD_PIECE_CHARS)
        pieces = [quoted[cut : cut + ODD_PIECE_CHARS] for cut in cuts]
        return "/".join([self.odd, *("d" + piece for piece in pieces[:-1]), "f" + pieces[-1]])

    def odd_keys(self) -> Iterator[str]:
        """All keys below `odd/`, in no order."""
        for folder, _, names in os.walk(self.odd):
            pieces = folder[len(self.odd) :].split("/")[1:]
            start = "".join(piece[1:] for piece in pieces)
            for name in names:
                yield unquote(start + name[1:])

    def sidecar(self, etag: str) -> str:
        """The path of a version's metadata."""
        return f"{self.meta}/{crc32(etag.encode()) & 0xFF:02x}/{etag}"

    def lock(self, key: str) -> str:
        """The path of the lock that writers of a key share."""
        return f"{self.locks}/{crc32(key.encode()) % LOCKS:02x}"


def _is_plain_name(name: str) -> bool:
    return name not in ("", ".", "..", MARKER_FILE) and (
        len(name) * 4 <= MAX_NAME_BYTES or len(name.encode()) <= MAX_NAME_BYTES
    )


def etag_of(stat: os.stat_result) -> str:
    """The ETag of a file."""
    return f"{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"
