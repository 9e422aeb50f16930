"""A bound on the requests in flight."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from objfs.store.forward import ForwardingStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.store.forward import Request
    from objfs.store.protocol import ObjectStore

T = TypeVar("T")


class LimitingStore(ForwardingStore):
    """Lets at most `max_requests` requests be under way; more wait in their threads."""

    def __init__(self, store: ObjectStore, *, max_requests: int) -> None:
        super().__init__(store)
        self._slots = threading.BoundedSemaphore(max_requests)

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        with self._slots:
            return send()
