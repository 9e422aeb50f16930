"""Leaving nothing behind: whatever was written through a store is taken away again, however it ends."""

from __future__ import annotations

import signal
import threading
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from objfs.errors import ObjectStoreError
from objfs.store.forward import ForwardingStore, RequestKind
from objfs.store.retry import RetryingStore, RetryPolicy
from objfs.store.values import MAX_DELETE_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from objfs.store.forward import Request
    from objfs.store.protocol import ObjectStore

T = TypeVar("T")

_WRITES = frozenset(
    {
        RequestKind.PUT,
        RequestKind.COPY,
        RequestKind.COMPLETE,
        RequestKind.UPLOAD_PART,
        RequestKind.CREATE_UPLOAD,
    }
)
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEAN_POLICY = RetryPolicy(max_attempts=5, deadline_s=20.0)
PREFIX = ".objfs/"  # not shown in a mount


class TrackingStore(ForwardingStore):
    """Remembers the keys that it was asked to write; made by `leaving_nothing`."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        self._upload_keys: set[str] = set()

    def clean(self) -> list[str]:
        """Take everything away; returns the keys that the store would not delete."""
        store = RetryingStore(self._store, _CLEAN_POLICY)
        multipart = store.multipart
        for key in sorted(self._upload_keys):
            if multipart is not None:
                with suppress(ObjectStoreError):
                    for upload in multipart.list_uploads(key):
                        if upload.key == key:
                            multipart.abort(key, upload.upload_id)
        keys = sorted(self._keys)
        left: list[str] = []
        for start in range(0, len(keys), MAX_DELETE_KEYS):
            batch = keys[start : start + MAX_DELETE_KEYS]
            try:
                left += [failure.key for failure in store.delete(batch)]
            except ObjectStoreError:
                left += batch
        return left

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        if request.kind in _WRITES:
            with self._lock:
                uploads = request.kind in (RequestKind.CREATE_UPLOAD, RequestKind.UPLOAD_PART)
                (self._upload_keys if uploads else self._keys).add(request.key)
        return send()


@contextmanager
def leaving_nothing(store: ObjectStore, on_left: Callable[[list[str]], None]) -> Iterator[TrackingStore]:
    """A store for trials; what they wrote is gone afterwards, also after Ctrl-C or SIGTERM.

    The first such signal ends the block with KeyboardInterrupt, further ones are ignored while it cleans up.

    Args:
        store: to write to.
        on_left: is told the keys that could not be deleted, if any.
    """
    tracking = TrackingStore(store)
    with _signals_once():
        try:
            yield tracking
        finally:
            _ignore_signals()
            left = tracking.clean()
            if left:
                on_left(left)


def trial_prefix(kind: str) -> str:
    """A new prefix, that nobody else uses."""
    return f"{PREFIX}{kind}-{uuid.uuid4().hex}"


@contextmanager
def _signals_once() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        _ignore_signals()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    for number in _STOP_SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
