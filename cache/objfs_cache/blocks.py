"""The block cache: clean blocks of objects on the local disk, checked, bounded, never in anybody's way."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import struct
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import diskcache

from objfs_cache.blocks_files import BlockFiles
from objfs_cache.blocks_format import empty, prepare, set_clean_mark, take_clean_mark
from objfs_cache.blocks_rows import BlockRows, block_key, block_tag, is_corrupt, is_helped_anew, is_sound
from objfs_cache.directory import CacheError, CacheFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from objfs_cache.blocks_files import Buffer, StoredBlock

__all__ = ["BlockCache", "BlockCacheStats", "CacheFormatError", "Verification", "open_block_cache"]

_GIVE_UP_STEP_BYTES = 256 * 1024 * 1024  # what is culled under one hold of the lock: some 30 ms
_SWEEP_ROWS = 5000  # rows read under one hold of the lock: some 5 ms

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCacheStats:
    """Counts since the cache was opened; `bytes` and `blocks` are what it holds now."""

    bytes: int
    limit_bytes: int
    blocks: int
    hits: int
    misses: int
    bad_blocks: int
    dropped_inserts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What `verify` found: blocks read, and how many of them were bad and dropped."""

    checked_blocks: int
    bad_blocks: int
    checked_bytes: int = 0


