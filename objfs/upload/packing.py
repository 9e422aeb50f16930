"""Uploads that are compressed on their way: frames made in threads, in order, and put together to parts.

There is no second copy on disk; in memory are a few stretches of content and the parts under way.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.codec.choice import SAMPLE_BYTES, may_shrink, sample_offsets, saves_enough
from objfs.codec.frames import FrameEncoder
from objfs.codec.remote import fetch_stored
from objfs.codec.table import SeekTable
from objfs.codec.values import DEFAULT_LEVEL, Frame, frame_bytes
from objfs.store.threads import in_thread
from objfs.store.values import MIB
from objfs.upload.parts import COPY_PART_BYTES, SINGLE_PUT_BYTES, cut_range, part_size, plan_patch
from objfs.upload.segments import Segment, cut_at_multiples, plan_segments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from objfs.config.rules import Compression
    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import PutOptions
    from objfs.upload.content import Content
    from objfs.upload.sending import PartSender

STRETCH_BYTES = 2 * MIB  # content compressed by one thread call: some 10 ms
SAMPLED_BYTES = MIB  # smaller files are tried as a whole
LARGE_UPLOADS = 2  # at a time; each holds some 16 MiB besides the parts under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """How a content is to be packed.

    Attributes:
        segments: of the content, in order.
        frame_bytes: content of one frame.
    """

    segments: list[Segment]
    level: int
    frame_bytes: int


@dataclass(slots=True)
class _Stretch:
    """A piece of content on its way through a thread."""

    done: trio.Event = field(default_factory=trio.Event)
    data: list[bytes] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)


class Packer:
    """Decides whether a content is compressed, and compresses it."""

    def __init__(self, store: AsyncObjectStore, *, on_bytes: Callable[[int], None]) -> None:
        self._store = store
        self._on_bytes = on_bytes
        # One more than processors: while one has its stretch handed over, the others go on.
        self._threads = trio.CapacityLimiter((os.cpu_count() or 1) + 1)
        self.large_uploads = trio.CapacityLimiter(LARGE_UPLOADS)

    async def plan(
        self, content: Content, compression: Compression | None, options: PutOptions
    ) -> Packed | None:
        """How to pack a content; None if it is to be stored plain.

        What a patch leaves of a large compressed base stays compressed, whatever the rules say now.
        """
        size = frame_bytes(content.length)
        level = compression.level if compression is not None else DEFAULT_LEVEL
        kept = await self._kept_segments(content, size)
        if kept is not None:
            return Packed(segments=kept, level=level, frame_bytes=size)
        if compression is None or content.length < max(1, compression.least_size):
            return None
        if options.content_encoding or not may_shrink(content.operation.path, options.content_type):
            return None
        if self._keeps_plain(content):
            return None
        if content.length > SINGLE_PUT_BYTES and self._store.multipart is None:
            return None
        if content.length >= SAMPLED_BYTES and not await self._samples_shrink(content, compression):
            return None
        segments = [Segment(start=0, stop=content.length)]
        return Packed(segments=segments, level=level, frame_bytes=size)

    async def pack_small(self, content: Content, packed: Packed, compression: Compression) -> bytes | None:
        """The whole object, made in memory; None if that saves too little."""
        pieces: list[bytes] = []
        frames: list[Frame] = []

        async def take(stretch: _Stretch) -> None:
            pieces.extend(stretch.data)
            frames.extend(stretch.frames)

        await self._encode(content, 0, content.length, packed, take)
        pieces.append(SeekTable(frames).encode())
        body = b"".join(pieces)
        return body if saves_enough(compression, content.length, len(body)) else None

    async def pack_parts(self, content: Content, packed: Packed, sender: PartSender) -> int:
        """Send the object in parts; returns its length."""
        out = _Parts(sender, part_bytes=part_size(content.length, sender.limits))
        for segment in packed.segments:
            if segment.kept is None:
                await self._encode(content, segment.start, segment.stop, packed, out.take)
            else:
                await self._keep(content, segment.kept, out)
                self._on_bytes(segment.stop - segment.start)
        table = SeekTable(out.frames)
        out.buffer += table.encode()
        await out.flush()
        return table.stored_bytes + table.table_bytes

    def _keeps_plain(self, content: Content) -> bool:
        """Whether the store can copy much of a plain base: that saves more than compressing all of it."""
        base, staged, multipart = content.base, content.staged, self._store.multipart
        if base is None or base.decoded_bytes is not None or staged.complete:
            return False
        if multipart is None or self._store.compose is None or content.length <= SINGLE_PUT_BYTES:
            return False
        pieces = staged.extents.pieces(0, content.length)
        return plan_patch(content.length, staged.base_limit, pieces, multipart.limits) is not None

    async def _kept_segments(self, content: Content, size: int) -> list[Segment] | None:
        """What of a compressed base can be copied by the store."""
        base, staged, multipart = content.base, content.staged, self._store.multipart
        if base is None or base.decoded_bytes is None or staged.complete:
            return None
        if multipart is None or self._store.compose is None or content.length <= SINGLE_PUT_BYTES:
            return None
        pieces = list(staged.extents.pieces(0, content.length))
        table = await content.base_table()
        return plan_segments(content.length, staged.base_limit, pieces, table, size, multipart.limits)

    async def _samples_shrink(self, content: Content, compression: Compression) -> bool:
        samples = [
            await content.read(at, min(at + SAMPLE_BYTES, content.length))
            for at in sample_offsets(content.length)
        ]
        stored = await in_thread(_compressed_bytes, samples, compression.level, limiter=self._threads)
        return saves_enough(compression, sum(map(len, samples)), stored)

    async def _encode(
        self,
        content: Content,
        start: int,
        stop: int,
        packed: Packed,
        take: Callable[[_Stretch], Awaitable[None]],
    ) -> None:
        """Compress [start, stop) in several threads; `take` gets the stretches in their order."""
        size = max(STRETCH_BYTES, packed.frame_bytes)
        waiting: deque[_Stretch] = deque()

        async def encode(stretch: _Stretch, low: int, high: int) -> None:
            data = await content.read(low, high)
            stretch.data, stretch.frames = await in_thread(_encode, data, low, packed, limiter=self._threads)
            self._on_bytes(high - low)
            stretch.done.set()

        async def take_first() -> None:
            stretch = waiting.popleft()
            await stretch.done.wait()
            await take(stretch)

        async with trio.open_nursery() as nursery:
            for low, high in cut_at_multiples(start, stop, size):
                waiting.append(_Stretch())
                nursery.start_soon(encode, waiting[-1], low, high)
                if len(waiting) > self._threads.total_tokens:
                    await take_first()
            while waiting:
                await take_first()

    async def _keep(self, content: Content, frames: range, out: _Parts) -> None:
        """Take over frames of the base: by the store, but for what makes the part before large enough."""
        table, least = await content.base_table(), out.sender.limits.min_part_bytes
        base = content.base
        assert base is not None  # noqa: S101  # for the type checker: there is a table
        out.frames.extend(table.frame(number) for number in frames)
        while frames:
            low, high = table.stored_at(frames)
            lack = least - len(out.buffer) if out.buffer else 0
            if high - low >= least and lack <= 0:
                await out.flush()
                for start, stop in cut_range(low, high, COPY_PART_BYTES, out.sender.limits):
                    await out.sender.copy(content.operation.key, start, stop, base.etag)
                return
            taken = _prefix(table, frames, lack if high - low >= least else high - low)
            out.buffer += await fetch_stored(
                self._store, content.operation.key, base, *table.stored_at(taken)
            )
            await out.send_full_parts()
            frames = frames[len(taken) :]


def _encode(data: bytes, start: int, packed: Packed) -> tuple[list[bytes], list[Frame]]:
    """The frames of a stretch that begins at `start` of the content."""
    encoder = FrameEncoder(packed.level)
    with memoryview(data) as view:
        made = [
            encoder.encode(view[low - start : high - start])
            for low, high in cut_at_multiples(start, start + len(data), packed.frame_bytes)
        ]
    return [piece for piece, _ in made], [frame for _, frame in made]


def _compressed_bytes(samples: list[bytes], level: int) -> int:
    encoder = FrameEncoder(level)
    return sum(len(encoder.encode(sample)[0]) for sample in samples)


def _prefix(table: SeekTable, frames: range, least_bytes: int) -> range:
    """The fewest first frames that are stored in so many bytes, one at least."""
    count = 1
    while count < len(frames):
        low, high = table.stored_at(frames[:count])
        if high - low >= least_bytes:
            break
        count += 1
    return frames[:count]


class _Parts:
    """The object's bytes as they come, cut into parts."""

    def __init__(self, sender: PartSender, *, part_bytes: int) -> None:
        self.sender = sender
        self.buffer = bytearray()
        self.frames: list[Frame] = []
        self._part_bytes = part_bytes

    async def take(self, stretch: _Stretch) -> None:
        """The next frames."""
        self.frames.extend(stretch.frames)
        for data in stretch.data:
            self.buffer += data
        await self.send_full_parts()

    async def send_full_parts(self) -> None:
        """Send as many whole parts as there are."""
        while len(self.buffer) >= self._part_bytes:
            with memoryview(self.buffer) as view:
                body = bytes(view[: self._part_bytes])
            del self.buffer[: self._part_bytes]
            await self.sender.send(body)

    async def flush(self) -> None:
        """Send what there is as one part."""
        if self.buffer:
            body = bytes(self.buffer)
            self.buffer.clear()
            await self.sender.send(body)
