"""Fetched blocks on their way to the disk cache: in the background, in batches, dropped under pressure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from objfs.store.threads import NoThreadError, in_thread
from objfs.store.values import MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.read.memory import Chunk
    from objfs.read.values import DiskBlocks

BATCH_BYTES = 4 * MIB  # one transaction and one thread call (0.1 ms) for 5 ms of writing
BATCH_CHUNKS = 128  # small objects: rows are locked for some 5 ms
DRAIN_TIMEOUT_S = 2.0  # at the end: what a short run has read should be there at the next one


class Saver:
    """The one writer of the disk cache. A waiting chunk may be evicted, it is not saved then.

    Only the batch being written is pinned.
    """

    def __init__(
        self, cache: DiskBlocks, *, block_bytes: int, limit_bytes: int, unpinned: Callable[[], None]
    ) -> None:
        self._cache = cache
        self._block_bytes = block_bytes
        self._limit_bytes = limit_bytes
        self._unpinned = unpinned
        self._queue: OrderedDict[Chunk, None] = OrderedDict()
        self._queued_bytes = 0
        self._news = trio.Event()
        self._thread = trio.CapacityLimiter(1)
        self.dropped_blocks = 0

    def offer(self, chunk: Chunk) -> None:
        """Take a chunk over for saving, if there are not too many already."""
        if self._queued_bytes + len(chunk.data) > self._limit_bytes:
            self.dropped_blocks += len(self._blocks(chunk))
            return
        chunk.is_unsaved = True
        self._queue[chunk] = None
        self._queued_bytes += len(chunk.data)
        self._news.set()

    def withdraw(self, chunk: Chunk) -> None:
        """The chunk is being evicted."""
        if chunk.is_unsaved:
            self._take(chunk)
            self.dropped_blocks += len(self._blocks(chunk))

    async def run(self) -> None:
        """Save until cancelled, then save what is left, for a short while."""
        try:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                await self._save_all()
        finally:
            with trio.move_on_after(DRAIN_TIMEOUT_S, shield=True):
                await self._save_all()

    async def _save_all(self) -> None:
        while self._queue:
            await trio.lowlevel.checkpoint()
            batch = self._next_batch()
            if not batch:  # evicted meanwhile
                return
            blocks = [block for chunk in batch for block in self._blocks(chunk)]
            try:
                with trio.CancelScope(shield=True):  # a thread cannot be stopped: what was taken is saved
                    await in_thread(self._cache.put_batch, blocks, limiter=self._thread)
            except NoThreadError:
                self.dropped_blocks += len(blocks)
            finally:
                for chunk in batch:
                    chunk.pins -= 1
                self._unpinned()

    def _next_batch(self) -> list[Chunk]:
        batch: list[Chunk] = []
        room = BATCH_BYTES
        for chunk in self._queue:
            if batch and (len(chunk.data) > room or len(batch) >= BATCH_CHUNKS):
                break
            batch.append(chunk)
            room -= len(chunk.data)
        for chunk in batch:
            self._take(chunk)
            chunk.pins += 1
        return batch

    def _take(self, chunk: Chunk) -> None:
        chunk.is_unsaved = False
        del self._queue[chunk]
        self._queued_bytes -= len(chunk.data)

    def _blocks(self, chunk: Chunk) -> list[tuple[str, int, memoryview]]:
        view, size = memoryview(chunk.data), self._block_bytes
        return [
            (chunk.object_id, chunk.first + number, view[low : low + size])
            for number, low in enumerate(range(0, len(view), size))
        ]
