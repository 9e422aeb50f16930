"""Faults on purpose: what a store may do to us, by an explicit or a seeded plan."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeVar, cast

from objfs.store.forward import ForwardingStore, Request
from objfs.store.values import Blob, ObjectInfo, Part, Version

if TYPE_CHECKING:
    from objfs.errors import ObjectStoreError
    from objfs.store.protocol import ObjectStore

T = TypeVar("T")


class BodyFault(Enum):
    """What becomes of the bytes of a GET, silently."""

    TRUNCATE = "truncate"
    FLIP = "flip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        delay_s: wait before it is sent.
        before: error raised in place of sending it.
        after: error raised once it took effect (a lost answer).
        retry_after_s: the wait that the error asks for.
        body: damage to the bytes of a GET.
        etag: told in place of the true ETag.
    """

    delay_s: float = 0.0
    before: type[ObjectStoreError] | None = None
    after: type[ObjectStoreError] | None = None
    retry_after_s: float | None = None
    body: BodyFault | None = None
    etag: str | None = None


FaultPlan = Callable[[int, Request], Fault | None]
"""Tells the fault of the n-th request (from 0), or None."""


def no_faults(_number: int, _request: Request) -> Fault | None:
    """The plan of a good store."""
    return None


def faults_at(faults: Mapping[int, Fault]) -> FaultPlan:
    """Faults of requests by their number."""
    return lambda number, _request: faults.get(number)


def random_faults(seed: int, rate: float, faults: Sequence[Fault]) -> FaultPlan:
    """One of `faults` for a share `rate` of all requests; which ones depends on seed and number alone."""

    def plan(number: int, _request: Request) -> Fault | None:
        dice = random.Random(f"{seed}/{number}")  # noqa: S311  # repeatable, not secret
        return dice.choice(faults) if dice.random() < rate else None

    return plan


class FaultyStore(ForwardingStore):
    """Sends requests on, with the faults of a plan."""

    def __init__(
        self,
        store: ObjectStore,
        plan: FaultPlan = no_faults,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(store)
        self.plan = plan
        self._sleep = sleep
        self._lock = threading.Lock()
        self._requests = 0

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        with self._lock:
            fault = self.plan(self._requests, request)
            self._requests += 1
        if fault is None:
            return send()
        if fault.delay_s:
            self._sleep(fault.delay_s)
        _raise(fault.before, fault, request)
        answer = send()
        _raise(fault.after, fault, request)
        return cast("T", _damage(answer, fault))


def _raise(kind: type[ObjectStoreError] | None, fault: Fault, request: Request) -> None:
    if kind is not None:
        raise kind("A fault on purpose.", key=request.key, retry_after_s=fault.retry_after_s)


def _damage(answer: object, fault: Fault) -> object:
    if isinstance(answer, Blob):
        info = cast("ObjectInfo", _damage(answer.info, fault))
        return Blob(info=info, data=_damage_body(answer.data, fault.body))
    if fault.etag is None:
        return answer
    if isinstance(answer, ObjectInfo):
        return replace(answer, version=replace(answer.version, etag=fault.etag))
    return replace(answer, etag=fault.etag) if isinstance(answer, (Version, Part)) else answer


def _damage_body(data: bytes, fault: BodyFault | None) -> bytes:
    if fault is None or not data:
        return data
    return data[:-1] if fault is BodyFault.TRUNCATE else bytes([data[0] ^ 0xFF]) + data[1:]
