"""Durations in log-scaled buckets: four to each doubling, so that a quantile is right within an eighth."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import frexp, ldexp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEAST_EXPONENT = -20  # 2**-20 s, about a microsecond: nothing a program waits for is faster
OCTAVES = 32  # up to 2**12 s, more than an hour: deadlines are minutes
STEPS = 4  # buckets to an octave
BUCKETS = OCTAVES * STEPS + 2  # one below and one above besides
_OFFSET = 1 - (LEAST_EXPONENT + 1) * STEPS - STEPS


class Histogram:
    """Counts durations. One writer at a time."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration above 0."""
        mantissa, exponent = frexp(seconds)  # seconds == mantissa * 2**exponent, mantissa in [0.5, 1)
        at = exponent * STEPS + int(mantissa * (2 * STEPS)) + _OFFSET
        if 0 <= at < BUCKETS:
            self.counts[at] += 1
        else:
            self.counts[0 if at < 0 else BUCKETS - 1] += 1
        self.total_s += seconds

    def freeze(self) -> Durations:
        """What was counted so far."""
        counts = {at: count for at, count in enumerate(self.counts) if count}
        return Durations(counts=counts, total_s=self.total_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Counted durations: number by bucket (those with none are left out), and their sum."""

    counts: Mapping[int, int] = field(default_factory=dict)
    total_s: float = 0.0

    @property
    def count(self) -> int:
        """How many."""
        return sum(self.counts.values())

    def since(self, earlier: Durations) -> Durations:
        """What was counted after `earlier`."""
        counts = {at: count - earlier.counts.get(at, 0) for at, count in self.counts.items()}
        return Durations(
            counts={at: count for at, count in counts.items() if count > 0},
            total_s=max(0.0, self.total_s - earlier.total_s),
        )

    def quantile_s(self, share: float) -> float | None:
        """The duration that a share (0 to 1) of all does not exceed, or None of none."""
        wanted = share * self.count
        seen = 0
        for at in sorted(self.counts):
            count = self.counts[at]
            if seen + count >= wanted:
                low, high = bounds_s(at)
                return low + (high - low) * (wanted - seen) / count
            seen += count
        return None

    def below(self, exponents: Iterable[int]) -> list[tuple[float, int]]:
        """(2**exponent seconds, how many took less) for rising exponents."""
        found = []
        for exponent in exponents:
            stop = (exponent - LEAST_EXPONENT) * STEPS + 1
            found.append((ldexp(1.0, exponent), sum(n for at, n in self.counts.items() if at < stop)))
        return found


def together(many: Iterable[Durations]) -> Durations:
    """Several sets of durations as one."""
    counts: dict[int, int] = {}
    total_s = 0.0
    for one in many:
        total_s += one.total_s
        for at, count in one.counts.items():
            counts[at] = counts.get(at, 0) + count
    return Durations(counts=counts, total_s=total_s)


def bounds_s(at: int) -> tuple[float, float]:
    """The least duration of a bucket, and that of the next one."""
    if at <= 0:
        return 0.0, ldexp(1.0, LEAST_EXPONENT)
    octave, step = divmod(at - 1, STEPS)
    least = ldexp(1.0, LEAST_EXPONENT + octave)
    return least * (1 + step / STEPS), least * (1 + (step + 1) / STEPS)
