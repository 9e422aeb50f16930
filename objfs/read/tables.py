"""Seek tables of compressed objects: fetched once per version, the lately used ones kept."""

from __future__ import annotations

import io
import logging
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from objfs.codec.frames import decode_frames
from objfs.codec.remote import Tail, fetch_stored, fetch_tail
from objfs.codec.values import frame_bytes
from objfs.errors import CorruptError
from objfs.store.threads import in_thread
from objfs.store.values import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.codec.table import SeekTable
    from objfs.read.values import Source
    from objfs.store.protocol import AsyncObjectStore

log = logging.getLogger(__name__)

WHOLE_BYTES = 256 * KIB  # objects up to this size are fetched whole with their table: one request, not two
KEPT_SHARE = 32  # of the memory limit, beside it: a table of a 1 GiB object takes 48 KiB
DECODE_THREADS = 4  # 1 GB/s each; the work lets the event loop run


@dataclass(slots=True)
class _Loading:
    """A table on its way, for all who wait for it."""

    done: trio.Event = field(default_factory=trio.Event)
    tail: Tail | None = None
    error: Exception | None = None


class DecodingStore:
    """Ranges of the content of compressed objects. `requested` is told of each GET."""

    def __init__(
        self, store: AsyncObjectStore, *, memory_limit_bytes: int, requested: Callable[[], None]
    ) -> None:
        self._store = store
        self._requested = requested
        self._limit_bytes = max(MIB, memory_limit_bytes // KEPT_SHARE)
        self._most_bytes = memory_limit_bytes // 2
        self._large = trio.Lock()
        self._tails: OrderedDict[str, Tail] = OrderedDict()
        self._kept_bytes = 0
        self._loading: dict[Source, _Loading] = {}
        self._threads = trio.CapacityLimiter(DECODE_THREADS)

    async def read(self, source: Source, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the content, not empty; frames are asked for apart from the table.

        Raises:
            CorruptError: the object is not what it says; told in the log.
            PreconditionFailedError, NotFoundError, StaleVersionError: the version is gone.
        """
        try:
            tail = await self._tail(source)
            table = tail.table
            frames = table.covering(start, stop)
            async with self._large if self._is_large(table, frames, source) else nullcontext():
                return await self._decoded(source, tail, frames, start, stop)
        except CorruptError as error:
            log.warning("%r cannot be read: %s", source.key, error)
            raise

    async def _decoded(self, source: Source, tail: Tail, frames: range, start: int, stop: int) -> bytes:
        low, high = tail.table.stored_at(frames)
        if tail.has(low, high):
            data: bytes | memoryview = tail.cut(low, high)
        else:
            self._requested()
            data = await fetch_stored(self._store, source.key, source.version, low, high)
        return await in_thread(_decode, data, tail, frames, start, stop, limiter=self._threads)

    def _is_large(self, table: SeekTable, frames: range, source: Source) -> bool:
        """Whether frames take more memory than was reckoned with: such come one at a time.

        Raises:
            CorruptError: more than there may ever be.
        """
        largest = max(table.frame(number).content_bytes for number in frames)
        low, high = table.stored_at(frames)
        if largest + high - low > self._most_bytes:
            raise CorruptError(f"a frame of {largest} bytes does not fit into --memory-limit")
        return largest > 2 * frame_bytes(source.version.content_bytes)

    async def _tail(self, source: Source) -> Tail:
        name = source.object_id
        kept = self._tails.get(name)
        if kept is not None:
            self._tails.move_to_end(name)
            return kept
        loading = self._loading.get(source)
        if loading is None:
            return await self._load(source)
        await loading.done.wait()
        if loading.tail is None:
            raise (
                loading.error.with_traceback(None) if loading.error is not None else trio.BrokenResourceError
            )
        return loading.tail

    async def _load(self, source: Source) -> Tail:
        loading = self._loading[source] = _Loading()
        try:
            self._requested()
            loading.tail = await fetch_tail(self._store, source.key, source.version, whole_bytes=WHOLE_BYTES)
        except Exception as error:
            loading.error = error
            raise
        finally:
            del self._loading[source]
            loading.done.set()
        self._keep(source.object_id, loading.tail)
        return loading.tail

    def _keep(self, name: str, tail: Tail) -> None:
        if tail.start > 0:  # of an object that is fetched whole, all of it is needed: one read brings a block
            tail = replace(tail, start=tail.start + len(tail.data), data=b"")
        self._tails[name] = tail
        self._kept_bytes += _size(tail)
        while self._kept_bytes > self._limit_bytes and len(self._tails) > 1:
            _, gone = self._tails.popitem(last=False)
            self._kept_bytes -= _size(gone)


def _size(tail: Tail) -> int:
    return tail.table.memory_bytes + len(tail.data)


def _decode(data: bytes | memoryview, tail: Tail, frames: range, start: int, stop: int) -> bytes:
    """[start, stop) of the content, out of the frames that hold it."""
    content = io.BytesIO()  # gives its buffer away without a copy
    for offset, piece in decode_frames(data, tail.table, frames):
        if offset == start and len(piece) == stop - start:
            return piece
        content.write(memoryview(piece)[max(0, start - offset) : stop - offset])
    return content.getvalue()
