"""Fetches under way: disk cache, then store; what they hold is charged, what they bring is kept."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from objfs.codec.remote import fetch_stored
from objfs.codec.values import frame_bytes
from objfs.errors import (
    CorruptError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    StaleVersionError,
    UnavailableError,
)
from objfs.read.budget import Budget, RequestSlots
from objfs.read.fetching import Fetch
from objfs.read.memory import DISK, STORE, Chunk, ChunkMemory
from objfs.read.saving import BATCH_BYTES, Saver
from objfs.read.tables import DecodingStore
from objfs.read.window import MAX_PART_BYTES
from objfs.store.stalls import pulsing
from objfs.store.threads import in_thread
from objfs.store.values import MIB, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.read.values import DiskBlocks, Source
    from objfs.store.protocol import AsyncObjectStore

# Loads from the disk cache at once. In threads, a run of blocks per call: 1.1 GB/s each, and a slow disk
# stops nobody; the hop costs 100 us beside 200 us for reading and verifying one block.
DISK_THREADS = 4
MAX_SAVING_BYTES = 64 * MIB  # waiting for the disk cache; more would only push out what is still to be read


@dataclass(slots=True)
class FetchCounts:
    """Counts since the start; see `ReaderStats`."""

    disk_blocks: int = 0
    requests: int = 0
    fetched_bytes: int = 0
    failed_fetches: int = 0
    dropped_prefetches: int = 0


class Fetcher:
    """Blocks of objects: which are here, which are on their way, and how the others get there.

    Its tasks live in the nursery it is given. Everything here is sync up to the tasks themselves.
    """

    def __init__(
        self,
        store: AsyncObjectStore,
        cache: DiskBlocks | None,
        nursery: trio.Nursery,
        *,
        memory_limit_bytes: int,
        max_fetches: int,
        block_bytes: int,
    ) -> None:
        if memory_limit_bytes < 4 * block_bytes:
            raise ValueError(f"memory limit below four blocks: {memory_limit_bytes} bytes")
        self.block_bytes = block_bytes
        # A quarter of the budget at most is asked for at once (see Budget), in whole blocks.
        self.max_run_blocks = min(MAX_PART_BYTES, memory_limit_bytes // 4) // block_bytes
        # Of a compressed object, what is fetched and what it is decoded to are both in memory for a moment.
        self._max_decoded_blocks = min(MAX_PART_BYTES, memory_limit_bytes // 8) // block_bytes
        self.counts = FetchCounts()
        self.budget = Budget(limit_bytes=memory_limit_bytes, evict=self._evict)
        self.slots = RequestSlots(max_fetches)
        self.memory = ChunkMemory(block_bytes=block_bytes, clock=trio.current_time, released=self._released)
        self.saver: Saver | None = None
        self._store = store
        self._decoding = DecodingStore(
            store, memory_limit_bytes=memory_limit_bytes, requested=self._requested
        )
        self._cache = cache
        self._nursery = nursery
        # Stalled fetches ahead leave half of the memory to reads of what is cached.
        self._max_ahead_bytes = memory_limit_bytes // 2
        self._ahead_bytes = 0
        self._fetches: dict[tuple[str, int], Fetch] = {}
        self._disk_threads = trio.CapacityLimiter(DISK_THREADS)
        self._is_closed = False
        if cache is not None:
            limit_bytes = max(min(MAX_SAVING_BYTES, memory_limit_bytes // 4), BATCH_BYTES)
            self.saver = Saver(
                cache, block_bytes=block_bytes, limit_bytes=limit_bytes, unpinned=self.budget.wake
            )
            nursery.start_soon(self.saver.run)

    def close(self) -> None:
        """Refuse further fetches; the nursery's owner cancels those under way."""
        self._is_closed = True

    def on_its_way(self, object_id: str, block: int) -> Fetch | None:
        """The fetch that will bring a block."""
        return self._fetches.get((object_id, block))

    @contextlib.contextmanager
    def waiting(self, fetch: Fetch) -> Iterator[None]:
        """Wait for a fetch in here, and copy before leaving: what it brought is pinned until then."""
        fetch.waiters += 1
        self.slots.wake()
        try:
            yield
        finally:
            fetch.waiters -= 1
            if fetch.waiters == 0:
                for chunk in fetch.take_pinned():
                    chunk.pins -= 1
                self.budget.wake()

    def insert(self, object_id: str, version: Version, offset: int, data: bytes) -> None:
        """Seed whole blocks that are known without a fetch (just uploaded), as far as there is room."""
        end = offset + len(data)
        first = -(-offset // self.block_bytes)
        stop = self.stop_block(end) if end >= version.content_bytes else end // self.block_bytes
        view = memoryview(data)
        for low in range(first, stop, self.max_run_blocks):
            high = min(low + self.max_run_blocks, stop)
            start, count = low * self.block_bytes, self._length(version, low, high)
            if self.are_known(object_id, low, high) or not self.budget.try_charge(count):
                continue
            # A copy where the buffer is larger than the chunk: the budget counts what is really kept alive.
            chunk_data = data if count == len(data) else bytes(view[start - offset : start - offset + count])
            self._keep(Chunk(object_id, low, start, chunk_data))

    def fetch_missing(self, source: Source, first: int, stop: int) -> None:
        """Begin fetches of all blocks in [first, stop) that are neither here nor on their way."""
        for low, high in self._missing_runs(source, first, stop, self.max_run_blocks):
            fetch = Fetch(source=source, first=low, stop=high, is_demand=True)
            fetch.charged_bytes = self._cost(source.version, low, high)
            fetch.is_charged = self.budget.try_charge(fetch.charged_bytes, urgent=True)
            self._begin(fetch)

    def fetch_ahead(self, source: Source, start: int, stop: int, part_blocks: int) -> int:
        """Begin fetches ahead as far as there is room; returns the offset up to which there was."""
        first, stop_block = start // self.block_bytes, self.stop_block(stop)
        part_blocks = min(part_blocks, self.max_run_blocks)
        for low, high in self._missing_runs(source, first, stop_block, part_blocks):
            need_bytes = self._cost(source.version, low, high)
            if (
                self.slots.is_crowded
                or self._ahead_bytes + need_bytes > self._max_ahead_bytes
                or not self.budget.try_charge(need_bytes)
            ):
                self.counts.dropped_prefetches += 1
                return low * self.block_bytes
            fetch = Fetch(source=source, first=low, stop=high, is_demand=False)
            fetch.charged_bytes = fetch.ahead_bytes = need_bytes
            fetch.is_charged = True
            self._ahead_bytes += need_bytes
            self._begin(fetch)
        return min(stop_block * self.block_bytes, source.version.content_bytes)

    async def fetch_apart(self, source: Source, first: int, stop: int) -> bytes:
        """The bytes of blocks [first, stop) from the store, for the disk cache: past memory and its budget.

        Raises:
            StaleVersionError: the object was replaced or removed.
        """
        return await self._get(source, first * self.block_bytes, self._length(source.version, first, stop))

    def _missing_runs(
        self, source: Source, first: int, stop: int, max_blocks: int
    ) -> Iterator[tuple[int, int]]:
        object_id, frame_blocks = source.object_id, self._frame_blocks(source.version)
        if frame_blocks > 1:  # a frame is decoded once, for all of its blocks
            max_blocks = max(min(max_blocks, self._max_decoded_blocks), frame_blocks)
            max_blocks -= max_blocks % frame_blocks
            end = self.stop_block(source.version.content_bytes)
            stop = min(stop + -stop % frame_blocks, end)
        low = first
        while low < stop:
            if self._is_known(object_id, low):
                low += 1
                continue
            high = low + 1
            while low % frame_blocks and not self._is_known(object_id, low - 1):
                low -= 1
            most = low + max_blocks - low % frame_blocks
            while high < min(stop, most) and not self._is_known(object_id, high):
                high += 1
            yield low, high
            low = high

    def _frame_blocks(self, version: Version) -> int:
        """Blocks of one frame as we write them, if the object is compressed."""
        if version.decoded_bytes is None:
            return 1
        return max(1, frame_bytes(version.decoded_bytes) // self.block_bytes)

    def _is_known(self, object_id: str, block: int) -> bool:
        return self.memory.find(object_id, block) is not None or (object_id, block) in self._fetches

    def are_known(self, object_id: str, first: int, stop: int) -> bool:
        """Whether all blocks of [first, stop) are in memory or on their way."""
        return all(self._is_known(object_id, block) for block in range(first, stop))

    def _begin(self, fetch: Fetch) -> None:
        if self._is_closed:
            raise _closed()
        self.memory.trim()
        for block in range(fetch.first, fetch.stop):
            self._fetches[fetch.object_id, block] = fetch
        self._nursery.start_soon(self._run, fetch)

    async def _run(self, fetch: Fetch) -> None:
        """Bring a fetch to its end; whatever happens, whoever waits is told."""
        try:
            if not fetch.is_charged:
                await self.budget.charge(fetch.charged_bytes)
                fetch.is_charged = True
            is_cached = self._cache is not None and self._cache.may_hold(fetch.object_id)
            rest = await self._load(fetch) if is_cached else fetch
            if rest is not None:
                fetch = rest
                await self._request(fetch)
        except Exception as error:  # noqa: BLE001  # handed to the readers who wait, or to nobody
            self.counts.failed_fetches += 1
            self._end(fetch, error)
        except BaseException:
            self._end(fetch, _closed())
            raise

    async def _load(self, fetch: Fetch) -> Fetch | None:
        """Take from the disk cache what it has; returns the fetch of what the store must give."""
        assert self._cache is not None  # noqa: S101  # for the type checker: _run asks
        source = fetch.source
        indexes = range(fetch.first, fetch.stop)
        found = await in_thread(self._cache.get_many, source.object_id, indexes, limiter=self._disk_threads)
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
            rest.charged_bytes = self._cost(source.version, rest.first, rest.stop)
            fetch.charged_bytes -= rest.charged_bytes
            rest.ahead_bytes = min(fetch.ahead_bytes, rest.charged_bytes)
            fetch.ahead_bytes -= rest.ahead_bytes
            good = {index: data for index, data in good.items() if not rest.first <= index < rest.stop}
            for index in range(rest.first, rest.stop):
                self._fetches[source.object_id, index] = rest
        self.counts.disk_blocks += len(good)
        self._land(
            fetch,
            [
                Chunk(source.object_id, index, index * self.block_bytes, data, origin=DISK)
                for index, data in good.items()
            ],
        )
        return rest

    async def _request(self, fetch: Fetch) -> None:
        """One GET of the fetch's blocks, of exactly the pinned version."""
        await self.slots.acquire(fetch)
        try:
            length = self._length(fetch.source.version, fetch.first, fetch.stop)
            with pulsing(fetch.pulse):
                data = await self._get(fetch.source, fetch.first * self.block_bytes, length)
        finally:
            self.slots.release(fetch)
        self.counts.fetched_bytes += len(data)
        chunk = Chunk(fetch.object_id, fetch.first, fetch.first * self.block_bytes, data, origin=STORE)
        self._land(fetch, [chunk])
        if self.saver is not None:
            self.saver.offer(chunk)

    async def _get(self, source: Source, start: int, length: int) -> bytes:
        try:
            if source.version.decoded_bytes is not None:
                return await self._decoding.read(source, start, start + length)
            self._requested()
            return await fetch_stored(self._store, source.key, source.version, start, start + length)
        except (PreconditionFailedError, NotFoundError) as error:
            raise StaleVersionError(f"{source.key} was replaced or removed") from error
        except InvalidRequestError as error:  # 416: it has not so many bytes as it told
            raise CorruptError(f"{source.key} cannot be read: {error}", key=source.key) from error

    def _requested(self) -> None:
        self.counts.requests += 1

    def _land(self, fetch: Fetch, chunks: list[Chunk]) -> None:
        """Keep what has arrived, and wake who waits; they find it pinned until all have copied."""
        for chunk in chunks:
            self.memory.add(chunk)
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
        self.budget.release(fetch.charged_bytes if fetch.is_charged else 0)

    def _keep(self, chunk: Chunk) -> None:
        self.memory.add(chunk)
        if self.saver is not None:
            self.saver.offer(chunk)

    def stop_block(self, stop: int) -> int:
        """The first block that begins at or after an offset."""
        return -(-stop // self.block_bytes)

    def _length(self, version: Version, first: int, stop: int) -> int:
        return min(stop * self.block_bytes, version.content_bytes) - first * self.block_bytes

    def _cost(self, version: Version, first: int, stop: int) -> int:
        """What a fetch of blocks holds in memory: where they are decoded, frames before and after.

        An object may tell any length, so ask for frames of any size: none may wait for more than there is.
        """
        length = self._length(version, first, stop)
        if version.decoded_bytes is None:
            return length
        frame = min(frame_bytes(version.decoded_bytes), version.decoded_bytes)
        return min(2 * length + frame, self.budget.limit_bytes)

    def _evict(self, need_bytes: int, urgent: bool) -> None:
        self.memory.evict(need_bytes, urgent=urgent)

    def _released(self, chunk: Chunk) -> None:
        if self.saver is not None:
            self.saver.withdraw(chunk)
        self.budget.release(len(chunk.data))


def _closed() -> UnavailableError:
    return UnavailableError("the reader is closed")
