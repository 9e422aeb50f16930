"""The block cache's rows in diskcache: which block lies in which file, with its checksum and length."""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diskcache
from diskcache.core import DBNAME, MODE_BINARY

from objfs_cache.blocks_files import StoredBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

DATABASE_NAMES = frozenset({DBNAME, f"{DBNAME}-wal", f"{DBNAME}-shm", f"{DBNAME}-journal"})

PINNED_S = (
    1e11  # added to the time of a pinned row (year 5138): no column more, and last in the order of time
)
_CULL_ROWS = 100  # rows removed by one statement: some 1 ms

_SEAL = struct.Struct("<IQ")  # CRC32 of the block, its length in bytes

_SETTINGS: dict[str, int | str] = {
    "eviction_policy": "least-recently-stored",  # a read writes nothing: 20 us instead of 80 us with LRU
    "tag_index": 1,
    "statistics": 0,
    "cull_limit": 0,  # culling is done once per batch, not once per row
    "sqlite_auto_vacuum": 0,  # the database is small beside the blocks: freed pages are used again
    "sqlite_journal_mode": "wal",
    "sqlite_synchronous": 0,  # clean data under checksums: power loss may empty the cache, never spoil it
}
_PRAGMAS = ("PRAGMA journal_mode = wal", "PRAGMA synchronous = 0", "PRAGMA mmap_size = 67108864")

# Primary result codes that tell of the file's content (sqlite.org/rescode.html); ERROR: a table is missing.
# Full, busy and I/O errors tell nothing of it: they cost the operation, not the cache.
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
# On a full disk, or with a bad sector in it, nothing else could be opened: clean data makes way for changes.
_HELPED_CODES = _CORRUPT_CODES | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


class _RowsOnly(diskcache.Disk):  # type: ignore[misc]  # diskcache ships no types
    """Never pickles, never touches a file: those are written before and removed after a transaction."""

    def __init__(self, directory: str, **kwargs: int) -> None:
        super().__init__(directory, **kwargs)
        self.doomed: list[str] = []

    def put(  # pyright: ignore[reportIncompatibleMethodOverride]  # inferred from untyped code
        self, key: bytes
    ) -> tuple[memoryview, bool]:
        return memoryview(key), True

    def get(self, key: bytes, raw: bool) -> bytes:
        return bytes(key)

    def store(  # pyright: ignore[reportIncompatibleMethodOverride]  # inferred from untyped code
        self, value: StoredBlock, read: bool, key: object = None
    ) -> tuple[int, int, str, bytes]:
        return value.length, MODE_BINARY, value.filename, _SEAL.pack(value.crc, value.length)

    def fetch(self, mode: int, filename: str, value: bytes, read: bool) -> StoredBlock:
        return unpack_block(filename, value)

    def remove(self, file_path: str) -> None:
        self.doomed.append(file_path)


