"""What each wrapper adds."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest
import trio

from objfs.drivers.memory import MemoryStore
from objfs.errors import CorruptError, NotFoundError, NotSupportedError, UnavailableError
from objfs.store.checks import check_body
from objfs.store.count import CountingStore
from objfs.store.faulty import BodyFault, Fault, FaultyStore, faults_at, random_faults
from objfs.store.forward import ForwardingStore, Request, RequestKind
from objfs.store.limit import LimitingStore
from objfs.store.prefix import PrefixStore
from objfs.store.probe import ProbedStore, probe_conditions
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.threads import ThreadedStore
from objfs.store.values import ABSENT, ANY, Body, ByteRange, Capabilities, Condition, PutOptions, Version

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def test_counts() -> None:
    store = CountingStore(MemoryStore())
    store.put("a", b"123")
    store.get("a", byte_range=ByteRange(start=0, stop=2))
    with pytest.raises(NotFoundError):
        store.head("b")
    counts = store.snapshot()
    assert counts.requests == 3
    assert counts.of(RequestKind.PUT).sent_bytes == 3
    assert counts.of(RequestKind.GET).received_bytes == 2
    assert counts.of(RequestKind.HEAD).errors == {"NotFoundError": 1}
    assert counts.of(RequestKind.LIST).requests == 0


def test_a_limit_holds() -> None:
    under_way, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(2)

    class Watched(ForwardingStore):
        def _around(self, request: Request, send: Callable[[], T]) -> T:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            together.wait(5)
            with lock:
                under_way -= 1
            return send()

    store = LimitingStore(Watched(MemoryStore()), max_requests=2)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: store.put(str(number), b""), range(6)))
    assert most == 2


def test_faults_change_what_they_say() -> None:
    faults = {
        1: Fault(body=BodyFault.TRUNCATE),
        2: Fault(body=BodyFault.FLIP),
        3: Fault(etag="other"),
        4: Fault(after=UnavailableError),
    }
    store = FaultyStore(MemoryStore(), faults_at(faults))
    store.put("a", b"\x00\x01")
    assert store.get("a").data == b"\x00"
    assert store.get("a").data == b"\xff\x01"
    assert store.head("a").version.etag == "other"
    with pytest.raises(UnavailableError):
        store.delete(["a"])
    with pytest.raises(NotFoundError):
        store.head("a")


def test_random_faults_are_repeatable() -> None:
    request = Request(RequestKind.GET, "a")
    faults = (Fault(delay_s=1), Fault(delay_s=2))
    plan, again = random_faults(7, 0.5, faults), random_faults(7, 0.5, faults)
    drawn = [plan(number, request) for number in range(100)]
    assert drawn == [again(number, request) for number in range(100)]
    assert 20 < drawn.count(None) < 80


def test_a_prefix_hides_itself() -> None:
    inner = MemoryStore()
    store = PrefixStore(inner, "p/")
    inner.put("p/", b"")
    inner.put("q", b"")
    store.put("a", b"")
    assert [info.key for info in store.list("").objects] == ["a"]
    with pytest.raises(NotFoundError) as caught:
        store.head("b")
    assert caught.value.key == "b"
    assert store.capabilities.max_key_bytes == inner.capabilities.max_key_bytes - 2


class Careless(ForwardingStore):
    """Ignores conditions of put."""

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        return self._store.put(key, body, options=options)


def test_a_probe_finds_ignored_conditions_and_leaves_nothing() -> None:
    inner = MemoryStore()
    assert probe_conditions(inner) == inner.capabilities
    careless = Careless(inner)
    found = probe_conditions(careless)
    assert (found.put_conditions, found.complete_conditions, found.copy_conditions) == (False, True, True)
    assert inner.list("").objects == ()
    assert inner.multipart.list_uploads("") == []
    with pytest.raises(NotSupportedError):
        ProbedStore(careless, found).put("a", b"", condition=ABSENT)


def test_a_probe_of_a_store_that_refuses_everything() -> None:
    store = FaultyStore(MemoryStore(), lambda _number, _request: Fault(before=UnavailableError))
    assert probe_conditions(store) == Capabilities(file_over_prefix=False, encryption=False)


def test_threads() -> None:
    async def use() -> None:
        store = ThreadedStore(MemoryStore())
        version = await store.put("a", b"1")
        assert (await store.head("a")).version == version
        assert (await store.get("a")).data == b"1"
        assert len((await store.list("")).objects) == 1
        await store.copy("a", "b")
        assert store.multipart is not None
        assert store.compose is not None
        upload_id = await store.multipart.create("c")
        part = await store.compose.copy_part("a", ByteRange(start=0, stop=1), "c", upload_id, 1)
        await store.multipart.complete("c", upload_id, [part])
        assert await store.delete(["a", "b", "c"]) == []

    trio.run(use)


@pytest.mark.parametrize(
    ("byte_range", "status", "content_range", "body_bytes"),
    [
        (None, 200, None, 9),
        (None, 206, "bytes 0-9/10", 10),
        (ByteRange(start=0, stop=5), 200, None, 10),
        (ByteRange(start=0, stop=5), 206, None, 5),
        (ByteRange(start=0, stop=5), 206, "bytes 1-5/10", 5),
        (ByteRange(start=0, stop=5), 206, "bytes 0-4/10", 4),
        (ByteRange(start=0, stop=5), 206, "nonsense", 5),
    ],
)
def test_bodies_that_are_not_what_was_asked_for(
    byte_range: ByteRange | None, status: int, content_range: str | None, body_bytes: int
) -> None:
    with pytest.raises(CorruptError):
        check_body(
            key="a",
            byte_range=byte_range,
            status=status,
            content_range=content_range,
            object_bytes=10,
            body_bytes=body_bytes,
        )
