"""Bounds on the requests in flight, and on requests and bytes per second."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from objfs.store.forward import ForwardingStore, RequestKind
from objfs.store.values import Blob

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.store.forward import Request
    from objfs.store.pace import Traffic
    from objfs.store.protocol import ObjectStore

T = TypeVar("T")

_BULK = frozenset({RequestKind.GET, RequestKind.PUT, RequestKind.UPLOAD_PART})  # with bodies: may take long
_METADATA = frozenset({RequestKind.HEAD, RequestKind.LIST})  # a program waits for each


class LimitingStore(ForwardingStore):
    """Lets at most `max_requests` requests be under way; more wait in their threads.

    A quarter of them is never taken by bodies, so that slow transfers leave room for lookups.
    """

    def __init__(self, store: ObjectStore, *, max_requests: int) -> None:
        super().__init__(store)
        self._slots = threading.BoundedSemaphore(max_requests)
        self._bulk_slots = threading.BoundedSemaphore(max_requests - max_requests // 4)

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        with ExitStack() as held:
            if request.kind in _BULK:
                held.enter_context(self._bulk_slots)
            held.enter_context(self._slots)
            return send()


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
