"""The journal: an ordered list of changes that the store has not got yet, in SQLite.

A change is acknowledged once its row is committed. Commits use synchronous=NORMAL, which survives the death
of the process; `sync` makes all committed rows durable against power loss. Kinds, keys, bases and options
are opaque text here. FORMAT.md describes the table and its crash states.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from objfs_cache.directory import CacheError, CacheFormatError, connect_to_read, fsync_directory
from objfs_cache.staged import StagedContent, StagedState

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION = 2
BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")  # changes with every boot (random(4))

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    path TEXT NOT NULL,
    source TEXT NOT NULL,
    details TEXT NOT NULL,
    body BLOB,
    staged_id INTEGER,
    staged_length INTEGER NOT NULL DEFAULT 0,
    base_limit INTEGER NOT NULL DEFAULT 0,
    extents TEXT NOT NULL DEFAULT '[]',
    fsynced INTEGER NOT NULL DEFAULT 0,
    durable TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS note (number INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

BUSY_S = 5.0  # how long a rewrite of the log waits for whoever reads it
_TORN = -1  # in the column `fsynced`: the bytes were not durable when the machine went down
_REVERTED = 2  # there: durable, but newer bytes were not when the machine went down

_WRITE = "INSERT OR REPLACE INTO operation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row: a change in the order in which it was acknowledged.

    Attributes:
        seq: place in the order, from 1.
        details: opaque JSON text of the writer.
        body: small content kept in the row itself (symlink targets), or None.
        staged: the staged file holding the content, or None.
    """

    seq: int
    kind: str
    path: str
    source: str
    details: str
    body: bytes | None = None
    staged: StagedState | None = None


class JournalError(CacheError, OSError):
    """The journal cannot be read or written; the change at hand is not acknowledged.

    As an OSError it is ENOSPC when the disk is full, else EIO.
    """

    def __init__(self, message: str, number: int = errno.EIO) -> None:
        super().__init__(message)
        self.errno = number


