"""How fast a store is: small and large objects, one after another and many at a time."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from objfs.doctor.tracking import trial_prefix
from objfs.store.values import KIB, MIB, ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from objfs.store.protocol import ObjectStore

T = TypeVar("T")

SMALL_BYTES = 4 * KIB
LARGE_BYTES = 64 * MIB
PART_BYTES = 8 * MIB  # as a mount sends and reads them (parts.py, window.py)
THREADS = 16
LARGE_THREADS = 4  # as many parts as a mount sends at once
ROW_LIMIT_S = 10.0  # a slow store is measured by fewer requests
QUICK = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        name: what was done; stable, for scripts.
        parallel: requests at once.
        bytes_each: body of one request.
        p50_s, p99_s: latency of one request.
        elapsed_s: of all of them.
    """

    name: str
    parallel: int
    requests: int
    bytes_each: int
    p50_s: float
    p99_s: float
    elapsed_s: float

    @property
    def requests_s(self) -> float:
        """Requests per second."""
        return self.requests / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def mb_s(self) -> float | None:
        """10**6 bytes of bodies per second; None where there are none."""
        return self.requests_s * self.bytes_each / 1e6 if self.bytes_each else None


def measure_store(store: ObjectStore, *, quick: bool) -> Iterator[Row]:
    """All rows of the table. Whoever calls takes away what is written, all below one trial prefix."""
    shrink = QUICK if quick else 1
    prefix = trial_prefix("bench")
    small = os.urandom(SMALL_BYTES)
    few, many = 50 // shrink, 500 // shrink
    one_by_one = [f"{prefix}/s{number}" for number in range(few)]
    at_once = [f"{prefix}/p{number}" for number in range(many)]
    yield measure("put 4 KiB", 1, SMALL_BYTES, [partial(store.put, key, small) for key in one_by_one])
    yield measure("put 4 KiB", THREADS, SMALL_BYTES, [partial(store.put, key, small) for key in at_once])
    known = [info.key for info in store.list(f"{prefix}/").objects]
    yield measure("head", 1, 0, [partial(store.head, key) for key in known[:few]])
    yield measure("get 4 KiB", 1, SMALL_BYTES, [partial(store.get, key) for key in known[:few]])
    yield measure("get 4 KiB", THREADS, SMALL_BYTES, [partial(store.get, key) for key in known])
    pages = [lambda: store.list(f"{prefix}/") for _ in range(max(2, 20 // shrink))]
    yield measure(f"list {len(known)} keys", 1, 0, pages)
    yield from _measure_large(store, f"{prefix}/large", LARGE_BYTES // shrink)
    batches = [known[start : start + 1000] for start in range(0, len(known), 1000)]
    yield measure(f"delete {len(known)} keys", 1, 0, [partial(store.delete, keys) for keys in batches])


def _measure_large(store: ObjectStore, key: str, size_bytes: int) -> Iterator[Row]:
    body = os.urandom(PART_BYTES)
    count = max(1, size_bytes // PART_BYTES)
    plain = [partial(store.put, f"{key}{number}", body) for number in range(max(1, count // 2))]
    yield measure("put 8 MiB", 1, PART_BYTES, plain)
    ranges = [ByteRange(start=0, stop=PART_BYTES) for _ in range(max(1, count // 2))]
    yield measure(
        "get 8 MiB", 1, PART_BYTES, [lambda: store.get(f"{key}0", byte_range=ranges[0]) for _ in ranges]
    )
    multipart = store.multipart
    if multipart is None:
        return
    upload_id = multipart.create(key)
    numbers = range(1, count + 1)
    send = [partial(multipart.upload_part, key, upload_id, n, body) for n in numbers]
    row, parts = measure_answers("put 8 MiB parts", LARGE_THREADS, PART_BYTES, send)
    yield row
    multipart.complete(key, upload_id, sorted(parts, key=lambda part: part.number))
    stop = len(parts) * PART_BYTES
    pieces = [ByteRange(start=at, stop=at + PART_BYTES) for at in range(0, stop, PART_BYTES)]
    get = [partial(store.get, key, byte_range=piece) for piece in pieces]
    yield measure("get 8 MiB parts", LARGE_THREADS, PART_BYTES, get)


def measure(name: str, parallel: int, bytes_each: int, requests: Sequence[Callable[[], object]]) -> Row:
    """Send requests, `parallel` at a time, for a limited time."""
    return measure_answers(name, parallel, bytes_each, requests)[0]


def measure_answers(
    name: str, parallel: int, bytes_each: int, requests: Sequence[Callable[[], T]]
) -> tuple[Row, list[T]]:
    """Like `measure`, with the answers, in the order in which they came."""
    times: list[float] = []
    answers: list[T] = []
    begun_s = time.monotonic()

    def send(request: Callable[[], T]) -> None:
        started_s = time.monotonic()
        if times and started_s - begun_s > ROW_LIMIT_S:
            return
        answers.append(request())
        times.append(time.monotonic() - started_s)

    if parallel == 1:
        for request in requests:
            send(request)
    else:
        with ThreadPoolExecutor(parallel, thread_name_prefix="objfs-bench") as pool:
            try:
                list(pool.map(send, requests))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    row = Row(
        name=name,
        parallel=parallel,
        requests=len(times),
        bytes_each=bytes_each,
        p50_s=percentile(times, 0.5),
        p99_s=percentile(times, 0.99),
        elapsed_s=time.monotonic() - begun_s,
    )
    return row, answers


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed (nearest rank); 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
