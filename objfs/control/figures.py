"""All counters of a mount at one moment: what `objfs top` and the metrics are made of."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from errno import errorcode
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio

from objfs.control.values import UploadsStatus, known_fields, uploads_status
from objfs.observe.histogram import Durations
from objfs.upload.operations import Kind, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.config import MountSettings
    from objfs.control.tracing import Describer
    from objfs.observe.operations import Operations
    from objfs.read.reader import Reader
    from objfs.store.count import CountingStore
    from objfs.upload.uploader import Uploader
    from objfs_cache.blocks import BlockCache
    from objfs_cache.staging import Staging

MAX_SHOWN = 10  # running requests and uploads on their way: what fits a screen


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationFigures:
    """One kind of request that programs make; `errors` by errno's name."""

    durations: Durations = field(default_factory=Durations)
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFigures:
    """One kind of request to the store.

    Attributes:
        errors: by the name of the error's class; `ThrottledError` is the store asking to slow down.
        retries: how many repeated an earlier one.
        running: under way.
    """

    durations: Durations = field(default_factory=Durations)
    errors: Mapping[str, int] = field(default_factory=dict)
    sent_bytes: int = 0
    received_bytes: int = 0
    retries: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFigures:
    """Bytes that programs read through the mount, by where they came from.

    The first reading of a byte is counted for the disk cache or the store, each further one for memory.
    `staged`: changed files that are not uploaded yet. What the kernel's page cache answered is not seen.
    """

    memory: int = 0
    disk: int = 0
    store: int = 0
    staged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCall:
    """A request of a program that was not answered yet."""

    operation: str
    path: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """A file on its way to the store; `error`: of an attempt that failed and is made again."""

    path: str
    size_bytes: int
    sent_bytes: int
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFigures:
    """The disk cache: bytes now, counts since the mount began."""

    bytes: int = 0
    limit_bytes: int = 0
    hits: int = 0
    misses: int = 0
    bad_blocks: int = 0
    dropped_inserts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Counters since the mount began, and sizes now. Sizes are in bytes.

    Attributes:
        clock_s: seconds of a clock that never jumps, for rates.
        running_calls: number of requests without an answer; `running` has the oldest.
        sending: the largest files on their way.
        offline_since_s: Unix time since when the store does not answer uploads, or None.
        cpu_s, resident_bytes: of the process.
    """

    clock_s: float
    url: str
    mountpoint: str
    version: str
    started_s: float
    operations: Mapping[str, OperationFigures] = field(default_factory=dict)
    running_calls: int = 0
    running: tuple[RunningCall, ...] = ()
    reads: ReadFigures = field(default_factory=ReadFigures)
    written_bytes: int = 0
    requests: Mapping[str, RequestFigures] = field(default_factory=dict)
    uploads: UploadsStatus = field(default_factory=UploadsStatus)
    sending: tuple[Sending, ...] = ()
    offline_since_s: float | None = None
    last_error: str | None = None
    disk: DiskFigures = field(default_factory=DiskFigures)
    staging_bytes: int = 0
    staging_limit_bytes: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    cpu_s: float = 0.0
    resident_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the counters are."""

    operations: Operations
    describer: Describer
    requests: CountingStore
    reader: Reader
    uploader: Uploader
    blocks: BlockCache
    staging: Staging