class Journal:
    """Rows of pending changes. Used from one thread, but for `sync` and `is_durable`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, wal: int, *, rebooted: bool) -> None:
        self._connection = connection
        self._path = path
        self._wal = wal
        self._is_unsafe = False
        self._depth = 0
        self._lock = threading.Lock()  # one `sync` at a time
        self._changes = self._committed_changes = self._synced_changes = 0
        row = connection.execute("SELECT max(seq) FROM operation").fetchone()
        self._last_seq = int(row[0] or 0)
        self.rebooted = rebooted
        """Whether the machine was started anew since the journal was last open."""

    def next_seq(self) -> int:
        """The next place in the order; each is given out once."""
        self._last_seq += 1
        return self._last_seq

    def load(self) -> list[Record]:
        """All rows in order."""
        return [_record(row) for row in self._execute("SELECT * FROM operation ORDER BY seq")]

    def write(self, record: Record) -> None:
        """Add a row, or replace the one of the same seq.

        Raises:
            JournalError: it cannot be written, or nobody would ever find it again.
        """
        if os.fstat(self._wal).st_nlink == 0:
            raise JournalError("The journal was deleted while it was in use; no change can be kept.")
        self._execute(_WRITE, *_values(record))

    def remove(self, seq: int) -> None:
        """Forget a row: its change is in the store, or was taken back."""
        self._execute("DELETE FROM operation WHERE seq = ?", seq)

    def add_note(self, text: str) -> int:
        """Keep an opaque text beside the rows, until it is removed; returns its number."""
        return int(str(self._execute("INSERT INTO note (text) VALUES (?) RETURNING number", text)[0][0]))

    def change_note(self, number: int, text: str) -> None:
        """Replace the text of a note."""
        self._execute("UPDATE note SET text = ? WHERE number = ?", text, number)

    def remove_note(self, number: int) -> None:
        """Forget a note."""
        self._execute("DELETE FROM note WHERE number = ?", number)

    def notes(self) -> dict[int, str]:
        """All notes by number."""
        return {int(str(number)): str(text) for number, text in self._execute("SELECT * FROM note")}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes in the block, or none of them. Blocks may nest; the outermost commits."""
        if self._depth:
            yield
            return
        self._execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise
        finally:
            self._depth -= 1

    @property
    def is_durable(self) -> bool:
        """Whether every committed row is."""
        return self._synced_changes == self._changes

    @property
    def position(self) -> int:
        """Number of changes so far, those of an open transaction too; see `is_durable_to`."""
        return self._changes

    def is_durable_to(self, position: int) -> bool:
        """Whether all rows changed up to a position are."""
        return self._synced_changes >= position

    def sync(self, position: int | None = None) -> None:
        """Make all committed rows durable, or those up to a position. Blocks; any thread.

        Raises:
            JournalError: they may not be.
        """
        with self._lock:  # whoever waited here finds its rows durable
            if self.is_durable if position is None else self.is_durable_to(position):
                return
            changes = self._committed_changes
            try:
                (self._rewrite if self._is_unsafe else self._sync)()
            except (OSError, sqlite3.Error) as error:
                self._is_unsafe = True
                raise JournalError(f"The journal cannot be made durable: {error}.") from error
            self._is_unsafe = False
            self._synced_changes = changes

    def _sync(self) -> None:
        os.fdatasync(self._wal)

    def _rewrite(self) -> None:
        """Have the rows of the log written, and synced, where they belong in the database.

        Linux tells once that writing the log back failed, and counts its pages as clean from then on: another
        sync of it would succeed without them.
        """
        with closing(sqlite3.connect(self._path, timeout=BUSY_S)) as connection:
            is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise OSError(errno.EBUSY, "its log is in use")
        self._sync()  # of a log that came back in part, older rows would be taken for newer ones

    def _execute(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        try:
            rows = self._connection.execute(sql, values).fetchall()
            self._changes += not sql.startswith("SELECT")
            if not self._connection.in_transaction:
                self._committed_changes = self._changes
            return rows
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
            number = errno.ENOSPC if full else errno.EIO
            raise JournalError(f"The journal cannot be written: {error}.", number) from error


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open or make the journal at `path`.

    Raises:
        CacheFormatError: a newer objfs wrote it.
        JournalError: it cannot be read; it is left as it is.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be opened: {error}.") from error
    try:
        rebooted = _prepare(connection, path)
        wal = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            # What an earlier process committed may be in memory only. It counts from here on: files that no
            # row refers to are deleted, and their numbers are used again.
            os.fdatasync(wal)
            fsync_directory(path.parent)
            yield Journal(connection, path, wal, rebooted=rebooted)
        finally:
            os.close(wal)
    finally:
        connection.close()


def peek_journal(path: Path) -> list[Record]:
    """All rows in order, without a change to anything, also while another process uses the journal.

    Raises:
        CacheFormatError: a newer objfs wrote it.
        JournalError: it cannot be read.
    """
    if not path.exists():
        return []
    try:
        with closing(connect_to_read(path)) as connection:
            _check_version(connection, path)
            last = connection.execute("SELECT value FROM meta WHERE name = 'boot_id'").fetchone()
            rows = connection.execute("SELECT * FROM operation ORDER BY seq").fetchall()
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be read: {error}.") from error
    rebooted = last is not None and last[0] != boot_id()
    return [_after_power_loss(_record(row)) if rebooted else _record(row) for row in rows]


def peek_notes(path: Path) -> list[str]:
    """The texts of all notes, without a change to anything; see `peek_journal`."""
    if not path.exists():
        return []
    try:
        with closing(connect_to_read(path)) as connection:
            _check_version(connection, path)
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'note'").fetchone():
                return []  # of an older version
            return [str(row[0]) for row in connection.execute("SELECT text FROM note ORDER BY number")]
    except sqlite3.Error as error:
        raise JournalError(f"The journal {path} cannot be read: {error}.") from error


def boot_id() -> str:
    """What tells this boot of the machine from all others."""
    return BOOT_ID_PATH.read_text().strip()


def _after_power_loss(record: Record) -> Record:
    if record.staged is None:
        return record
    return replace(record, staged=record.staged.after_power_loss())


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > SCHEMA_VERSION:
        raise CacheFormatError(
            f"The journal {path} has format {found}, this objfs knows {SCHEMA_VERSION}; "
            "use the newer objfs that wrote it."
        )


def _prepare(connection: sqlite3.Connection, path: Path) -> bool:
    try:
        _check_version(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
        _upgrade(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return _note_boot(connection)
    except sqlite3.Error as error:
        raise JournalError(
            f"The journal {path} cannot be read ({error}); it was left as it is, "
            "choose another cache with --cache-dir."
        ) from error


def _upgrade(connection: sqlite3.Connection) -> None:
    """Format 1 did not tell what of changed bytes had been durable before."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(operation)")}
    if "durable" not in columns:
        connection.execute("ALTER TABLE operation ADD COLUMN durable TEXT")


def _note_boot(connection: sqlite3.Connection) -> bool:
    """Whether this is another boot; rows then tell of what was durable, and of what is torn, for good."""
    boot = boot_id()
    connection.execute("BEGIN IMMEDIATE")
    before = connection.execute("SELECT value FROM meta WHERE name = 'boot_id'").fetchone()
    rebooted = before is not None and before[0] != boot
    if rebooted:
        rows = connection.execute("SELECT * FROM operation WHERE staged_id IS NOT NULL AND fsynced = 0")
        for row in rows.fetchall():
            connection.execute(_WRITE, _values(_after_power_loss(_record(row))))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot,))
    connection.execute("COMMIT")
    return rebooted


def _values(record: Record) -> tuple[object, ...]:
    staged = record.staged
    return (
        record.seq,
        record.kind,
        record.path,
        record.source,
        record.details,
        record.body,
        staged.file_id if staged else None,
        staged.length if staged else 0,
        staged.base_limit if staged else 0,
        json.dumps(staged.extents) if staged else "[]",
        _fsynced(staged) if staged else 0,
        _durable_json(staged.durable) if staged else None,
    )


def _fsynced(staged: StagedState) -> int:
    if staged.torn:
        return _TORN
    return _REVERTED if staged.reverted else int(staged.fsynced)


def _durable_json(content: StagedContent | None) -> str | None:
    return json.dumps([content.length, content.base_limit, content.extents]) if content is not None else None


def _durable(text: object) -> StagedContent | None:
    if text is None:
        return None
    length, base_limit, extents = json.loads(str(text))
    return StagedContent(length=int(length), base_limit=int(base_limit), extents=_ranges(extents))


def _ranges(value: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((int(start), int(stop)) for start, stop in value)


def _record(row: tuple[object, ...]) -> Record:
    seq, kind, path, source, details, body, staged_id, length, base_limit, extents, fsynced, *more = row
    staged = None
    if isinstance(staged_id, int):
        staged = StagedState(
            file_id=staged_id,
            length=int(str(length)),
            base_limit=int(str(base_limit)),
            extents=_ranges(json.loads(str(extents))),
            fsynced=fsynced in (1, _REVERTED),
            torn=fsynced == _TORN,
            reverted=fsynced == _REVERTED,
            durable=_durable(more[0]) if more else None,
        )
    return Record(
        seq=int(str(seq)),
        kind=str(kind),
        path=str(path),
        source=str(source),
        details=str(details),
        body=body if isinstance(body, bytes) else None,
        staged=staged,
    )
