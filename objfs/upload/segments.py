"""What of a compressed base can stay as it is when its file was changed: pure planning, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from objfs.codec.table import SeekTable
    from objfs.store.values import MultipartLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Bytes [start, stop) of the content: to be compressed, or (kept) those frames of the base."""

    start: int
    stop: int
    kept: range | None = None


def plan_segments(
    length: int,
    base_limit: int,
    staged: Iterable[tuple[int, int, bool]],
    table: SeekTable,
    frame_bytes: int,
    limits: MultipartLimits,
) -> list[Segment] | None:
    """The new content cut into what is compressed anew and what the store copies.

    None if there is no run of untouched frames long enough to be a part: then all is compressed anew.

    Args:
        length: new length of the content.
        base_limit: how much of the base shows through.
        staged: the new content cut into (start, stop, is staged), in order.
        table: of the base.
        frame_bytes: content of a frame as we make them; the next one begins at a multiple of it.
        limits: of the store.
    """
    if limits.equal_parts:
        return None
    segments: list[Segment] = []
    at = 0
    for start, stop, is_staged in staged:
        stop = min(stop, base_limit)
        kept = None if is_staged or start >= stop else _untouched(table, start, stop, frame_bytes, length)
        if kept is None or _stored_bytes(table, kept) < limits.min_part_bytes:
            continue
        low, high = table.content_at(kept)
        if at < low:
            segments.append(Segment(start=at, stop=low))
        segments.append(Segment(start=low, stop=high, kept=kept))
        at = high
    if at < length:
        segments.append(Segment(start=at, stop=length))
    if not any(segment.kept for segment in segments) or 2 * len(segments) > limits.max_parts // 2:
        return None
    return segments


def cut_at_multiples(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """[start, stop) cut at the multiples of a size."""
    while start < stop:
        end = min(stop, start - start % size + size)
        yield start, end
        start = end


def _untouched(table: SeekTable, start: int, stop: int, frame_bytes: int, length: int) -> range | None:
    """The frames wholly within [start, stop); a short one at the end is made anew with what follows."""
    frames = table.covering(start, min(stop, table.content_bytes))
    first, last = frames.start, frames.stop
    if first < last and table.content_at(frames[:1])[0] < start:
        first += 1
    if first < last and table.content_at(range(last - 1, last))[1] > stop:
        last -= 1
    while first < last and (end := table.content_at(range(last - 1, last))[1]) % frame_bytes and end < length:
        last -= 1
    return range(first, last) if first < last else None


def _stored_bytes(table: SeekTable, frames: range) -> int:
    low, high = table.stored_at(frames)
    return high - low