class BlockCache:
    """Blocks by (object id, index). Every method blocks and may be called from any thread.

    Failures of disk or database cost hits, not errors: a get is a miss, a put is dropped. Object ids are
    opaque; each must name one immutable content.
    """

    def __init__(self, directory: Path, *, limit_bytes: int, floor_fraction: float) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._floor_fraction = floor_fraction
        self._lock = threading.Lock()  # guards the rows; never held for reading or writing blocks
        self._counts_lock = threading.Lock()
        self._hits = self._misses = self._bad_blocks = self._dropped_inserts = 0
        self._is_closed = False
        self._left_orphans = False
        self._pinned: frozenset[bytes] = frozenset()
        self._files = BlockFiles(directory)
        self._rows = _open_rows(directory, limit_bytes)

    def get(self, object_id: str, index: int) -> bytes | None:
        """The block, verified, or None."""
        return self.get_many(object_id, (index,))[0]

    def get_many(self, object_id: str, indexes: Sequence[int]) -> list[bytes | None]:
        """Several blocks, each verified, None where missing: one call for a run of blocks."""
        keys = [block_key(object_id, index) for index in indexes]
        nothing: list[StoredBlock | None] = [None] * len(keys)
        found = self._locked(lambda rows: rows.find_many(keys), nothing)
        blocks = [
            None if block is None else self._read(key, block) for key, block in zip(keys, found, strict=True)
        ]
        hits = sum(block is not None for block in blocks)
        with self._counts_lock:
            self._hits += hits
            self._misses += len(blocks) - hits
        return blocks

    def may_hold(self, object_id: str) -> bool:
        """False if the cache surely holds no block of an object. Never waits (10 us): for event loops too."""
        if not self._lock.acquire(blocking=False):
            return True
        try:
            return not self._is_closed and self._rows.has_tag(block_tag(object_id))
        except sqlite3.Error:
            return True
        finally:
            self._lock.release()

    def put_many(self, object_id: str, blocks: Sequence[tuple[int, Buffer]]) -> bool:
        """Store blocks in one transaction; False if they were dropped for want of room or by an error."""
        return self.put_batch([(object_id, index, data) for index, data in blocks])

    def put_batch(self, blocks: Sequence[tuple[str, int, Buffer]]) -> bool:
        """Store blocks (object id, index, bytes) of several objects, like `put_many`."""
        stored: list[tuple[bytes, bytes, StoredBlock]] = []
        is_done = False
        try:
            if self._make_room(sum(len(data) for _, _, data in blocks)):
                for object_id, index, data in blocks:
                    stored.append(
                        (block_tag(object_id), block_key(object_id, index), self._files.write(data))
                    )
                is_done = self._locked(lambda rows: self._insert(rows, stored), False)
        except OSError as error:
            _LOG.debug("blocks not cached: %s", error)
        if not is_done:
            self._remove(block.filename for _, _, block in stored)
            with self._counts_lock:
                self._dropped_inserts += len(blocks)
        return is_done

    def drop(self, object_id: str) -> None:
        """Remove every block of an object."""
        self._locked(lambda rows: rows.delete_tagged(block_tag(object_id)), 0)

    def held(self, object_id: str) -> dict[int, int]:
        """Blocks of an object that are here, unread: index -> bytes."""
        nothing: list[tuple[bytes, int]] = []
        tag = block_tag(object_id)
        found = self._locked(lambda rows: rows.sizes(tag), nothing)
        return {int(key[len(tag) + 1 :]): size for key, size in found}

    def touch(self, object_id: str) -> None:
        """Make an object's blocks the newest, so that they are the last to be given up."""
        self._locked(lambda rows: rows.touch(block_tag(object_id), time.time()), None)

    def pin(self, object_ids: Iterable[str], *, keep_others: bool) -> None:
        """Never give up blocks of these objects, those here and those to come; survives restarts.

        Args:
            object_ids: what is pinned from now on.
            keep_others: what was pinned so far stays so.
        """
        tags = frozenset(block_tag(one) for one in object_ids)

        def change(rows: BlockRows) -> None:
            before = rows.pinned_tags()
            if not keep_others:
                for tag in before - tags:
                    rows.unpin(tag)
            for tag in tags - self._pinned:
                rows.pin(tag)
            self._pinned = tags | (before | self._pinned if keep_others else frozenset())

        self._locked(change, None)

    def is_pinned(self, object_id: str) -> bool:
        """Whether blocks of an object are never given up."""
        return block_tag(object_id) in self._pinned

    def pinned_bytes(self) -> int:
        """Bytes of all pinned blocks."""
        return self._locked(BlockRows.pinned_bytes, 0)

    @property
    def limit_bytes(self) -> int:
        """Most bytes of blocks and database together."""
        return self._limit_bytes

    def set_limit(self, limit_bytes: int) -> None:
        """Change the size; what is too much goes, pinned blocks excepted."""
        self._limit_bytes = limit_bytes
        excess = self._locked(BlockRows.volume_bytes, 0) - limit_bytes
        if excess > 0:
            self.give_up(excess)

    def give_up(self, count_bytes: int) -> int:
        """Free about `count_bytes` of disk, oldest blocks first; returns the bytes really freed."""
        freed = 0
        while freed < count_bytes:
            step_bytes = min(count_bytes - freed, _GIVE_UP_STEP_BYTES)
            gone = self._locked(partial(BlockRows.cull, count_bytes=step_bytes), 0)
            if gone <= 0:
                break
            freed += gone
        return freed

    def clear(self) -> None:
        """Remove every block."""
        self._locked(BlockRows.clear, 0)

    def verify(self, on_step: Callable[[Verification], None] | None = None) -> Verification:
        """Read every block, dropping bad ones. Takes as long as the disk needs to read all of them.

        Args:
            on_step: told how far it is after each block; what it raises ends the verification.
        """
        checked = bad = count_bytes = 0
        no_keys: list[bytes] = []
        keys = self._locked(BlockRows.keys, no_keys)
        for key in keys:
            block = self._locked(partial(BlockRows.find, key=key), None)
            if block is not None:
                checked += 1
                count_bytes += block.length
                bad += self._read(key, block) is None
            if on_step is not None:
                on_step(Verification(checked_blocks=checked, bad_blocks=bad, checked_bytes=count_bytes))
        return Verification(checked_blocks=checked, bad_blocks=bad, checked_bytes=count_bytes)

    def stats(self) -> BlockCacheStats:
        """A snapshot of size and counts."""
        volume_bytes, blocks = self._locked(BlockRows.size, (0, 0))
        with self._counts_lock:
            return BlockCacheStats(
                bytes=volume_bytes,
                limit_bytes=self._limit_bytes,
                blocks=blocks,
                hits=self._hits,
                misses=self._misses,
                bad_blocks=self._bad_blocks,
                dropped_inserts=self._dropped_inserts,
            )

    def sweep(self, stop: threading.Event) -> None:
        """Remove files without rows and rows without files, which an earlier, killed owner left."""
        rows = self._rows
        if not is_sound(self._directory):
            self._begin_anew(rows)
            return
        orphans = self._files.earlier()
        files = frozenset(orphans)
        last = 0
        no_page: list[tuple[int, bytes, str]] = []
        while not stop.is_set():
            page = self._locked(partial(BlockRows.filenames_after, rowid=last, limit=_SWEEP_ROWS), no_page)
            if not page:
                self._remove(orphans)
                return
            last = page[-1][0]
            for _, key, name in page:
                orphans.discard(name)
                if name not in files and self._files.session not in name:
                    self._locked(partial(BlockRows.delete, key=key), False)
        self._left_orphans = True

    def close(self) -> None:
        """Close the database; later calls are misses and drops."""
        with self._lock:
            self._is_closed = True
            self._rows.close()
        if not self._left_orphans:
            set_clean_mark(self._directory)

    def _locked(self, action: Callable[[BlockRows], _T], otherwise: _T) -> _T:
        """Run `action` on the rows under the lock, then remove the files it doomed."""
        result, broken = otherwise, False
        with self._lock:
            rows = self._rows
            if self._is_closed:
                return otherwise
            try:
                result = action(rows)
            except diskcache.Timeout:
                _LOG.debug("block cache is busy")
            except (sqlite3.Error, struct.error) as error:
                broken = not isinstance(error, sqlite3.Error) or is_corrupt(error)
                _LOG.debug("block cache: %s", error)
            doomed = rows.take_doomed()
        self._remove(doomed)
        if broken:
            self._begin_anew(rows)
        return result

    def _read(self, key: bytes, block: StoredBlock) -> bytes | None:
        """The verified bytes; a bad block is dropped."""
        is_missing = False
        try:
            data = self._files.read(block)
        except FileNotFoundError:
            data, is_missing = None, True  # culled a moment ago, or lost with power
        except OSError:
            data = None
        if data is None:
            self._locked(lambda rows: rows.delete(key), False)
            with self._counts_lock:
                self._bad_blocks += not is_missing
        return data

    def _make_room(self, count_bytes: int) -> bool:
        """Cull until `count_bytes` more fit under the limit and above the floor of free disk."""
        if count_bytes > self._limit_bytes // 2:
            return False
        excess = self._locked(BlockRows.volume_bytes, 0) + count_bytes - self._limit_bytes
        if excess > 0 and self.give_up(excess) < excess:
            return False  # the rest is pinned
        lack = self._lack_bytes(count_bytes)
        if lack > 0:
            self.give_up(lack)
            lack = self._lack_bytes(count_bytes)
        return lack <= 0

    def _insert(self, rows: BlockRows, stored: Sequence[tuple[bytes, bytes, StoredBlock]]) -> bool:
        rows.insert(stored)
        for tag in {tag for tag, _, _ in stored} & self._pinned:
            rows.pin(tag)
        return True

    def _lack_bytes(self, count_bytes: int) -> int:
        disk = os.statvfs(self._directory)
        floor_bytes = int(disk.f_blocks * disk.f_frsize * self._floor_fraction)
        return floor_bytes + count_bytes - disk.f_bavail * disk.f_frsize

    def _begin_anew(self, broken: BlockRows) -> None:
        """Empty the cache after its database was found corrupt, unless another thread already has."""
        with self._lock:
            if self._is_closed or self._rows is not broken:
                return
            _LOG.info("block cache in %s is corrupt: begun anew", self._directory)
            broken.close()
            self._left_orphans = True  # a put under way may still write a file nobody will know
            empty(self._directory)
            try:
                self._rows = _open_rows(self._directory, self._limit_bytes)
            except (CacheError, OSError) as error:
                _LOG.debug("block cache is off: %s", error)
                self._is_closed = True

    def _remove(self, filenames: Iterable[str]) -> None:
        for filename in filenames:
            try:
                self._files.remove(filename)
            except OSError as error:
                self._left_orphans = True
                _LOG.debug("block file stays behind: %s", error)


