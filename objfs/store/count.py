"""Counts of what is asked of a store."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from objfs.store.forward import ForwardingStore, RequestKind
from objfs.store.values import Blob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from objfs.store.forward import Request
    from objfs.store.protocol import ObjectStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCounts:
    """Counts of one kind of request.

    Attributes:
        errors: number of failures by the name of the error's class.
        busy_s: seconds spent in these requests, summed over threads.
    """

    requests: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    busy_s: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCounts:
    """Counts at one moment, for the kinds that were asked for at all."""

    kinds: Mapping[RequestKind, KindCounts]

    def of(self, kind: RequestKind) -> KindCounts:
        """Counts of a kind, zeros if there was no such request."""
        return self.kinds.get(kind, KindCounts())

    @property
    def requests(self) -> int:
        """Number of requests of all kinds."""
        return sum(counts.requests for counts in self.kinds.values())


@dataclass(slots=True)
class _Tally:
    requests: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    busy_s: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)


class CountingStore(ForwardingStore):
    """Counts requests, bytes, time and errors by kind of request."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self._tallies: dict[RequestKind, _Tally] = {}

    def snapshot(self) -> StoreCounts:
        """The counts so far."""
        with self._lock:
            return StoreCounts(kinds={kind: _freeze(tally) for kind, tally in self._tallies.items()})

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        start_s = time.monotonic()
        try:
            answer = send()
        except Exception as error:
            self._add(request, 0, time.monotonic() - start_s, type(error).__name__)
            raise
        received_bytes = len(answer.data) if isinstance(answer, Blob) else 0
        self._add(request, received_bytes, time.monotonic() - start_s, None)
        return answer

    def _add(self, request: Request, received_bytes: int, busy_s: float, error: str | None) -> None:
        with self._lock:
            tally = self._tallies.setdefault(request.kind, _Tally())
            tally.requests += 1
            tally.sent_bytes += request.sent_bytes
            tally.received_bytes += received_bytes
            tally.busy_s += busy_s
            if error is not None:
                tally.errors[error] += 1


def _freeze(tally: _Tally) -> KindCounts:
    return KindCounts(
        requests=tally.requests,
        sent_bytes=tally.sent_bytes,
        received_bytes=tally.received_bytes,
        busy_s=tally.busy_s,
        errors=dict(tally.errors),
    )
