"""Bounds on the requests in flight, and on requests and bytes per second."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from objfs.store.forward import ForwardingStore, RequestKind
from objfs.store.stalls import LOOK_S, MAX_STALLED, Watch, current_errand, held_up, pulsing
from objfs.store.values import Blob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from objfs.store.forward import Request
    from objfs.store.pace import Traffic
    from objfs.store.protocol import ObjectStore
    from objfs.store.stalls import Pulse

T = TypeVar("T")

_BULK = frozenset({RequestKind.GET, RequestKind.PUT, RequestKind.UPLOAD_PART})  # with bodies: may take long
_METADATA = frozenset({RequestKind.HEAD, RequestKind.LIST})  # a program waits for each


class LimitingStore(ForwardingStore):
    """Lets at most `max_requests` requests be under way; more wait in their threads.

    A quarter of them is never taken by bodies, so that slow transfers leave room for lookups. Requests that
    have stalled do not count, up to `MAX_STALLED`.
    """

    def __init__(self, store: ObjectStore, *, max_requests: int) -> None:
        super().__init__(store)
        self._slots = _Slots(max_requests)
        self._bulk_slots = _Slots(max_requests - max_requests // 4)

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        with ExitStack() as held:
            pulse = held.enter_context(pulsing())
            if request.kind in _BULK:
                held.enter_context(self._bulk_slots.held(pulse))
            held.enter_context(self._slots.held(pulse))
            return send()


class _Slots:
    """Slots of requests under way; one that has stalled gives its slot away."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._freed = threading.Condition()
        self._under_way: set[Watch] = set()

    @contextmanager
    def held(self, pulse: Pulse) -> Iterator[None]:
        """Wait for a slot, and have it in here."""
        with self._freed:
            with held_up():
                while not self._is_free(pulse):
                    self._freed.wait(LOOK_S)
            watch = Watch(pulse, time.monotonic())
            self._under_way.add(watch)
        try:
            with current_errand().watched(watch):
                yield
        finally:
            with self._freed:
                pulse.is_suspect = watch.has_stalled(time.monotonic())
                self._under_way.discard(watch)
                self._freed.notify()

    def _is_free(self, pulse: Pulse) -> bool:
        count = len(self._under_way)
        if count < self._most or count >= self._most + MAX_STALLED:
            return count < self._most
        if pulse.is_suspect:
            return True
        now_s = time.monotonic()
        return sum(not watch.has_stalled(now_s) for watch in self._under_way) < self._most


class PacingStore(ForwardingStore):
    """Keeps to the rates of `traffic`. HEAD and LIST go before requests with bodies.

    Drivers that pace bodies themselves, piece by piece, say so in their capabilities; for the others a body
    counts as a whole: before it is sent, and after it was received.
    """

    def __init__(self, store: ObjectStore, traffic: Traffic) -> None:
        super().__init__(store)
        self._traffic = traffic

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        traffic = self._traffic
        traffic.requests.take(1, urgent=request.kind in _METADATA)
        if self.capabilities.paces_bodies:
            return send()
        traffic.upload.take(request.sent_bytes)
        answer = send()
        if isinstance(answer, Blob):
            traffic.download.take(len(answer.data))
        return answer
