"""Every driver and every wrapper keeps the contract."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from objfs.drivers.memory import MemoryStore
from objfs.errors import CorruptError, ThrottledError, UnavailableError
from objfs.store.count import CountingStore
from objfs.store.faulty import Fault, FaultyStore, random_faults
from objfs.store.forward import RequestKind
from objfs.store.limit import LimitingStore
from objfs.store.prefix import PrefixStore
from objfs.store.probe import ProbedStore, probe_conditions
from objfs.store.registry import open_store
from objfs.store.retry import Clock, RetryingStore
from objfs.testing import StoreContract
from tests.servers import Server, bucket_of, has_minio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs.store.faulty import FaultPlan
    from objfs.store.protocol import ObjectStore
    from objfs.store.values import Capabilities

MOTO_DEVIATIONS = {
    "test_abort": "moto answers 500 to a part of an upload that is gone",
    "test_a_completed_upload_is_gone": "moto answers 500 to a part of an upload that is gone",
    "test_copy_part_of_nothing_or_another_version": "moto ignores the condition on the source of a part",
}
MOTO_RACES = {"test_readers_see_whole_versions": "moto answers 500 to concurrent writes of one key"}
NO_WAIT = Clock(sleep=lambda _seconds: None)
NOT_REPEATED = (RequestKind.CREATE_UPLOAD, RequestKind.COMPLETE)
FAULTS = (Fault(before=UnavailableError), Fault(before=ThrottledError), Fault(before=CorruptError))

IN_PROCESS = ("memory", "local", "retry", "limit", "count", "prefix", "faulty", "stack")
SERVERS = (
    *("s3@moto", "minio@moto"),
    *(("s3@minio", "minio@minio") if has_minio() else ()),
    *(("s3@external",) if os.environ.get("OBJFS_TEST_S3_ENDPOINT") else ()),
)


def open_in_process(name: str, folder: Path) -> ObjectStore:
    """A store without a server."""
    memory = MemoryStore()
    match name:
        case "memory":
            return memory
        case "local":
            return open_store(f"file://{folder}?fsync=0")
        case "retry":
            return RetryingStore(memory)
        case "limit":
            return LimitingStore(memory, max_requests=2)
        case "count":
            return CountingStore(memory)
        case "prefix":
            return PrefixStore(memory, "some/prefix é/")
        case "faulty":
            return FaultyStore(memory)
        case "stack":
            faulty = FaultyStore(memory, _sparing(random_faults(seed=1, rate=0.2, faults=FAULTS)))
            return PrefixStore(LimitingStore(RetryingStore(faulty, clock=NO_WAIT), max_requests=4), "p/")
    raise ValueError(name)


def _sparing(plan: FaultPlan) -> FaultPlan:
    """Without faults of requests that are not repeated one by one: who sent them begins anew."""
    return lambda number, request: None if request.kind in NOT_REPEATED else plan(number, request)


def _expect_deviation(request: pytest.FixtureRequest) -> None:
    """Mark what moto is known to do wrong."""
    test: str = request.node.originalname
    if test in MOTO_RACES:
        pytest.skip(MOTO_RACES[test])
    line_break = "line" in request.node.name.partition("moto")[2]
    if test in MOTO_DEVIATIONS or line_break:
        reason = MOTO_DEVIATIONS.get(test, "moto does not find keys with line breaks")
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.fixture(scope="session")
def probed() -> dict[str, Capabilities]:
    """Capabilities by name of the parameter, found once each."""
    return {}


class TestContract(StoreContract):
    """The suite, over all of them."""

    @pytest.fixture(params=[*IN_PROCESS, *SERVERS])
    def store(
        self, request: pytest.FixtureRequest, tmp_path: Path, probed: dict[str, Capabilities]
    ) -> Iterator[ObjectStore]:
        """An empty store."""
        name: str = request.param
        if "@" not in name:
            folder = tmp_path / "store"
            folder.mkdir()
            yield open_in_process(name, folder)
            return
        driver, _, server_name = name.partition("@")
        if server_name == "moto":
            _expect_deviation(request)
        server: Server = request.getfixturevalue(server_name)
        with bucket_of(server) as bucket:
            url = f"s3://{bucket}?endpoint={server.endpoint}"
            store = open_store(url if driver == "s3" else f"minio://{server.host}/{bucket}")
            if name not in probed:
                probed[name] = probe_conditions(store)
                # moto is no MinIO, whoever asks it.
                assert probed[name].listing_metadata == (server_name != "moto")
            yield ProbedStore(store, probed[name])
            store.close()