class Counters:
    """Reads the counters of one mount. To be used on its event loop."""

    def __init__(self, settings: MountSettings, sources: Sources, *, version: str, started_s: float) -> None:
        self._settings = settings
        self._sources = sources
        self._version = version
        self._started_s = started_s

    async def read(self) -> Figures:
        """All of them, now."""
        sources = self._sources
        cache = await trio.to_thread.run_sync(sources.blocks.stats)  # waits for a lock, and asks SQLite
        uploads = sources.uploader.status()
        reader = sources.reader.stats()
        return Figures(
            clock_s=time.monotonic(),
            url=self._settings.url,
            mountpoint=str(self._settings.mountpoint),
            version=self._version,
            started_s=self._started_s,
            operations=self._operations(),
            running_calls=len(sources.operations.running),
            running=self._running(),
            reads=ReadFigures(
                memory=reader.memory_read_bytes,
                disk=reader.disk_read_bytes,
                store=reader.store_read_bytes,
                staged=max(0, sources.operations.read_bytes - reader.read_bytes),
            ),
            written_bytes=sources.operations.written_bytes,
            requests=self._requests(),
            uploads=uploads_status(uploads),
            sending=self._sending(),
            offline_since_s=uploads.offline_since_s,
            last_error=uploads.last_error if uploads.offline_since_s is not None else None,
            disk=DiskFigures(
                bytes=cache.bytes,
                limit_bytes=cache.limit_bytes,
                hits=cache.hits,
                misses=cache.misses,
                bad_blocks=cache.bad_blocks,
                dropped_inserts=cache.dropped_inserts,
            ),
            staging_bytes=sources.staging.used_bytes,
            staging_limit_bytes=sources.staging.budget_bytes,
            memory_bytes=reader.memory_bytes,
            memory_limit_bytes=reader.memory_limit_bytes,
            cpu_s=sum(os.times()[:2]),
            resident_bytes=_resident_bytes(),
        )

    def _operations(self) -> dict[str, OperationFigures]:
        operations = self._sources.operations
        errors: dict[str, dict[str, int]] = {}
        for (name, number), count in operations.errors.items():
            errors.setdefault(name, {})[errorcode.get(number, str(number))] = count
        return {
            name: OperationFigures(durations=durations.freeze(), errors=errors.get(name, {}))
            for name, durations in operations.durations.items()
        }

    def _running(self) -> tuple[RunningCall, ...]:
        now_s = perf_counter()
        oldest = sorted(self._sources.operations.running, key=lambda call: call.began_s)[:MAX_SHOWN]
        return tuple(
            RunningCall(
                operation=call.operation,
                path=self._sources.describer.path(call),
                seconds=now_s - call.began_s,
            )
            for call in oldest
        )

    def _requests(self) -> dict[str, RequestFigures]:
        kinds = self._sources.requests.snapshot().kinds
        return {
            kind.value: RequestFigures(
                durations=counts.durations,
                errors=counts.errors,
                sent_bytes=counts.sent_bytes,
                received_bytes=counts.received_bytes,
                retries=counts.retries,
                running=counts.running,
            )
            for kind, counts in kinds.items()
        }

    def _sending(self) -> tuple[Sending, ...]:
        sent = self._sources.requests.transfers.sent_bytes()
        under_way = [
            one for one in self._sources.uploader.ledger if one.kind is Kind.PUT and one.state is State.SENT
        ]
        under_way.sort(key=lambda one: one.size_bytes, reverse=True)
        return tuple(
            Sending(
                path=one.path,
                size_bytes=one.size_bytes,
                sent_bytes=min(sent.get(one.key, 0), one.size_bytes),
                error=one.error or None,
            )
            for one in under_way[:MAX_SHOWN]
        )


def _resident_bytes() -> int:
    """proc(5): the second field of statm, in pages."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def figures_to_json(figures: Figures) -> dict[str, Any]:
    """The figures as plain JSON values."""
    return asdict(figures)


def figures_from_json(value: Mapping[str, Any]) -> Figures:
    """The inverse of `figures_to_json`; fields this version does not know are left out."""
    parts = {
        "operations": {name: _counted(OperationFigures, one) for name, one in value["operations"].items()},
        "requests": {name: _counted(RequestFigures, one) for name, one in value["requests"].items()},
        "running": tuple(known_fields(RunningCall, one) for one in value["running"]),
        "sending": tuple(known_fields(Sending, one) for one in value["sending"]),
        "reads": known_fields(ReadFigures, value["reads"]),
        "uploads": known_fields(UploadsStatus, {**value["uploads"], "parked": ()}),
        "disk": known_fields(DiskFigures, value["disk"]),
    }
    figures: Figures = known_fields(Figures, {**value, **parts})
    return figures


def _counted(kind: Any, value: Mapping[str, Any]) -> Any:  # noqa: ANN401  # either of two dataclasses
    counts = {int(at): count for at, count in value["durations"]["counts"].items()}
    durations = Durations(counts=counts, total_s=value["durations"]["total_s"])
    return known_fields(kind, {**value, "durations": durations})
