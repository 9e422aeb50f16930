"""Sets of byte ranges: which bytes of a file are staged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Extents:
    """A set of disjoint half-open ranges [start, stop), kept sorted and merged."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._stops, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Extents({list(self)})"

    @property
    def total_bytes(self) -> int:
        """Number of bytes in the set."""
        return sum(self._stops) - sum(self._starts)

    def add(self, start: int, stop: int) -> int:
        """Add a range, merging neighbours; returns how many bytes are new in the set."""
        if start >= stop:
            return 0
        if self._stops and self._stops[-1] == start:  # an appending writer, by far the most common
            self._stops[-1] = stop
            return stop - start
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        covered = sum(self._stops[first:last]) - sum(self._starts[first:last])
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        return stop - start - covered

    def cut(self, length: int) -> None:
        """Forget all bytes from `length` on."""
        keep = bisect_left(self._starts, length)
        del self._starts[keep:], self._stops[keep:]
        if self._stops and self._stops[-1] > length:
            self._stops[-1] = length

    def covers(self, start: int, stop: int) -> bool:
        """Whether every byte of [start, stop) is in the set."""
        if start >= stop:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._stops[at] >= stop

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
        """[start, stop) cut into (start, stop, is in the set), in order."""
        at = bisect_right(self._stops, start)
        while start < stop:
            if at == len(self._starts) or self._starts[at] >= stop:
                yield start, stop, False
                return
            if self._starts[at] > start:
                yield start, self._starts[at], False
                start = self._starts[at]
            end = min(stop, self._stops[at])
            yield start, end, True
            start = end
            at += 1

    def copy(self) -> Extents:
        """An independent copy."""
        twin = Extents()
        twin._starts, twin._stops = self._starts[:], self._stops[:]
        return twin
