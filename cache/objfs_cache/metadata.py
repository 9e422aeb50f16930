"""The metadata cache: what was last known of each directory, for starts without the store. Clean data only.

Keys and bodies are opaque. A row is what the store had when it was written, but for what the journal tells:
so whoever removes a row of the journal, whose change may be in the store, forgets first what it changed here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from objfs_cache.directory import fsync_directory, replace_durably
from objfs_cache.journal import boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)
_T = TypeVar("_T")

LIMIT_BYTES = 128 * 1024 * 1024  # about three million names
CULL_FRACTION = 10  # one of so many rows goes when there is no room, the oldest first
_FORMAT = 1
_NOTE = "boot"  # the boot of the machine in which it was last open
_CLOSED = "-"  # there: it was closed in order
_DATABASE = "metadata.db"
_FILES = (_DATABASE, f"{_DATABASE}-wal", f"{_DATABASE}-shm", f"{_DATABASE}-journal")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS directory (
    key TEXT PRIMARY KEY,
    written INTEGER NOT NULL,
    whole INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS directory_written ON directory (written);
"""
_WRITE = """
INSERT INTO directory VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE
SET written = excluded.written, whole = excluded.whole, body = excluded.body WHERE excluded.whole >= whole
"""
_FORGET = "DELETE FROM directory WHERE key = ?1"
_FORGET_BELOW = (
    "DELETE FROM directory WHERE key >= ?1 AND key < substr(?1, 1, length(?1) - 1) || '0'"  # after "/"
)
_CULL = "DELETE FROM directory WHERE key IN (SELECT key FROM directory ORDER BY written LIMIT ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRow:
    """What is known of a directory; `whole`: all its names are. A part never takes the place of a whole."""

    key: str
    body: bytes
    whole: bool


class MetadataCache:
    """Rows by key. Failures of disk or database empty it: then nothing is known.

    `write` is for one thread, beside that of the other methods, which take some 20 us each.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()  # held for one row at a time
        self._connection: sqlite3.Connection | None = None
        self._written = 0
        self._forgotten: list[tuple[str, bool]] = []  # since `begin`
        self._is_stale = False  # what is on the disk, and could not be removed
        self._open()

    def has(self, key: str) -> bool:
        """Whether anything is known of a directory."""
        return bool(self._execute("SELECT 1 FROM directory WHERE key = ?", key))

    def read(self, key: str) -> MetadataRow | None:
        """What is known of a directory."""
        for body, whole in self._execute("SELECT body, whole FROM directory WHERE key = ?", key):
            return MetadataRow(key=key, body=bytes(body), whole=bool(whole))
        return None

    def begin(self) -> None:
        """What is to be written next is as known from now on: what is forgotten meanwhile is not written."""
        with self._lock:
            self._forgotten.clear()
            if self._connection is None:
                self._open()

    def write(self, rows: Sequence[MetadataRow]) -> None:
        """Keep rows as known at the last `begin`."""
        for row in rows:
            self._locked(partial(self._write, row))
        self._locked(self._make_room)

    def forget(self, key: str, *, below: bool = False) -> None:
        """Forget a directory, and with `below` all whose keys begin with its key, which ends with a slash."""
        with self._lock:
            self._forgotten.append((key, below))
        self._execute(_FORGET_BELOW if below else _FORGET, key)

    def close(self) -> None:
        """Close the database, so that what is known is believed after another start of the machine, too."""
        is_open = self._connection is not None
        self._close()
        if is_open:
            with contextlib.suppress(OSError):
                _sync(self._folder / _DATABASE)
                _note(self._folder, _CLOSED)

    def _write(self, row: MetadataRow, connection: sqlite3.Connection) -> None:
        if not any(row.key.startswith(key) if below else row.key == key for key, below in self._forgotten):
            self._written += 1
            connection.execute(_WRITE, (row.key, self._written, row.whole, row.body))

    def _make_room(self, connection: sqlite3.Connection) -> None:
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * page_bytes > self._limit_bytes:
            (count,) = connection.execute("SELECT count(*) FROM directory").fetchone()
            connection.execute(_CULL, (count // CULL_FRACTION + 1,))

    def _execute(self, sql: str, *values: object) -> list[tuple[bytes, int]]:
        return self._locked(lambda connection: connection.execute(sql, values).fetchall()) or []

    def _locked(self, use: Callable[[sqlite3.Connection], _T]) -> _T | None:
        with self._lock:
            try:
                return None if self._connection is None else use(self._connection)
            except sqlite3.Error as error:
                self._give_up(error)
                return None

    def _open(self) -> None:
        try:
            if self._is_stale:
                _empty(self._folder)
                self._is_stale = False
            _believe_or_empty(self._folder)
            self._connection = _connect(self._folder)
            (last,) = self._connection.execute("SELECT max(written) FROM directory").fetchone()
            self._written = last or 0
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Forget everything, and begin anew when there is something to be written."""
        log.warning("what was known of directories is forgotten: %s", error)
        self._close()
        try:
            _empty(self._folder)
        except OSError:
            self._is_stale = True

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def open_metadata_cache(folder: Path) -> Iterator[MetadataCache]:
    """The metadata cache in `folder`, which is emptied if the machine went down while it was in use."""
    with contextlib.closing(MetadataCache(folder)) as cache:
        yield cache


def _believe_or_empty(folder: Path) -> None:
    """Rows are not synced: after a power loss, those that were forgotten may be there again."""
    folder.mkdir(mode=0o700, exist_ok=True)
    boot, note = boot_id(), folder / _NOTE
    if not note.exists() or note.read_bytes().strip() not in (boot.encode(), _CLOSED.encode()):
        _empty(folder)
    _note(folder, boot)


def _note(folder: Path, text: str) -> None:
    replace_durably(folder / _NOTE, f"{text}\n".encode())


def _sync(database: Path) -> None:
    with database.open("rb") as file:
        os.fsync(file.fileno())
    fsync_directory(database.parent)


def _empty(folder: Path) -> None:
    for name in (_NOTE, *_FILES):  # without the note, nothing else is believed
        (folder / name).unlink(missing_ok=True)


def _connect(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / _DATABASE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        if connection.execute("PRAGMA user_version").fetchone()[0] not in (0, _FORMAT):
            connection.executescript("DROP TABLE IF EXISTS directory")  # of another version: clean data
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
    except BaseException:
        connection.close()
        raise
    return connection
