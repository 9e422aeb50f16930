"""What a mount tells of itself: frozen values, and their form in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.upload.status import UploadStatus

MAX_PARKED_SHOWN = 100  # keeps a status line far below protocol.MAX_LINE_BYTES; `parked_count` tells them all

ERROR_MAX_CHARS = 500  # of one error in a status


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """The store as last seen.

    Attributes:
        reachable: whether it answered when the status was asked for.
        offline_since_s: Unix time of the first of the failures that still last, or None.
        error: one sentence about the last failure, or None.
    """

    url: str
    endpoint_url: str | None
    reachable: bool
    offline_since_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedStatus:
    """A change the store refuses for good; its data stay in the cache folder."""

    key: str
    operation: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsStatus:
    """What is on its way to the store. Counts since the mount began, except what waits.

    Attributes:
        waiting_changes: deletes, renames, attributes and the like; `waiting_files` has the contents.
        parked: the first of the parked changes; `parked_count` counts all.
    """

    waiting_files: int = 0
    waiting_bytes: int = 0
    waiting_changes: int = 0
    in_flight_files: int = 0
    uploaded_files: int = 0
    uploaded_bytes: int = 0
    conflicts: int = 0
    parked_count: int = 0
    parked: tuple[ParkedStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatus:
    """The block cache on the local disk, and beside it what is not uploaded yet (`staged_bytes`).

    Attributes:
        room_bytes: what programs may write before the local disk or the cache size refuses more, or None if
            that cannot be told; clean data give way for it, uploads make it grow.
    """

    path: str
    bytes: int = 0
    limit_bytes: int = 0
    staged_bytes: int = 0
    staged_limit_bytes: int = 0
    room_bytes: int | None = None
    hits: int = 0
    misses: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of the blocks asked for that were on the local disk, or None before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MountStatus:
    """One mount. `objfs status --json` prints a list of these; fields may be added, none changes its meaning.

    {"url", "mountpoint", "state": "serving" | "leaving" | "dead" | "silent", "pid", "version", "started_s",
     "read_only", "write_mode", "log_path",
     "store": {"url", "endpoint_url", "reachable", "offline_since_s", "error"},
     "uploads": {"waiting_files", "waiting_bytes", "waiting_changes", "in_flight_files",
                 "uploaded_files", "uploaded_bytes", "conflicts",
                 "parked_count", "parked": [{"key", "operation", "error"}]},
     "cache": {"path", "bytes", "limit_bytes", "staged_bytes", "staged_limit_bytes",
               "room_bytes", "hits", "misses", "hit_rate"}}

    Attributes:
        state: `dead` is a mountpoint whose objfs is gone, `silent` one whose objfs does not answer; all but
            mountpoint and URL is then unknown.
        started_s: Unix time. Sizes are in bytes everywhere.
    """

    url: str
    mountpoint: str
    state: Literal["serving", "leaving", "dead", "silent"]
    pid: int
    version: str
    started_s: float
    read_only: bool
    write_mode: str
    log_path: str
    store: StoreStatus
    uploads: UploadsStatus
    cache: CacheStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainProgress:
    """How far the uploads have come.

    Attributes:
        parked_count: changes that stay behind because the store refuses them.
        error: why nothing moves, or None.
    """

    waiting_files: int
    waiting_bytes: int
    waiting_changes: int
    uploaded_files: int
    uploaded_bytes: int
    parked_count: int
    error: str | None = None


def status_to_json(status: MountStatus) -> dict[str, Any]:
    """The status as plain JSON values."""
    value = asdict(status)
    value["cache"]["hit_rate"] = status.cache.hit_rate
    return value


def status_from_json(value: Mapping[str, Any]) -> MountStatus:
    """The inverse of `status_to_json`; fields this version does not know are left out."""
    uploads = dict(value["uploads"])
    uploads["parked"] = tuple(known_fields(ParkedStatus, parked) for parked in uploads["parked"])
    parts = {
        "store": known_fields(StoreStatus, value["store"]),
        "uploads": known_fields(UploadsStatus, uploads),
        "cache": known_fields(CacheStatus, value["cache"]),
    }
    status: MountStatus = known_fields(MountStatus, {**value, **parts})
    return status


def progress_from_json(value: Mapping[str, Any]) -> DrainProgress:
    """The progress out of one line of a drain."""
    progress: DrainProgress = known_fields(DrainProgress, value)
    return progress


def unknown_mount(mountpoint: str, source: str, state: Literal["dead", "silent"]) -> MountStatus:
    """The status of a mountpoint whose objfs cannot be asked."""
    return MountStatus(
        url=source,
        mountpoint=mountpoint,
        state=state,
        pid=0,
        version="",
        started_s=0.0,
        read_only=False,
        write_mode="",
        log_path="",
        store=StoreStatus(url=source, endpoint_url=None, reachable=False),
        uploads=UploadsStatus(),
        cache=CacheStatus(path=""),
    )


def uploads_status(status: UploadStatus) -> UploadsStatus:
    """What is told of the uploads."""
    return UploadsStatus(
        waiting_files=status.waiting_files,
        waiting_bytes=status.waiting_bytes,
        waiting_changes=status.waiting_operations - status.waiting_files,
        in_flight_files=status.in_flight_files,
        uploaded_files=status.uploaded_files,
        uploaded_bytes=status.uploaded_bytes,
        conflicts=status.conflicts,
        parked_count=len(status.parked),
        parked=tuple(
            ParkedStatus(key=one.path, operation=one.kind, error=shorten(one.error) or "")
            for one in status.parked[:MAX_PARKED_SHOWN]
        ),
    )


def drain_progress(status: UploadStatus) -> DrainProgress:
    """How far the uploads are."""
    return DrainProgress(
        waiting_files=status.waiting_files,
        waiting_bytes=status.waiting_bytes,
        waiting_changes=status.waiting_operations - status.waiting_files,
        uploaded_files=status.uploaded_files,
        uploaded_bytes=status.uploaded_bytes,
        parked_count=len(status.parked),
        error=shorten(status.last_error) if status.offline_since_s is not None else None,
    )


def shorten(text: str | None) -> str | None:
    """An error as far as it fits into a status; None for none."""
    return text[:ERROR_MAX_CHARS] if text else None


def known_fields(kind: Any, value: Mapping[str, Any]) -> Any:  # noqa: ANN401  # any dataclass
    """A dataclass out of what somebody sent; fields that this version does not know are left out."""
    names = kind.__dataclass_fields__.keys()
    return kind(**{name: value[name] for name in names if name in value})
