"""Blocks in memory: chunks of adjacent blocks, least recently used first out. No I/O, no waiting."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from objfs.store.values import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Buffer = bytes | memoryview
MEMORY, DISK, STORE = range(3)  # where a chunk came from; what was put here (just uploaded) is memory's

# Chunks read through are kept to this much: the kernel's page cache has their bytes, and a GET into memory
# just freed costs a third of one into new memory (no page faults).
KEEP_DONE_BYTES = 16 * MIB
FRESH_S = 30.0  # what was fetched ahead and not read in this time is not going to be


class Chunk:
    """One buffer of adjacent blocks: what one GET brought, or one block from disk.

    Attributes:
        first: index of its first block.
        start: offset of its first byte in the object.
        pins: while above 0 somebody needs the buffer, and it stays charged to the budget.
        is_unsaved: it waits for its turn to go to the disk cache.
    """

    __slots__ = ("data", "first", "is_unsaved", "object_id", "origin", "pins", "read_bytes", "start")

    def __init__(self, object_id: str, first: int, start: int, data: Buffer, *, origin: int = MEMORY) -> None:
        self.object_id = object_id
        self.first = first
        self.start = start
        self.data = data
        self.origin = origin
        self.pins = 0
        self.read_bytes = 0
        self.is_unsaved = False

    def cut(self, offset: int, stop: int) -> Buffer:
        """Bytes [offset, min(stop, end)) of the object, not copied."""
        low, high = offset - self.start, min(stop - self.start, len(self.data))
        if low == 0 and high == len(self.data):
            return self.data
        return memoryview(self.data)[low:high]


class ChunkMemory:
    """Chunks by block. Removal tells `released(chunk)`, so that the budget knows."""

    def __init__(
        self, *, block_bytes: int, clock: Callable[[], float], released: Callable[[Chunk], None]
    ) -> None:
        self._block_bytes = block_bytes
        self._clock = clock
        self._released = released
        self._blocks: dict[str, dict[int, Chunk]] = {}
        # In the order they go. Done: read through, the kernel's page cache has their bytes now.
        self._done: OrderedDict[Chunk, None] = OrderedDict()
        self._done_bytes = 0
        self._used: OrderedDict[Chunk, None] = OrderedDict()
        self._fresh: OrderedDict[Chunk, float] = OrderedDict()  # never read yet, with the time of arrival
        self.served_bytes = [0, 0, 0]
        """Bytes read by origin: a byte's first reading is its origin's, each further one is memory's."""

    def find(self, object_id: str, block: int) -> Chunk | None:
        """The chunk that holds a block."""
        blocks = self._blocks.get(object_id)
        return None if blocks is None else blocks.get(block)

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk whose bytes are already charged."""
        blocks = self._blocks.setdefault(chunk.object_id, {})
        for block in self._blocks_of(chunk):
            blocks[block] = chunk
        self._fresh[chunk] = self._clock()

    def touch(self, chunk: Chunk, count_bytes: int) -> None:
        """Note a read of a chunk that `find` gave."""
        self.served_bytes[MEMORY if chunk.read_bytes >= len(chunk.data) else chunk.origin] += count_bytes
        chunk.read_bytes += count_bytes
        self._fresh.pop(chunk, None)
        if chunk.read_bytes >= len(chunk.data):
            self._used.pop(chunk, None)
            if chunk not in self._done:
                self._done[chunk] = None
                self._done_bytes += len(chunk.data)
        else:
            self._used[chunk] = None
            self._used.move_to_end(chunk)

    def evict(self, need_bytes: int, *, urgent: bool) -> None:
        """Drop chunks until `need_bytes` are released or no more may go.

        Only an urgent need takes what was fetched ahead and has not been read yet.
        """
        for chunk in self._victims(need_bytes, urgent=urgent):
            self._remove(chunk)

    def trim(self) -> None:
        """Let go of what was read through and is saved, beyond what is worth keeping."""
        for chunk in [] if self._done_bytes <= KEEP_DONE_BYTES else list(self._done):
            if self._done_bytes <= KEEP_DONE_BYTES:
                return
            if chunk.pins == 0 and not chunk.is_unsaved:
                self._remove(chunk)

    def held_bytes(self, object_id: str) -> int:
        """Bytes of an object that are here."""
        return sum(len(chunk.data) for chunk in set(self._blocks.get(object_id, {}).values()))

    def forget(self, object_id: str) -> None:
        """Drop every chunk of an object that nobody is using."""
        for chunk in set(self._blocks.get(object_id, {}).values()):
            if chunk.pins == 0:
                self._remove(chunk)

    def _victims(self, need_bytes: int, *, urgent: bool) -> list[Chunk]:
        victims: list[Chunk] = []
        for chunk in self._candidates(urgent=urgent):
            if need_bytes <= 0:
                break
            if chunk.pins == 0:
                victims.append(chunk)
                need_bytes -= len(chunk.data)
        return victims

    def _candidates(self, *, urgent: bool) -> Iterator[Chunk]:
        yield from self._done
        yield from self._used
        oldest_fresh = self._clock() - FRESH_S
        for chunk, arrived in self._fresh.items():
            if not urgent and arrived > oldest_fresh:
                return
            yield chunk

    def _remove(self, chunk: Chunk) -> None:
        if chunk in self._done:
            self._done_bytes -= len(chunk.data)
            del self._done[chunk]
        self._used.pop(chunk, None)
        self._fresh.pop(chunk, None)
        blocks = self._blocks.get(chunk.object_id, {})  # a later chunk may have taken their places, and gone
        for block in self._blocks_of(chunk):
            if blocks.get(block) is chunk:
                del blocks[block]
        if not blocks:
            self._blocks.pop(chunk.object_id, None)
        self._released(chunk)

    def _blocks_of(self, chunk: Chunk) -> range:
        return range(chunk.first, chunk.first - (-len(chunk.data) // self._block_bytes))
