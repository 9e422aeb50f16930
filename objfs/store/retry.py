"""Retries of requests that may succeed a little later."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from objfs.errors import (
    CorruptError,
    NotFoundError,
    ObjectStoreError,
    PermissionDeniedError,
    UploadNotFoundError,
)
from objfs.store.forward import ForwardingStore, Request, RequestKind
from objfs.store.known import hidden, tells
from objfs.store.stalls import pulsing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from objfs.store.protocol import ObjectStore
    from objfs.store.values import DeleteFailure

T = TypeVar("T")

_NEVER_REPEATED = frozenset({RequestKind.CREATE_UPLOAD})  # the first may have begun one that nobody knows of

_WRITES = frozenset({RequestKind.PUT, RequestKind.COPY, RequestKind.COMPLETE})
_MOMENTARY_TRIES = 6  # about 1.5 s
_MOST_DOUBLINGS = 64  # beyond any delay; keeps the power within a float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to try again: exponential back-off with full jitter, within a deadline.

    Attributes:
        max_attempts: tries in all; None: as many as the deadline allows.
        first_delay_s: upper bound of the first wait; it doubles with each.
        max_delay_s: greatest upper bound.
        deadline_s: no try begins later than this after the first. 0 means one try.
    """

    max_attempts: int | None = None
    first_delay_s: float = 0.1
    max_delay_s: float = 10.0
    deadline_s: float = 60.0

    def delay_s(self, attempt: int, *, chance: float, retry_after_s: float | None) -> float:
        """The wait after try number `attempt` (from 1); `chance` is uniform in [0, 1)."""
        doublings = min(attempt - 1, _MOST_DOUBLINGS)
        bound_s = min(self.max_delay_s, self.first_delay_s * 2.0**doublings)
        return bound_s * chance + (retry_after_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and chance, so that tests need neither."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = field(default=random.random)


class RetryingStore(ForwardingStore):
    """Repeats requests whose errors are retryable, and a few times those that may be refused for a moment.

    An error after a repeat has `after_retry` set: a conditional write that then fails with
    PreconditionFailedError, or a completion with NotFoundError, may have met its own lost success. Who wrote
    tells that by what it put into the metadata.
    """

    def __init__(
        self,
        store: ObjectStore,
        policy: RetryPolicy | None = None,
        *,
        clock: Clock | None = None,
        on_retry: Callable[[RequestKind], None] | None = None,
    ) -> None:
        super().__init__(store)
        self._policy = policy or RetryPolicy()
        self._clock = clock or Clock()
        self._on_retry = on_retry

    def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `ObjectStore`. Keys of a batch that failed for a while are tried again by themselves."""
        left = list(keys)
        final: list[DeleteFailure] = []

        def send() -> list[DeleteFailure]:
            failures = self._store.delete(left)
            passing = [failure for failure in failures if _is_retryable(failure.error)]
            final.extend(failure for failure in failures if failure not in passing)
            left[:] = [failure.key for failure in passing]
            if passing:
                raise _BatchError(passing)
            return final

        try:
            return self._around(Request(RequestKind.DELETE, keys[0] if keys else ""), send)
        except _BatchError as error:
            return [*final, *error.failures]

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        with pulsing():
            return self._repeat(request, send)

    def _repeat(self, request: Request, send: Callable[[], T]) -> T:
        start_s = self._clock.now()
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._send(request, send)
            except ObjectStoreError as error:
                error.after_retry = error.after_retry or attempt > 1
                wait_s = self._wait_s(attempt, request, error, self._clock.now() - start_s)
                if wait_s is None:
                    raise
            if self._on_retry is not None:
                self._on_retry(request.kind)
            self._clock.sleep(wait_s)

    def _send(self, request: Request, send: Callable[[], T]) -> T:
        """Send it once. An object that is not found, but that a listing tells, is not gone."""
        try:
            return send()
        except NotFoundError as error:
            key = request.source_key
            if not key or isinstance(error, UploadNotFoundError) or self.capabilities.file_over_prefix:
                raise
            if not tells(self._store.list(key, max_keys=1), key):
                raise
            raise hidden(key) from error

    def _wait_s(
        self, attempt: int, request: Request, error: ObjectStoreError, elapsed_s: float
    ) -> float | None:
        """How long to wait before the next try, or None to give up."""
        if error.retryable and not _is_vain(request, error):
            most = self._policy.max_attempts
        elif self._is_momentary(request, error):
            most = _MOMENTARY_TRIES
        else:
            return None
        if most is not None and attempt >= most:
            return None
        wait_s = self._policy.delay_s(attempt, chance=self._clock.chance(), retry_after_s=error.retry_after_s)
        return wait_s if elapsed_s + wait_s < self._policy.deadline_s else None

    def _is_momentary(self, request: Request, error: ObjectStoreError) -> bool:
        """Whether a refusal, final as a rule, may be one of this moment only.

        MinIO denies a write, too, while a DELETE removes the folder that the new object comes to.
        """
        is_denied = isinstance(error, PermissionDeniedError) and request.kind in _WRITES
        return is_denied and not self.capabilities.file_over_prefix


def _is_vain(request: Request, error: ObjectStoreError) -> bool:
    """Whether the same request must not, or need not, be sent again though the error may pass."""
    if request.kind is RequestKind.COMPLETE and isinstance(error, CorruptError):
        return True  # a part is not what was sent: parts have to be sent anew
    return request.kind in _NEVER_REPEATED


class _BatchError(ObjectStoreError):
    """Some keys of a batch may be deleted a little later."""

    retryable = True

    def __init__(self, failures: list[DeleteFailure]) -> None:
        super().__init__("Some keys of a batch were not deleted.")
        self.failures = failures
        waits_s = [getattr(failure.error, "retry_after_s", None) or 0.0 for failure in failures]
        self.retry_after_s = max(waits_s) or None


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, ObjectStoreError) and error.retryable
