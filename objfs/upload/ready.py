"""Operations that wait for no other, by the time at which they may start: pure bookkeeping."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

from objfs.upload.operations import Kind

if TYPE_CHECKING:
    from objfs.upload.operations import Operation


class Line:
    """Free operations. One that is held, or of which a later start was set, is passed over."""

    def __init__(self) -> None:
        self._free: set[Operation] = set()
        self._starts: list[tuple[float, int, int, Operation]] = []  # heap by start; entries may be stale
        self._pushes = itertools.count()

    def __len__(self) -> int:
        return len(self._free)

    def clear(self) -> None:
        """Forget all."""
        self._free.clear()
        self._starts.clear()

    def add(self, operation: Operation) -> None:
        """It waits for no other."""
        self._free.add(operation)
        self.reschedule(operation)

    def discard(self, operation: Operation) -> None:
        """It does not wait to be started, or not any more."""
        self._free.discard(operation)

    def reschedule(self, operation: Operation) -> None:
        """Its start, or whether it is held, was changed."""
        if operation in self._free and not operation.held:
            entry = (operation.not_before, operation.seq, next(self._pushes), operation)
            heapq.heappush(self._starts, entry)

    def next_start(self) -> float | None:
        """Trio time at which the next one may start, or None if there is none."""
        while self._starts and not self._is_current(self._starts[0]):
            heapq.heappop(self._starts)
        return self._starts[0][0] if self._starts else None

    def take(self, now: float, limit: int, *, rested: float, impatient: bool) -> list[Operation]:
        """Take out what may start now, in order.

        Args:
            now: trio time.
            limit: most operations.
            rested: what was to start until then has rested long enough.
            impatient: do not let changes settle first.
        """
        chosen: list[Operation] = []
        passed: list[Operation] = []
        while len(chosen) < limit and (impatient or self._is_due(rested)):
            operation = self._pop()
            if operation is None:
                break
            if operation.not_before <= min(now, rested) or not operation.attempts:
                self._free.discard(operation)
                chosen.append(operation)
            else:
                passed.append(operation)
        for operation in passed:
            self.reschedule(operation)
        return chosen

    def _is_current(self, entry: tuple[float, int, int, Operation]) -> bool:
        not_before, seq, _, operation = entry
        return (
            operation in self._free
            and not operation.held
            and (operation.not_before, operation.seq) == (not_before, seq)
        )

    def _is_due(self, now: float) -> bool:
        start = self.next_start()
        return start is not None and start <= now

    def _pop(self) -> Operation | None:
        return heapq.heappop(self._starts)[-1] if self.next_start() is not None else None


class ReadyQueue:
    """Free operations in two lines: deletes, which go together, and all others."""

    def __init__(self) -> None:
        self.deletes = Line()
        self.others = Line()

    def clear(self) -> None:
        """Forget all."""
        self.deletes.clear()
        self.others.clear()

    def add(self, operation: Operation) -> None:
        """See `Line`."""
        self._line(operation).add(operation)

    def discard(self, operation: Operation) -> None:
        """See `Line`."""
        self._line(operation).discard(operation)

    def reschedule(self, operation: Operation) -> None:
        """See `Line`."""
        self._line(operation).reschedule(operation)

    def _line(self, operation: Operation) -> Line:
        return self.deletes if operation.kind is Kind.DELETE else self.others
