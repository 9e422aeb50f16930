"""How many operations go out at a time, and when: programs first, and gently while the store is away."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from objfs.store.values import MAX_DELETE_KEYS

if TYPE_CHECKING:
    from objfs.upload.outage import Outage
    from objfs.upload.ready import Line, ReadyQueue

BUSY_S = 0.25  # a program changed something so lately that it is probably not done
BUSY_PATIENCE_S = 4.0  # changes rest so much longer meanwhile
BUSY_OPERATIONS = 3  # under way meanwhile: programs first, they share processor and interpreter with uploads
COMPANY_S = 1.0  # while a program is removing, deletes wait so long for others, which come so much earlier


class Pace:
    """Room for operations at an instant.

    Args:
        slots: most operations under way at a time.
        outage: whether the store is away.
        now: trio time.
        touched_at: trio time at which a program last changed something.
        removed_at: trio time at which a program last removed something.
        hurried: somebody waits for everything.
        awaited: somebody waits for something.
    """

    def __init__(
        self,
        slots: int,
        outage: Outage,
        *,
        now: float,
        touched_at: float,
        removed_at: float,
        hurried: bool,
        awaited: bool,
    ) -> None:
        self._outage = outage
        self._now = now
        self._touched_at = touched_at
        self._busy = not hurried and now - touched_at < BUSY_S
        self._hurried = hurried
        self._removed_until = -math.inf if hurried or awaited else removed_at + BUSY_S
        if outage.lasts:
            slots = 1
        elif self._busy:
            slots = min(slots, BUSY_OPERATIONS)
        self.slots = slots

    def deletes(self, waiting: Line) -> int:
        """Most deletes to begin at once: none while more are to be expected, which can go in one request."""
        if not self._hurried and self._departs_at(waiting) + self.patience_s > self._now:
            return 0
        return 1 if self._outage.lasts else MAX_DELETE_KEYS

    @property
    def patience_s(self) -> float:
        """How much longer changes rest."""
        return BUSY_PATIENCE_S if self._busy else 0.0

    def begins_at(self, ready: ReadyQueue) -> float:
        """Trio time to look for work while there is room for it; infinite if a change will tell."""
        first = ready.others.next_start()
        start = min(math.inf if first is None else first, self._departs_at(ready.deletes))
        if math.isinf(start):
            return math.inf
        if self._busy:
            start = min(start + BUSY_PATIENCE_S, self._touched_at + BUSY_S)
        return max(start, self._outage.probe_at, self._now + 0.01)

    def room(self, under_way: int) -> int:
        """How many operations may begin now."""
        return 0 if self._now < self._outage.probe_at else max(0, self.slots - under_way)

    def _departs_at(self, waiting: Line) -> float:
        """Trio time at which waiting deletes go, all together."""
        start = waiting.next_start()
        if start is None:
            return math.inf
        if len(waiting) >= MAX_DELETE_KEYS:
            return start
        return max(start, min(start + COMPANY_S, self._removed_until))
