"""One budget for buffers and one for requests: who is waited for goes first, reading ahead yields."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from objfs.store.stalls import LOOK_S, MAX_STALLED, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.store.stalls import Pulse


@dataclass(eq=False, slots=True)
class _Ticket:
    """A demand in line for bytes."""

    need_bytes: int
    granted: trio.Event = field(default_factory=trio.Event)


class Budget:
    """Bytes of buffers; `used_bytes` never exceeds `limit_bytes`.

    Progress: no demand needs more than a quarter of the limit, every fetch under way ends, and every buffer
    that nobody is copying from at this instant can be evicted.
    """

    def __init__(self, *, limit_bytes: int, evict: Callable[[int, bool], None]) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._evict = evict
        self._line: deque[_Ticket] = deque()
        self._is_granting = False

    def try_charge(self, need_bytes: int, *, urgent: bool = False) -> bool:
        """Charge bytes if nobody waits and room can be made; `urgent` may evict what was fetched ahead."""
        if self._line or not self._has_room(need_bytes, urgent=urgent):
            return False
        self._charge(need_bytes)
        return True

    async def charge(self, need_bytes: int) -> None:
        """Charge bytes, waiting for room in line."""
        ticket = _Ticket(need_bytes)
        self._line.append(ticket)
        self.wake()
        try:
            await ticket.granted.wait()
        except BaseException:
            if ticket.granted.is_set():
                self.release(need_bytes)
            else:
                self._line.remove(ticket)
                self.wake()
            raise

    def release(self, count_bytes: int) -> None:
        """Give bytes back."""
        self.used_bytes -= count_bytes
        self.wake()

    def wake(self) -> None:
        """Serve the line: bytes were released, or a buffer can be evicted that could not before."""
        if self._is_granting:  # evicting releases, which comes back here
            return
        self._is_granting = True
        try:
            while self._line and self._has_room(self._line[0].need_bytes, urgent=True):
                ticket = self._line.popleft()
                self._charge(ticket.need_bytes)
                ticket.granted.set()
        finally:
            self._is_granting = False

    def _has_room(self, need_bytes: int, *, urgent: bool) -> bool:
        lack = self.used_bytes + need_bytes - self.limit_bytes
        if lack > 0:
            self._evict(lack, urgent)
        return self.used_bytes + need_bytes <= self.limit_bytes

    def _charge(self, need_bytes: int) -> None:
        self.used_bytes += need_bytes
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)


class Wanted(Protocol):
    """A fetch of an object that may be waited for, now or later."""

    @property
    def is_wanted(self) -> bool: ...

    @property
    def object_id(self) -> str: ...

    @property
    def pulse(self) -> Pulse: ...


class RequestSlots:
    """Requests under way. Fetches that somebody waits for are served first.

    A quarter is kept from fetching ahead, and from any one object: one that stalls does not stop the others.
    Of many objects that stall, none keeps its slot: requests that have stalled do not count, up to
    `MAX_STALLED`.
    """

    def __init__(self, max_requests: int) -> None:
        self._running: dict[Wanted, Watch] = {}
        self._running_of: Counter[str] = Counter()
        self._max_requests = max_requests
        self._max_share = max(1, max_requests - max(1, max_requests // 4))
        self._line: list[tuple[Wanted, trio.Event]] = []

    @property
    def running(self) -> int:
        """Number of requests under way."""
        return len(self._running)

    @property
    def is_crowded(self) -> bool:
        """Whether so many are in line that nothing should be fetched ahead."""
        return len(self._line) >= self._max_requests

    async def acquire(self, fetch: Wanted) -> None:
        """Wait for a request slot."""
        granted = trio.Event()
        self._line.append((fetch, granted))
        self.wake()
        try:
            while not granted.is_set():
                with trio.move_on_after(LOOK_S):
                    await granted.wait()
                self.wake()
        except BaseException:
            if granted.is_set():
                self.release(fetch)
            else:
                self._line.remove((fetch, granted))
            raise

    def release(self, fetch: Wanted) -> None:
        """The fetch's request has ended."""
        del self._running[fetch]
        self._running_of[fetch.object_id] -= 1
        if self._running_of[fetch.object_id] == 0:
            del self._running_of[fetch.object_id]
        self.wake()

    def wake(self) -> None:
        """Serve the line; also when somebody has begun to wait for a fetch in it."""
        while self._line and (next_up := self._next()) is not None:
            self._line.remove(next_up)
            fetch, granted = next_up
            self._running[fetch] = Watch(fetch.pulse, trio.current_time())
            self._running_of[fetch.object_id] += 1
            granted.set()

    def _next(self) -> tuple[Wanted, trio.Event] | None:
        moving = self._moving()
        if moving >= self._max_requests or self.running >= self._max_requests + MAX_STALLED:
            return None
        allowed = [entry for entry in self._line if self._running_of[entry[0].object_id] < self._max_share]
        wanted = next((entry for entry in allowed if entry[0].is_wanted), None)
        if wanted is None and allowed and moving < self._max_share:
            return allowed[0]
        return wanted

    def _moving(self) -> int:
        now_s = trio.current_time()
        return sum(not watch.has_stalled(now_s) for watch in self._running.values())
