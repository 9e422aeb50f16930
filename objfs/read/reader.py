"""The reader: memory, disk cache, store, in this order; one fetch per block however many wait for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from objfs.errors import (
    CorruptError,
    NotFoundError,
    PreconditionFailedError,
    StaleVersionError,
    UnavailableError,
)
from objfs.read.budget import Budget, RequestSlots
from objfs.read.fetching import Fetch
from objfs.read.memory import Buffer, Chunk, ChunkMemory
from objfs.read.saving import BATCH_BYTES, Saver
from objfs.read.values import ReaderStats, Source
from objfs.read.window import MAX_PART_BYTES, ReadStream
from objfs.store.values import KIB, MIB, ByteRange, Version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from objfs.store.protocol import AsyncObjectStore
    from objfs_cache.blocks import BlockCache

BLOCK_BYTES = 256 * KIB
READ_AHEAD_BYTES = 32 * MIB
MAX_FETCHES = 16
DISK_THREADS = 4  # loads from the disk cache at once; CRC and read() release the interpreter lock
MAX_SAVING_BYTES = 64 * MIB  # waiting for the disk cache; more would only push out what is still to be read


class Reader:
    """Reads of pinned versions. Made by `open_reader`."""

    def __init__(
        self,
        store: AsyncObjectStore,
        cache: BlockCache | None,
        nursery: trio.Nursery,
        *,
        memory_limit_bytes: int,
        read_ahead_bytes: int,
        max_fetches: int,
        block_bytes: int,
    ) -> None:
        if memory_limit_bytes < 4 * block_bytes:
            raise ValueError(f"memory limit below four blocks: {memory_limit_bytes} bytes")
        self._store = store
        self._cache = cache
        self._nursery = nursery
        self._block_bytes = block_bytes
        # A quarter of the budget at most is asked for at once (see Budget), in whole blocks.
        self._max_run_blocks = min(MAX_PART_BYTES, memory_limit_bytes // 4) // block_bytes
        self._read_ahead_bytes = min(read_ahead_bytes, memory_limit_bytes // 2)
        self._budget = Budget(limit_bytes=memory_limit_bytes, evict=self._evict)
        self._slots = RequestSlots(max_fetches)
        self._memory = ChunkMemory(block_bytes=block_bytes, clock=trio.current_time, released=self._released)
        # Stalled fetches ahead leave half of the memory to reads of what is cached.
        self._max_ahead_bytes = memory_limit_bytes // 2
        self._ahead_bytes = 0
        self._fetches: dict[tuple[str, int], Fetch] = {}
        self._disk_threads = trio.CapacityLimiter(DISK_THREADS)
        self._saver: Saver | None = None
        if cache is not None:
            limit_bytes = max(min(MAX_SAVING_BYTES, memory_limit_bytes // 4), BATCH_BYTES)
            self._saver = Saver(
                cache, block_bytes=block_bytes, limit_bytes=limit_bytes, unpinned=self._budget.wake
            )
            nursery.start_soon(self._saver.run)
        self._is_closed = False
        self._reads = self._read_bytes = self._memory_hits = self._disk_blocks = 0
        self._requests = self._fetched_bytes = self._failed_fetches = self._dropped_prefetches = 0

    @property
    def block_bytes(self) -> int:
        """Size of a block; reads aligned to it are the cheapest."""
        return self._block_bytes

    def new_stream(self) -> ReadStream:
        """The read-ahead state of one handle."""
        return ReadStream(
            read_ahead_bytes=self._read_ahead_bytes,
            max_part_bytes=self._max_run_blocks * self._block_bytes,
        )

    async def read(self, source: Source, offset: int, length: int, stream: ReadStream) -> bytes:
        """Bytes [offset, offset + length) of the pinned version, fewer only at the object's end.

        Raises:
            StaleVersionError: the object was replaced or removed, and these bytes were nowhere kept.
            ObjectStoreError: the bytes cannot be had now; the next read tries anew.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        stop = min(offset + length, source.version.size_bytes)
        if offset >= stop:
            return b""
        step = self._max_run_blocks * self._block_bytes
        pieces = [
            await self._read_piece(source, low, min(low + step, stop), stream)
            for low in range(offset, stop, step)
        ]
        self._reads += 1
        self._read_bytes += stop - offset
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def insert(self, object_id: str, version: Version, offset: int, data: bytes) -> None:
        """Seed whole blocks that are known without a fetch (just uploaded), as far as there is room."""
        end = offset + len(data)
        first = -(-offset // self._block_bytes)
        stop = self._stop_block(end) if end >= version.size_bytes else end // self._block_bytes
        view = memoryview(data)
        for low in range(first, stop, self._max_run_blocks):
            high = min(low + self._max_run_blocks, stop)
            start, count = low * self._block_bytes, self._length(version, low, high)
            if self._are_known(object_id, low, high) or not self._budget.try_charge(count):
                continue
            # A copy where the buffer is larger than the chunk: the budget counts what is really kept alive.
            chunk_data = data if count == len(data) else bytes(view[start - offset : start - offset + count])
            self._keep(Chunk(object_id, low, start, chunk_data))

    def forget(self, object_id: str) -> None:
        """Drop an object's blocks from memory."""
        self._memory.forget(object_id)

    def stats(self) -> ReaderStats:
        """A snapshot of sizes and counts."""
        return ReaderStats(
            memory_bytes=self._budget.used_bytes,
            memory_limit_bytes=self._budget.limit_bytes,
            peak_bytes=self._budget.peak_bytes,
            running_fetches=self._slots.running,
            reads=self._reads,
            read_bytes=self._read_bytes,
            memory_hits=self._memory_hits,
            disk_blocks=self._disk_blocks,
            requests=self._requests,
            fetched_bytes=self._fetched_bytes,
            failed_fetches=self._failed_fetches,
            dropped_prefetches=self._dropped_prefetches,
            dropped_inserts=0 if self._saver is None else self._saver.dropped_blocks,
        )

    def close(self) -> None:
        """Refuse further reads; `open_reader` then ends the fetches."""
        self._is_closed = True

    # One read

    async def _read_piece(self, source: Source, offset: int, stop: int, stream: ReadStream) -> bytes:
        first, demand_stop = offset // self._block_bytes, self._stop_block(stop)
        is_missing = not self._are_known(source.object_id, first, demand_stop)
        plan = stream.observe(offset, stop - offset, source.version.size_bytes, is_missing=is_missing)
        if plan.is_joined:
            demand_stop = self._stop_block(plan.stop)
        if is_missing:
            self._fetch_missing(source, first, demand_stop)
        if plan.start < plan.stop and not plan.is_joined:
            part_blocks = max(1, plan.part_bytes // self._block_bytes)
            stream.fetched_ahead(self._fetch_ahead(source, plan.start, plan.stop, part_blocks))
        return await self._collect(source, offset, stop)

    async def _collect(self, source: Source, offset: int, stop: int) -> bytes:
        pieces: list[Buffer] = []
        waited = False
        position = offset
        while position < stop:
            chunk = self._memory.find(source.object_id, position // self._block_bytes)
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
            fetch = self._fetches.get((source.object_id, block))
            if fetch is None:
                self._fetch_missing(source, block, block + 1)
                continue
            with self._waiting(fetch):
                await fetch.done.wait()
                if fetch.error is not None:
                    raise fetch.error.with_traceback(None)
                chunk = self._memory.find(source.object_id, block)
                if chunk is not None:
                    return bytes(self._cut(chunk, position, stop))

    @contextlib.contextmanager
    def _waiting(self, fetch: Fetch) -> Iterator[None]:
        fetch.waiters += 1
        self._slots.wake()
        try:
            yield
        finally:
            fetch.waiters -= 1
            if fetch.waiters == 0:
                for chunk in fetch.take_pinned():
                    chunk.pins -= 1
                self._budget.wake()

    def _cut(self, chunk: Chunk, position: int, stop: int) -> Buffer:
        piece = chunk.cut(position, stop)
        self._memory.touch(chunk, len(piece))
        return piece

    # Beginning fetches

    def _fetch_missing(self, source: Source, first: int, stop: int) -> None:
        """Begin fetches of all blocks in [first, stop) that are neither here nor on their way."""
        for low, high in self._missing_runs(source.object_id, first, stop, self._max_run_blocks):
            fetch = Fetch(source=source, first=low, stop=high, is_demand=True)
            fetch.charged_bytes = self._length(source.version, low, high)
            fetch.is_charged = self._budget.try_charge(fetch.charged_bytes, urgent=True)
            self._begin(fetch)

    def _fetch_ahead(self, source: Source, start: int, stop: int, part_blocks: int) -> int:
        """Begin fetches ahead as far as there is room; returns the offset up to which there was."""
        first, stop_block = start // self._block_bytes, self._stop_block(stop)
        part_blocks = min(part_blocks, self._max_run_blocks)
        for low, high in self._missing_runs(source.object_id, first, stop_block, part_blocks):
            need_bytes = self._length(source.version, low, high)
            if (
                self._slots.is_crowded
                or self._ahead_bytes + need_bytes > self._max_ahead_bytes
                or not self._budget.try_charge(need_bytes)
            ):
                self._dropped_prefetches += 1
                return low * self._block_bytes
            fetch = Fetch(source=source, first=low, stop=high, is_demand=False)
            fetch.charged_bytes = fetch.ahead_bytes = need_bytes
            fetch.is_charged = True
            self._ahead_bytes += need_bytes
            self._begin(fetch)
        return min(stop_block * self._block_bytes, source.version.size_bytes)

    def _missing_runs(
        self, object_id: str, first: int, stop: int, max_blocks: int
    ) -> Iterator[tuple[int, int]]:
        low = first
        while low < stop:
            if self._is_known(object_id, low):
                low += 1
                continue
            high = low + 1
            while high < min(stop, low + max_blocks) and not self._is_known(object_id, high):
                high += 1
            yield low, high
            low = high

    def _is_known(self, object_id: str, block: int) -> bool:
        """Whether a block is in memory or on its way."""
        return self._memory.find(object_id, block) is not None or (object_id, block) in self._fetches

    def _are_known(self, object_id: str, first: int, stop: int) -> bool:
        return all(self._is_known(object_id, block) for block in range(first, stop))

    def _begin(self, fetch: Fetch) -> None:
        if self._is_closed:
            raise _closed()
        self._memory.trim()
        for block in range(fetch.first, fetch.stop):
            self._fetches[fetch.object_id, block] = fetch
        self._nursery.start_soon(self._run, fetch)

    # Carrying them out

    async def _run(self, fetch: Fetch) -> None:
        """Bring a fetch to its end; whatever happens, whoever waits is told."""
        try:
            if not fetch.is_charged:
                await self._budget.charge(fetch.charged_bytes)
                fetch.is_charged = True
            is_cached = self._cache is not None and self._cache.may_hold(fetch.object_id)
            rest = await self._load(fetch) if is_cached else fetch
            if rest is not None:
                fetch = rest
                await self._request(fetch)
        except Exception as error:  # noqa: BLE001  # handed to the readers who wait, or to nobody
            self._failed_fetches += 1
            self._end(fetch, error)
        except BaseException:
            self._end(fetch, _closed())
            raise

    async def _load(self, fetch: Fetch) -> Fetch | None:
        """Take from the disk cache what it has; returns the fetch of what the store must give."""
        assert self._cache is not None  # noqa: S101  # for the type checker: _run asks
        source = fetch.source
        indexes = range(fetch.first, fetch.stop)
        found = await trio.to_thread.run_sync(
            self._cache.get_many, source.object_id, indexes, limiter=self._disk_threads
        )
        # A block of another length is no block of ours (the block size was changed): a miss.
        good = {
            index: data
            for index, data in zip(indexes, found, strict=True)
            if data is not None and len(data) == self._length(source.version, index, index + 1)
        }
        missing = [index for index in indexes if index not in good]
        if len(missing) == len(indexes):
            return fetch
        rest = None
        if missing:  # one request from the first to the last that is missing
            rest = fetch.split(missing[0], missing[-1] + 1)
            rest.charged_bytes = self._length(source.version, rest.first, rest.stop)
            fetch.charged_bytes -= rest.charged_bytes
            rest.ahead_bytes = min(fetch.ahead_bytes, rest.charged_bytes)
            fetch.ahead_bytes -= rest.ahead_bytes
            good = {index: data for index, data in good.items() if not rest.first <= index < rest.stop}
            for index in range(rest.first, rest.stop):
                self._fetches[source.object_id, index] = rest
        self._disk_blocks += len(good)
        self._land(
            fetch,
            [Chunk(source.object_id, index, index * self._block_bytes, data) for index, data in good.items()],
        )
        return rest

    async def _request(self, fetch: Fetch) -> None:
        """One GET of the fetch's blocks, of exactly the pinned version."""
        await self._slots.acquire(fetch)
        try:
            self._requests += 1
            data = await self._get(fetch.source, fetch.first * self._block_bytes, fetch.charged_bytes)
        finally:
            self._slots.release(fetch)
        self._fetched_bytes += len(data)
        chunk = Chunk(fetch.object_id, fetch.first, fetch.first * self._block_bytes, data)
        self._land(fetch, [chunk])
        if self._saver is not None:
            self._saver.offer(chunk)

    async def _get(self, source: Source, start: int, length: int) -> bytes:
        byte_range = ByteRange(start=start, stop=start + length)
        version = source.version
        try:
            blob = await self._store.get(source.key, byte_range=byte_range, if_match=version.etag or None)
        except (PreconditionFailedError, NotFoundError) as error:
            raise StaleVersionError(f"{source.key} was replaced or removed") from error
        # Not every store honours If-Match on GET, and not every proxy a range.
        if blob.info.version != version:
            raise StaleVersionError(f"{source.key} was replaced")
        if len(blob.data) != length:
            raise CorruptError(
                f"{source.key}: {len(blob.data)} bytes instead of {length} at {start}", key=source.key
            )
        return blob.data

    def _land(self, fetch: Fetch, chunks: list[Chunk]) -> None:
        """Keep what has arrived, and wake who waits; they find it pinned until all have copied."""
        for chunk in chunks:
            self._memory.add(chunk)
        if fetch.waiters:
            fetch.pin(chunks)
        fetch.charged_bytes -= sum(len(chunk.data) for chunk in chunks)
        self._end(fetch, None)

    def _end(self, fetch: Fetch, error: Exception | None) -> None:
        for block in range(fetch.first, fetch.stop):
            if self._fetches.get((fetch.object_id, block)) is fetch:
                del self._fetches[fetch.object_id, block]
        self._ahead_bytes -= fetch.ahead_bytes
        fetch.error = error
        fetch.done.set()
        self._budget.release(fetch.charged_bytes if fetch.is_charged else 0)

    def _keep(self, chunk: Chunk) -> None:
        self._memory.add(chunk)
        if self._saver is not None:
            self._saver.offer(chunk)

    # Arithmetic and the budget's errands

    def _stop_block(self, stop: int) -> int:
        return -(-stop // self._block_bytes)

    def _length(self, version: Version, first: int, stop: int) -> int:
        return min(stop * self._block_bytes, version.size_bytes) - first * self._block_bytes

    def _evict(self, need_bytes: int, urgent: bool) -> None:
        self._memory.evict(need_bytes, urgent=urgent)

    def _released(self, chunk: Chunk) -> None:
        if self._saver is not None:
            self._saver.withdraw(chunk)
        self._budget.release(len(chunk.data))


@contextlib.asynccontextmanager
async def open_reader(
    store: AsyncObjectStore,
    cache: BlockCache | None,
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
        reader = Reader(
            store,
            cache,
            nursery,
            memory_limit_bytes=memory_limit_bytes,
            read_ahead_bytes=read_ahead_bytes,
            max_fetches=max_fetches,
            block_bytes=block_bytes,
        )
        try:
            yield reader
        finally:
            reader.close()
            nursery.cancel_scope.cancel()


def _closed() -> UnavailableError:
    return UnavailableError("the reader is closed")
