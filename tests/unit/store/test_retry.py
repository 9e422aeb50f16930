"""Retries, without waiting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from objfs.drivers.memory import MemoryStore
from objfs.errors import (
    InvalidRequestError,
    NotFoundError,
    ObjectStoreError,
    PermissionDeniedError,
    PreconditionFailedError,
    ThrottledError,
    UnavailableError,
    UploadNotFoundError,
)
from objfs.store.faulty import Fault, FaultyStore, faults_at
from objfs.store.probe import ProbedStore
from objfs.store.retry import Clock, RetryingStore, RetryPolicy
from objfs.store.values import ABSENT, ByteRange, Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.store.forward import Request
    from objfs.store.protocol import ComposeApi, ObjectStore


@dataclass
class FakeTime:
    """A clock that sleeping moves on."""

    now_s: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.sleeps.append(seconds)

    def clock(self, chance: float = 1.0) -> Clock:
        return Clock(now=lambda: self.now_s, sleep=self.sleep, chance=lambda: chance)


def store_with(faults: dict[int, Fault], time: FakeTime, policy: RetryPolicy | None = None) -> RetryingStore:
    return RetryingStore(FaultyStore(MemoryStore(), faults_at(faults)), policy, clock=time.clock())


@pytest.mark.parametrize("kind", [UnavailableError, ThrottledError])
def test_a_passing_error_is_not_seen(kind: type[ObjectStoreError]) -> None:
    time = FakeTime()
    store = store_with({0: Fault(before=kind), 1: Fault(before=kind)}, time)
    store.put("a", b"1")
    assert time.sleeps == [0.1, 0.2]


def test_a_lasting_error_is_raised_at_once() -> None:
    time = FakeTime()
    store = store_with({0: Fault(before=InvalidRequestError)}, time)
    with pytest.raises(InvalidRequestError) as caught:
        store.put("a", b"1")
    assert time.sleeps == []
    assert not caught.value.after_retry


DENIED = {number: Fault(before=PermissionDeniedError) for number in range(5)}


def store_of_folders(time: FakeTime, faults: dict[int, Fault]) -> RetryingStore:
    """A store that denies a write while a delete removes its folder; one try at anything else."""
    folders = ProbedStore(MemoryStore(), Capabilities(file_over_prefix=False))
    return RetryingStore(
        FaultyStore(folders, faults_at(faults)), RetryPolicy(max_attempts=1), clock=time.clock()
    )


def test_a_denial_of_a_moment_is_not_seen() -> None:
    store = store_of_folders(FakeTime(), DENIED)
    store.put("a/b", b"1")
    assert store.get("a/b").data == b"1"


READS: dict[str, Callable[[ObjectStore, str], object]] = {
    "get": lambda store, _: store.get("a/b", byte_range=ByteRange(start=0, stop=1)),
    "copy": lambda store, _: store.copy("a/b", "c"),
    "copy_part": lambda store, upload_id: _compose(store).copy_part(
        "a/b", ByteRange(start=0, stop=1), "c", upload_id, 1
    ),
}


@pytest.mark.parametrize("kind", READS)
@pytest.mark.parametrize("fate", ["hidden", "gone", "no upload", "hidden for long"])
def test_an_object_that_is_listed_is_not_gone(kind: str, fate: str) -> None:
    """A MinIO does not find what one of its nodes lacks, while and after another one is away."""
    time, memory = FakeTime(), MemoryStore()
    memory.put("a/b", b"1")
    memory.put("a/b2", b"2")
    upload_id = memory.multipart.create("c")
    tries = 0

    def plan(_: int, request: Request) -> Fault | None:
        nonlocal tries
        tries += request.kind == kind
        return Fault(before=NotFoundError) if request.kind == kind and tries < hidden_tries else None

    hidden_tries = {"hidden": 10, "hidden for long": 10_000}.get(fate, 0)
    folders = ProbedStore(memory, Capabilities(file_over_prefix=False))
    store = RetryingStore(FaultyStore(folders, plan), clock=time.clock())
    if fate == "gone":
        memory.delete(["a/b"])
    if fate == "no upload" and kind == "copy_part":
        memory.multipart.abort("c", upload_id)
    wanted = {"gone": NotFoundError, "no upload": UploadNotFoundError, "hidden for long": UnavailableError}
    if fate == "hidden" or (fate == "no upload" and kind != "copy_part"):
        READS[kind](store, upload_id)
    else:
        with pytest.raises(wanted[fate]):
            READS[kind](store, upload_id)
    assert (time.now_s > 10) is fate.startswith("hidden")
    assert tries == 1 or fate.startswith("hidden")


def _compose(store: ObjectStore) -> ComposeApi:
    assert store.compose is not None
    return store.compose


def test_a_lasting_denial_is_raised_soon() -> None:
    time = FakeTime()
    with pytest.raises(PermissionDeniedError):
        store_of_folders(time, {**DENIED, 5: Fault(before=PermissionDeniedError)}).put("a", b"1")
    assert 1 < time.now_s < 5


def test_a_denial_is_final_where_no_moment_brings_one() -> None:
    time = FakeTime()
    with pytest.raises(PermissionDeniedError):
        store_with(DENIED, time).put("a", b"1")
    with pytest.raises(PermissionDeniedError):
        store_of_folders(time, DENIED).head("a")
    assert time.sleeps == []


def test_it_waits_as_long_as_it_is_asked_to() -> None:
    time = FakeTime()
    store = store_with({0: Fault(before=ThrottledError, retry_after_s=7)}, time)
    store.put("a", b"1")
    assert time.sleeps == [pytest.approx(7.1)]


def test_the_deadline() -> None:
    time = FakeTime()
    store = store_with({number: Fault(before=UnavailableError) for number in range(100)}, time)
    with pytest.raises(UnavailableError):
        store.head("a")
    assert 50 < time.now_s < 60  # it was not given up before, either


def test_the_attempts() -> None:
    time = FakeTime()
    faults = {number: Fault(before=UnavailableError) for number in range(100)}
    store = store_with(faults, time, RetryPolicy(max_attempts=3))
    with pytest.raises(UnavailableError):
        store.head("a")
    assert len(time.sleeps) == 2


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    time = FakeTime()
    store = store_with({0: Fault(before=ThrottledError, retry_after_s=3600)}, time)
    with pytest.raises(ThrottledError):
        store.head("a")
    assert time.sleeps == []


def test_a_lost_success_says_that_it_follows_a_retry() -> None:
    store = store_with({0: Fault(after=UnavailableError)}, FakeTime())
    with pytest.raises(PreconditionFailedError) as caught:
        store.put("a", b"1", condition=ABSENT)
    assert caught.value.after_retry


def test_a_lost_completion_says_that_it_follows_a_retry() -> None:
    store = store_with({2: Fault(after=UnavailableError)}, FakeTime())
    api = store.multipart
    assert api is not None
    upload_id = api.create("a")
    part = api.upload_part("a", upload_id, 1, b"1")
    with pytest.raises(NotFoundError) as caught:
        api.complete("a", upload_id, [part])
    assert caught.value.after_retry


def test_an_upload_is_never_begun_twice() -> None:
    store = store_with({0: Fault(after=UnavailableError)}, FakeTime())
    api = store.multipart
    assert api is not None
    with pytest.raises(UnavailableError):
        api.create("a")
    assert len(api.list_uploads("a")) == 1