class _OneConnection(diskcache.Cache):  # type: ignore[misc]  # diskcache ships no types
    """diskcache has a connection per thread, which only that thread can close; this has one for all."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._shared: sqlite3.Connection | None = None
        try:
            super().__init__(str(directory), timeout=10, disk=_RowsOnly, size_limit=limit_bytes, **_SETTINGS)
        except BaseException:
            self.close()
            raise

    @property
    def _con(self) -> sqlite3.Connection:
        if self._shared is None:
            path = Path(str(self._directory)) / DBNAME
            self._shared = sqlite3.connect(
                path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            for pragma in _PRAGMAS:
                self._shared.execute(pragma)
        return self._shared

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
            self._shared = None


class BlockRows:
    """Rows of blocks by key, with a tag each. Not thread-safe: the owner's lock guards it.

    Every method may raise sqlite3.Error or diskcache.Timeout. Files of rows that go are left to the caller,
    see `take_doomed`.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self._cache: Any = _OneConnection(directory, limit_bytes)
        try:
            self.find(b"")
        except BaseException:
            self._cache.close()
            raise

    def find(self, key: bytes) -> StoredBlock | None:
        """The block of a key."""
        block: StoredBlock | None = self._cache.get(key)
        return block

    def find_many(self, keys: Sequence[bytes]) -> list[StoredBlock | None]:
        """The blocks of several keys."""
        return [self.find(key) for key in keys]

    def has_tag(self, tag: bytes) -> bool:
        """Whether there is any row of a tag."""
        connection: sqlite3.Connection = self._cache._con
        return connection.execute("SELECT 1 FROM Cache WHERE tag = ? LIMIT 1", (tag,)).fetchone() is not None

    def insert(self, blocks: Sequence[tuple[bytes, bytes, StoredBlock]]) -> bool:
        """Add or replace rows (tag, key, block) in one transaction; True."""
        with self._cache.transact():
            for tag, key, block in blocks:
                self._cache.set(key, block, tag=tag)
        return True

    def delete(self, key: bytes) -> bool:
        """Remove one row; whether there was one."""
        return bool(self._cache.delete(key))

    def delete_tagged(self, tag: bytes) -> int:
        """Remove all rows of a tag; how many there were."""
        return int(self._cache.evict(tag))

    def clear(self) -> int:
        """Remove all rows; how many there were."""
        return int(self._cache.clear())

    def cull(self, count_bytes: int) -> int:
        """Remove the oldest rows holding about `count_bytes`, pinned ones never; returns what they held."""
        connection: sqlite3.Connection = self._cache._con
        query = "SELECT rowid, size, filename FROM Cache WHERE store_time < ? ORDER BY store_time LIMIT ?"
        freed = 0
        doomed: list[str] = []
        with self._cache.transact():
            while freed < count_bytes:
                rows = connection.execute(query, (PINNED_S, _CULL_ROWS)).fetchall()
                taken = _take_until(rows, count_bytes - freed)
                if not taken:
                    break
                marks = ", ".join("?" * len(taken))
                statement = f"DELETE FROM Cache WHERE rowid IN ({marks})"  # noqa: S608  # question marks only
                connection.execute(statement, [row[0] for row in taken])
                freed += sum(row[1] for row in taken)
                doomed += [row[2] for row in taken]
        self._cache.disk.doomed.extend(doomed)
        return freed

    def pin(self, tag: bytes) -> None:
        """Keep the rows of a tag, as they are now, out of culling."""
        self._execute(
            "UPDATE Cache SET store_time = store_time + ? WHERE tag = ? AND store_time < ?",
            (PINNED_S, tag, PINNED_S),
        )

    def pinned_tags(self) -> set[bytes]:
        """Tags of all pinned rows."""
        rows = self._execute("SELECT DISTINCT tag FROM Cache WHERE store_time >= ?", (PINNED_S,))
        return {bytes(row[0]) for row in rows}

    def unpin(self, tag: bytes) -> None:
        """Give the rows of a tag up to culling again."""
        self._execute(
            "UPDATE Cache SET store_time = store_time - ? WHERE tag = ? AND store_time >= ?",
            (PINNED_S, tag, PINNED_S),
        )

    def pinned_bytes(self) -> int:
        """Bytes of all pinned rows."""
        rows = self._execute("SELECT coalesce(sum(size), 0) FROM Cache WHERE store_time >= ?", (PINNED_S,))
        return int(rows[0][0])

    def touch(self, tag: bytes, now_s: float) -> None:
        """Make the rows of a tag the newest."""
        self._execute(
            "UPDATE Cache SET store_time = ? WHERE tag = ? AND store_time < ?", (now_s, tag, PINNED_S)
        )

    def sizes(self, tag: bytes) -> list[tuple[bytes, int]]:
        """Key and bytes of all rows of a tag."""
        rows = self._execute("SELECT key, size FROM Cache WHERE tag = ?", (tag,))
        return [(bytes(row[0]), int(row[1])) for row in rows]

    def _execute(self, statement: str, values: tuple[object, ...]) -> list[Any]:
        connection: sqlite3.Connection = self._cache._con
        return connection.execute(statement, values).fetchall()

    def volume_bytes(self) -> int:
        """Bytes of all blocks and of the database."""
        return int(self._cache.volume())

    def size(self) -> tuple[int, int]:
        """Bytes of all blocks and of the database, and the number of blocks."""
        return self.volume_bytes(), len(self._cache)

    def keys(self) -> list[bytes]:
        """All keys, the oldest row first."""
        return list(self._cache)

    def filenames_after(self, rowid: int, limit: int) -> list[tuple[int, bytes, str]]:
        """Up to `limit` rows (rowid, key, filename) above `rowid`, in order."""
        query = "SELECT rowid, key, filename FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT ?"
        connection: sqlite3.Connection = self._cache._con
        return [(row[0], bytes(row[1]), row[2]) for row in connection.execute(query, (rowid, limit))]

    def take_doomed(self) -> list[str]:
        """Files whose rows are gone since the last call; the caller removes them."""
        disk: _RowsOnly = self._cache.disk
        doomed, disk.doomed = disk.doomed, []
        return doomed

    def close(self) -> None:
        """Close the database. Idempotent."""
        self._cache.close()


def _take_until(rows: Sequence[Any], need_bytes: int) -> list[Any]:
    """The first rows (rowid, size, filename) that hold `need_bytes`, or all."""
    taken: list[Any] = []
    for row in rows:
        if need_bytes <= 0:
            break
        taken.append(row)
        need_bytes -= row[1]
    return taken


def block_tag(object_id: str) -> bytes:
    """The tag of all rows of an object."""
    return object_id.encode("utf-8", "surrogatepass")


def block_key(object_id: str, index: int) -> bytes:
    """The key of one row."""
    return b"%s:%d" % (block_tag(object_id), index)


def unpack_block(filename: str, value: bytes) -> StoredBlock:
    """A block as its row tells of it. Raises struct.error."""
    crc, length = _SEAL.unpack(value)
    return StoredBlock(filename, crc, length)


def is_sound(directory: Path) -> bool:
    """Whether SQLite finds the database's structure in order. Has a connection of its own: delays nobody."""
    with contextlib.closing(sqlite3.connect(directory / DBNAME, timeout=10)) as connection:
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        except sqlite3.DatabaseError as error:
            return not is_corrupt(error)


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is no database of ours."""
    return _primary_code(error) in _CORRUPT_CODES


def is_helped_anew(error: Exception) -> bool:
    """Whether a database that could not be opened could be if it were empty."""
    return _primary_code(error) in _HELPED_CODES


def _primary_code(error: Exception) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
