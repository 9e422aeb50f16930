"""Rates: exact in their sum, in order, changeable; lookups first."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from objfs.config.quantities import parse_rate, parse_request_rate, show_rate
from objfs.drivers.memory import MemoryStore
from objfs.store.forward import ForwardingStore, Request, RequestKind
from objfs.store.limit import LimitingStore, PacingStore
from objfs.store.pace import BURST_S, Bucket, Rates, Traffic, receive_paced
from objfs.store.registry import open_store
from objfs.store.urls import StoreOptions
from objfs.store.values import KIB, MIB, FileSlice
from tests.servers import bucket_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    from tests.servers import Server

    T = TypeVar("T")


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def a_bucket(rate_s: float | None) -> tuple[Bucket, Clock]:
    clock = Clock()
    return Bucket(rate_s, now=clock.now, sleep=clock.sleep), clock


def test_a_rate_is_kept_whatever_the_pieces() -> None:
    for piece in (1, 1000, 70_000, 5_000_000):
        bucket, clock = a_bucket(1_000_000)
        for _ in range(2000):
            bucket.take(piece * 100)
        assert clock.now_s - 1000.0 == pytest.approx(piece / 5 - BURST_S, abs=1e-6)


def test_an_idle_line_saves_up_a_burst_and_no_more() -> None:
    bucket, clock = a_bucket(100)
    clock.sleep(3600)
    bucket.take(100)
    assert clock.now_s - 4600.0 == pytest.approx(1.0 - BURST_S)


def test_without_a_limit_nothing_waits_and_a_limit_counts_from_when_it_is_set() -> None:
    bucket, clock = a_bucket(None)
    bucket.take(1e12)
    assert clock.now_s == 1000.0
    bucket.set_rate(10)
    bucket.take(10)
    assert clock.now_s == pytest.approx(1001.0 - BURST_S)
    bucket.set_rate(None)
    bucket.take(1e12)
    assert clock.now_s == pytest.approx(1001.0 - BURST_S)


def test_what_is_urgent_waits_for_its_like_only() -> None:
    waits: list[float] = []
    bucket = Bucket(10, now=lambda: 50.0, sleep=waits.append)
    for _ in range(100):
        bucket.take(1)
    bucket.take(1, urgent=True)
    bucket.take(1, urgent=True)
    bucket.take(1)
    assert waits[-1] == pytest.approx(103 / 10 - BURST_S), "the sum is kept"
    assert len(waits) == 99 + 1 + 1, "the first of each kind is in the burst, and one urgent one waits"
    assert waits[-2] == pytest.approx(0.1)


def test_a_paced_body_arrives_in_small_pieces() -> None:
    bucket, clock = a_bucket(1 * MIB)
    asked: list[int] = []
    left = bytearray(300 * KIB)

    def read(most: int) -> bytes:
        asked.append(most)
        piece = bytes(left[:most])
        del left[:most]
        return piece

    assert receive_paced(read, bucket) == bytes(300 * KIB)
    assert max(asked) <= 1 * MIB / 20
    assert clock.now_s - 1000.0 == pytest.approx(300 / 1024 - BURST_S)


def test_drivers_that_pace_nothing_are_paced_as_wholes() -> None:
    traffic = Traffic()
    traffic.upload, up = a_bucket(1000)
    traffic.download, down = a_bucket(1000)
    traffic.requests, requests = a_bucket(10)
    store = PacingStore(MemoryStore(), traffic)
    store.put("a", bytes(5000))
    store.get("a")
    store.head("a")
    assert up.now_s - 1000.0 == pytest.approx(5.0 - BURST_S)
    assert down.now_s - 1000.0 == pytest.approx(5.0 - BURST_S)
    assert requests.now_s - 1000.0 == pytest.approx(0.2 - BURST_S)


def test_bodies_never_take_all_requests() -> None:
    held, blocked = threading.Event(), threading.Semaphore(0)

    class Slow(ForwardingStore):
        def _around(self, request: Request, send: Callable[[], T]) -> T:
            if request.kind is RequestKind.PUT:
                blocked.release()
                assert held.wait(30)
            return send()

    store = LimitingStore(Slow(MemoryStore()), max_requests=8)
    writers = [threading.Thread(target=store.put, args=(f"k{number}", b"x")) for number in range(20)]
    for writer in writers:
        writer.start()
    for _ in range(6):
        assert blocked.acquire(timeout=30)
    assert not store.list("").objects, "a listing finds a free request"
    assert not blocked.acquire(blocking=False), "more bodies would have begun"
    held.set()
    for writer in writers:
        writer.join()


@pytest.mark.parametrize("form", ["minio://{host}/{bucket}", "s3://{bucket}"])
def test_a_real_store_is_never_faster_than_allowed(form: str, minio: Server, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(bytes(range(256)) * (8 * KIB))
    with bucket_of(minio) as bucket:
        rates = Rates(upload_bytes_s=4 * MIB, download_bytes_s=4 * MIB)
        options = StoreOptions(endpoint_url=minio.endpoint, traffic=Traffic(rates))
        store = open_store(form.format(host=minio.host, bucket=bucket), options)
        begun_s = time.monotonic()
        store.put("a", FileSlice(path=tmp_path / "body", start=0, length=2 * MIB))
        sent_s = time.monotonic()
        assert store.get("a").data == (tmp_path / "body").read_bytes()
        got_s = time.monotonic()
        store.close()
    assert sent_s - begun_s >= 0.5 - BURST_S
    assert got_s - sent_s >= 0.5 - BURST_S


def test_rates_as_people_write_them() -> None:
    assert parse_rate("50M/s") == 50 * MIB
    assert parse_rate("1.5 MB") == 1_500_000
    assert parse_rate("off") is None
    assert parse_request_rate("100/s") == 100
    assert show_rate(50 * MIB, is_size=True) == "50MiB/s"
    assert show_rate(None, is_size=False) == "off"
    for text in ("fast", "50M/h", "-1", "1K/s", ""):
        with pytest.raises(ValueError, match=f"^'{text}' is (no rate|too little)"):
            parse_rate(text)
    with pytest.raises(ValueError, match="no rate"):
        parse_request_rate("1.5/s")
