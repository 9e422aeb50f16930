"""Requests that stall, and those that wait for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from objfs.drivers.memory import MemoryStore
from objfs.errors import UnavailableError
from objfs.store import stalls
from objfs.store.forward import ForwardingStore, Request
from objfs.store.limit import LimitingStore
from objfs.store.retry import Clock, RetryingStore, RetryPolicy
from objfs.store.stalls import STALL_S, Pulse, Watch, beat, held_up, pulsing

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

T = TypeVar("T")


def test_what_moves_has_not_stalled() -> None:
    pulse = Pulse()
    watch = Watch(pulse, 100.0)
    assert not watch.has_stalled(100.0 + STALL_S / 2)
    assert watch.has_stalled(100.0 + STALL_S)
    pulse.beat()
    assert not watch.has_stalled(100.0 + STALL_S)
    assert watch.has_stalled(100.0 + 2 * STALL_S)


def test_who_waits_for_ourselves_has_not_stalled() -> None:
    with pulsing() as pulse:
        watch = Watch(pulse, 0.0)
        with held_up():
            assert not watch.has_stalled(1000.0)
        assert not watch.has_stalled(1001.0)
        assert watch.has_stalled(1001.0 + STALL_S)


def test_a_try_after_a_stalled_one_is_not_trusted_until_it_moves() -> None:
    pulse = Pulse()
    pulse.is_suspect = True
    watch = Watch(pulse, 0.0)
    assert watch.has_stalled(0.0)
    with pulsing(pulse):
        beat()
    assert not watch.has_stalled(0.0)


class Held(ForwardingStore):
    """Requests of keys that begin with `stalled` wait for an event."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.healed = threading.Event()
        self.began = threading.Semaphore(0)

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        self.began.release()
        if request.key.startswith("stalled"):
            assert self.healed.wait(30)
        return send()


def test_stalled_requests_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "STALL_S", 0.0)
    held = Held()
    store = LimitingStore(held, max_requests=4)
    with ThreadPoolExecutor(10) as pool:
        try:
            stalled = [pool.submit(store.put, f"stalled{number}", b"") for number in range(10)]
            for _ in stalled:
                assert held.began.acquire(timeout=30)
            store.put("good", b"1")
            assert store.get("good").data == b"1"
            assert not any(one.done() for one in stalled)
        finally:
            held.healed.set()
    assert all(one.result() for one in stalled)


def test_tries_of_one_request_have_one_pulse() -> None:
    seen: list[Pulse] = []

    class Failing(ForwardingStore):
        def _around(self, request: Request, send: Callable[[], T]) -> T:
            with pulsing() as pulse:
                seen.append(pulse)
            if len(seen) < 3:
                raise UnavailableError("no")
            return send()

    store = RetryingStore(
        LimitingStore(Failing(MemoryStore()), max_requests=1),
        RetryPolicy(),
        clock=Clock(sleep=lambda _seconds: None),
    )
    store.put("a", b"")
    store.put("b", b"")
    assert seen[0] is seen[1] is seen[2] is not seen[3]
