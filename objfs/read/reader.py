"""The reader: memory, disk cache, store, in this order; one fetch per block however many wait for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from objfs.read.fetcher import Fetcher
from objfs.read.memory import DISK, MEMORY, STORE
from objfs.read.values import ReaderStats, Source
from objfs.read.window import ReadStream
from objfs.store.values import KIB, MIB, Version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from objfs.read.memory import Buffer, Chunk
    from objfs.read.values import DiskBlocks
    from objfs.store.protocol import AsyncObjectStore

# Measured for 128 / 256 / 512 / 1024 KiB, the best of three. Cold sequential reading: the same (GETs are
# larger than blocks). Sequential from the disk cache: 1.0 / 1.1 / 1.5 / 1.3. Random 4 KiB from the disk
# cache: 300 / 320 / 400 / 490 us. Reckoned, from a store 5 ms away at 100 MB/s: 6 / 7.5 / 10 / 15 ms.
BLOCK_BYTES = 256 * KIB
READ_AHEAD_BYTES = 32 * MIB
MAX_FETCHES = 16


class Reader:
    """Reads of pinned versions. Made by `open_reader`."""

    def __init__(self, fetcher: Fetcher, *, read_ahead_bytes: int) -> None:
        self._fetcher = fetcher
        self._read_ahead_bytes = read_ahead_bytes
        self._block_bytes = fetcher.block_bytes
        self._max_piece_bytes = fetcher.max_run_blocks * fetcher.block_bytes
        self._reads = self._read_bytes = self._memory_hits = 0

    @property
    def block_bytes(self) -> int:
        """Size of a block; reads aligned to it are the cheapest."""
        return self._block_bytes

    def new_stream(self) -> ReadStream:
        """The read-ahead state of one handle."""
        return ReadStream(
            read_ahead_bytes=self._read_ahead_bytes,
            max_part_bytes=self._max_piece_bytes,
        )

    async def read(self, source: Source, offset: int, length: int, stream: ReadStream) -> bytes:
        """Bytes [offset, offset + length) of the pinned version, fewer only at the object's end.

        Raises:
            StaleVersionError: the object was replaced or removed, and these bytes were nowhere kept.
            ObjectStoreError: the bytes cannot be had now; the next read tries anew.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        stop = min(offset + length, source.version.content_bytes)
        if offset >= stop:
            return b""
        step = self._max_piece_bytes
        pieces = [
            await self._read_piece(source, low, min(low + step, stop), stream)
            for low in range(offset, stop, step)
        ]
        self._reads += 1
        self._read_bytes += stop - offset
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def insert(self, object_id: str, version: Version, offset: int, data: bytes) -> None:
        """Seed whole blocks that are known without a fetch (just uploaded), as far as there is room."""
        self._fetcher.insert(object_id, version, offset, data)

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for the store now."""
        return self._fetcher.slots.running > 0

    async def fetch_apart(self, source: Source, first: int, stop: int) -> bytes:
        """The bytes of blocks [first, stop) from the store, past memory; for filling the disk cache.

        Raises:
            StaleVersionError: the object was replaced or removed.
            ObjectStoreError: the bytes cannot be had now.
        """
        return await self._fetcher.fetch_apart(source, first, stop)

    def forget(self, object_id: str) -> None:
        """Drop an object's blocks from memory."""
        self._fetcher.memory.forget(object_id)

    def held_bytes(self, object_id: str) -> int:
        """Bytes of an object that are in memory."""
        return self._fetcher.memory.held_bytes(object_id)

    def stats(self) -> ReaderStats:
        """A snapshot of sizes and counts."""
        fetcher, counts = self._fetcher, self._fetcher.counts
        return ReaderStats(
            memory_bytes=fetcher.budget.used_bytes,
            memory_limit_bytes=fetcher.budget.limit_bytes,
            peak_bytes=fetcher.budget.peak_bytes,
            running_fetches=fetcher.slots.running,
            reads=self._reads,
            read_bytes=self._read_bytes,
            memory_hits=self._memory_hits,
            memory_read_bytes=fetcher.memory.served_bytes[MEMORY],
            disk_read_bytes=fetcher.memory.served_bytes[DISK],
            store_read_bytes=fetcher.memory.served_bytes[STORE],
            disk_blocks=counts.disk_blocks,
            requests=counts.requests,
            fetched_bytes=counts.fetched_bytes,
            failed_fetches=counts.failed_fetches,
            dropped_prefetches=counts.dropped_prefetches,
            dropped_inserts=0 if fetcher.saver is None else fetcher.saver.dropped_blocks,
        )

    async def _read_piece(self, source: Source, offset: int, stop: int, stream: ReadStream) -> bytes:
        first, demand_stop = offset // self._block_bytes, self._fetcher.stop_block(stop)
        is_missing = not self._fetcher.are_known(source.object_id, first, demand_stop)
        plan = stream.observe(offset, stop - offset, source.version.content_bytes, is_missing=is_missing)
        if plan.is_joined:
            demand_stop = self._fetcher.stop_block(plan.stop)
        if is_missing:
            self._fetcher.fetch_missing(source, first, demand_stop)
        if plan.start < plan.stop and not plan.is_joined:
            part_blocks = max(1, plan.part_bytes // self._block_bytes)
            stream.fetched_ahead(self._fetcher.fetch_ahead(source, plan.start, plan.stop, part_blocks))
        return await self._collect(source, offset, stop)

    async def _collect(self, source: Source, offset: int, stop: int) -> bytes:
        pieces: list[Buffer] = []
        waited = False
        position = offset
        while position < stop:
            chunk = self._fetcher.memory.find(source.object_id, position // self._block_bytes)
            if chunk is None:
                waited = True
                pieces = [b"".join(pieces)]  # no view of a buffer is held while waiting: it may be evicted
                pieces.append(await self._wait(source, position, stop))
            else:
                pieces.append(self._cut(chunk, position, stop))
            position += len(pieces[-1])
        self._memory_hits += not waited
        if len(pieces) == 1:
            return bytes(pieces[0])
        return b"".join(pieces)

    async def _wait(self, source: Source, position: int, stop: int) -> bytes:
        """Wait until the block at `position` has arrived, and copy what its chunk has of the read."""
        block = position // self._block_bytes
        while True:
            fetch = self._fetcher.on_its_way(source.object_id, block)
            if fetch is None:
                self._fetcher.fetch_missing(source, block, block + 1)
                continue
            with self._fetcher.waiting(fetch):
                await fetch.done.wait()
                chunk = self._fetcher.memory.find(source.object_id, block)
                if chunk is not None:
                    return bytes(self._cut(chunk, position, stop))
                # What was asked for where the object was before it was moved tells nothing of where it is.
                if fetch.error is not None and fetch.source == source:
                    raise fetch.error.with_traceback(None)

    def _cut(self, chunk: Chunk, position: int, stop: int) -> Buffer:
        piece = chunk.cut(position, stop)
        self._fetcher.memory.touch(chunk, len(piece))
        return piece


@contextlib.asynccontextmanager
async def open_reader(
    store: AsyncObjectStore,
    cache: DiskBlocks | None,
    *,
    memory_limit_bytes: int,
    read_ahead_bytes: int = READ_AHEAD_BYTES,
    max_fetches: int = MAX_FETCHES,
    block_bytes: int = BLOCK_BYTES,
) -> AsyncIterator[Reader]:
    """Run a reader: its fetches live in this block and end with it.

    Args:
        store: retries and deadlines are its wrappers' business.
        cache: the disk cache; it must outlive the block. None: memory only.
        memory_limit_bytes: all buffers together, fetches under way included; at least four blocks.
        read_ahead_bytes: the largest window of one sequential run (at most half the memory).
        max_fetches: GETs at once.
        block_bytes: unit of fetching and caching; a power of two, so that a change is noticed by the lengths.
    """
    async with trio.open_nursery() as nursery:
        fetcher = Fetcher(
            store,
            cache,
            nursery,
            memory_limit_bytes=memory_limit_bytes,
            max_fetches=max_fetches,
            block_bytes=block_bytes,
        )
        try:
            yield Reader(fetcher, read_ahead_bytes=min(read_ahead_bytes, memory_limit_bytes // 2))
        finally:
            fetcher.close()
            nursery.cancel_scope.cancel()