@contextlib.contextmanager
def open_block_cache(
    directory: Path, *, limit_bytes: int, floor_fraction: float = 0.05
) -> Iterator[BlockCache]:
    """Open the block cache in `directory`, its own, making it if need be.

    After an unclean end a thread looks for orphaned files; it ends with the block.

    Args:
        directory: nothing else may live there; mode becomes 0700.
        limit_bytes: most bytes of blocks and database together.
        floor_fraction: part of the file system that is kept free: below it inserts are dropped.

    Raises:
        CacheFormatError: a newer format, or not a block cache.
        CacheError: its database cannot be opened now, or not at all.
        OSError: the directory cannot be used.
    """
    prepare(directory)
    is_unclean = not take_clean_mark(directory)
    cache = BlockCache(directory, limit_bytes=limit_bytes, floor_fraction=floor_fraction)
    stop = threading.Event()
    sweeper = threading.Thread(target=cache.sweep, args=(stop,), name="objfs-cache-sweep")
    if is_unclean:
        sweeper.start()
    try:
        yield cache
    finally:
        stop.set()
        if is_unclean:
            sweeper.join()
        cache.close()


def _open_rows(directory: Path, limit_bytes: int) -> BlockRows:
    """Open the database, beginning anew with an empty cache if that helps."""
    try:
        return BlockRows(directory, limit_bytes)
    except (sqlite3.Error, diskcache.Timeout, ValueError, TypeError) as error:
        if isinstance(error, (sqlite3.Error, diskcache.Timeout)) and not is_helped_anew(error):
            raise CacheError(f"The block cache in {directory} cannot be opened: {error}.") from error
        _LOG.info("block cache in %s cannot be read: begun anew", directory)
    empty(directory)
    try:
        return BlockRows(directory, limit_bytes)
    except (sqlite3.Error, diskcache.Timeout) as error:
        raise CacheError(f"No block cache can be kept in {directory}: {error}.") from error
