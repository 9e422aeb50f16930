"""Counts of what is asked of a store."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from objfs.observe.histogram import Durations, Histogram
from objfs.store.forward import ForwardingMultipart, ForwardingStore, RequestKind
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.transfers import Transfers
from objfs.store.values import ANY, Blob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from objfs.store.forward import Request
    from objfs.store.protocol import MultipartApi, ObjectStore
    from objfs.store.values import Body, Condition, Part, PutOptions, Version

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindCounts:
    """Counts of one kind of request.

    Attributes:
        requests: number of those that were answered, or failed.
        running: under way at that moment.
        errors: number of failures by the name of the error's class.
        durations: how long they took, from the first byte sent to the last one received.
        retries: requests of this kind that repeated an earlier one.
    """

    requests: int = 0
    running: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    durations: Durations = field(default_factory=Durations)
    retries: int = 0


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
    running: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    durations: Histogram = field(default_factory=Histogram)
    retries: int = 0


class CountingStore(ForwardingStore):
    """Counts requests, bytes, time and errors by kind of request, and knows how far uploads are."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.transfers = Transfers()
        self._lock = threading.Lock()
        self._tallies: dict[RequestKind, _Tally] = {}
        if store.multipart is not None:
            self._multipart = _CountingMultipart(store.multipart, self)

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        try:
            return super().put(key, self.transfers.watch(key, body), options=options, condition=condition)
        finally:
            self.transfers.done(key)

    def retried(self, kind: RequestKind) -> None:
        """A request is about to be repeated."""
        with self._lock:
            self._tally(kind).retries += 1

    def snapshot(self) -> StoreCounts:
        """The counts so far."""
        with self._lock:
            return StoreCounts(kinds={kind: _freeze(tally) for kind, tally in self._tallies.items()})

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        with self._lock:
            self._tally(request.kind).running += 1
        start_s = time.perf_counter()
        try:
            answer = send()
        except Exception as error:
            self._add(request, 0, time.perf_counter() - start_s, type(error).__name__)
            raise
        except BaseException:
            with self._lock:
                self._tally(request.kind).running -= 1
            raise
        received_bytes = len(answer.data) if isinstance(answer, Blob) else 0
        self._add(request, received_bytes, time.perf_counter() - start_s, None)
        return answer

    def _add(self, request: Request, received_bytes: int, busy_s: float, error: str | None) -> None:
        with self._lock:
            tally = self._tally(request.kind)
            tally.running -= 1
            tally.durations.add(busy_s)
            tally.sent_bytes += request.sent_bytes
            tally.received_bytes += received_bytes
            if error is not None:
                tally.errors[error] += 1

    def _tally(self, kind: RequestKind) -> _Tally:
        return self._tallies.setdefault(kind, _Tally())


class _CountingMultipart(ForwardingMultipart):
    """Also watches parts on their way."""

    def __init__(self, api: MultipartApi, owner: CountingStore) -> None:
        super().__init__(api, owner)
        self._transfers = owner.transfers

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        self._transfers.done(key)
        return super().create(key, options=options)

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """See `MultipartApi`."""
        return super().upload_part(key, upload_id, number, self._transfers.watch(key, body, number))

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        try:
            return super().complete(key, upload_id, parts, condition=condition)
        finally:
            self._transfers.done(key)

    def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        self._transfers.done(key)
        super().abort(key, upload_id)


def _freeze(tally: _Tally) -> KindCounts:
    durations = tally.durations.freeze()
    return KindCounts(
        requests=durations.count,
        running=tally.running,
        sent_bytes=tally.sent_bytes,
        received_bytes=tally.received_bytes,
        errors=dict(tally.errors),
        durations=durations,
        retries=tally.retries,
    )
