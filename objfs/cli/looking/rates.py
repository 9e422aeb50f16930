"""Two looks at a mount's counters -> what happened between them, each second. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from objfs.observe.histogram import Durations, together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from objfs.cli.looking.prices import Prices
    from objfs.control.figures import Figures, OperationFigures, RequestFigures

MIN_INTERVAL_S = 1e-3  # two looks at once are no interval
_ANSWERS = frozenset({"ENOENT", "ENODATA", "ENOSYS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """One kind of operation or request between two looks; `total` since the mount began."""

    per_s: float
    p50_s: float | None
    p99_s: float | None
    errors_per_s: float
    retries_per_s: float
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What happened between two looks. Bytes are a second.

    Attributes:
        operations, requests: by kind, those that have occurred since the mount began.
        reads: by source.
        hit_share: of the blocks looked for in the disk cache, those found; None if none was looked for.
        upload_bytes_s: smoothed over a few looks; `upload_left_s` is what is left at that rate, None unknown.
        cost, cost_per_hour: estimates.
    """

    interval_s: float
    operations: Mapping[str, Pace]
    all_operations: Pace
    requests: Mapping[str, Pace]
    reads: Mapping[str, float]
    written_bytes_s: float
    hit_share: float | None
    upload_bytes_s: float
    upload_left_s: float | None
    sending_bytes_s: Mapping[str, float]
    cost: float
    cost_per_hour: float


def rates_between(looks: Sequence[Figures], prices: Prices) -> Rates:
    """What happened between the last two of some looks; uploads are smoothed over all of them."""
    now, before = looks[-1], looks[-2]
    interval_s = max(now.clock_s - before.clock_s, MIN_INTERVAL_S)
    operations = {
        name: _pace(
            one.durations,
            before.operations[name].durations if name in before.operations else Durations(),
            interval_s,
            errors=_real_errors(one) - _real_errors(before.operations.get(name)),
        )
        for name, one in now.operations.items()
        if one.durations.count
    }
    all_now = together(one.durations for one in now.operations.values())
    all_before = together(one.durations for one in before.operations.values())
    all_operations = _pace(
        all_now,
        all_before,
        interval_s,
        errors=round(sum(one.errors_per_s for one in operations.values()) * interval_s),
    )
    requests = {
        name: _request_pace(one, before.requests.get(name), interval_s) for name, one in now.requests.items()
    }
    asked = (now.disk.hits + now.disk.misses) - (before.disk.hits + before.disk.misses)
    sending = _sending(looks)
    upload_bytes_s = _upload_rate(looks, sending)
    waiting = now.uploads.waiting_bytes - sum(one.sent_bytes for one in now.sending)
    cost = prices.total(now.requests)
    return Rates(
        interval_s=interval_s,
        operations=operations,
        all_operations=all_operations,
        requests=requests,
        reads={
            name: (getattr(now.reads, name) - getattr(before.reads, name)) / interval_s
            for name in ("memory", "disk", "store", "staged")
        },
        written_bytes_s=(now.written_bytes - before.written_bytes) / interval_s,
        hit_share=(now.disk.hits - before.disk.hits) / asked if asked > 0 else None,
        upload_bytes_s=upload_bytes_s,
        upload_left_s=max(0, waiting) / upload_bytes_s if upload_bytes_s >= 1 and waiting > 0 else None,
        sending_bytes_s=sending,
        cost=cost,
        cost_per_hour=(cost - prices.total(before.requests)) / interval_s * 3600,
    )


def _pace(now: Durations, before: Durations, interval_s: float, *, errors: int, retries: int = 0) -> Pace:
    lately = now.since(before)
    return Pace(
        per_s=lately.count / interval_s,
        p50_s=lately.quantile_s(0.5),
        p99_s=lately.quantile_s(0.99),
        errors_per_s=errors / interval_s,
        retries_per_s=retries / interval_s,
        total=now.count,
    )


def _request_pace(now: RequestFigures, before: RequestFigures | None, interval_s: float) -> Pace:
    return _pace(
        now.durations,
        before.durations if before is not None else Durations(),
        interval_s,
        errors=_failures(now) - (_failures(before) if before is not None else 0),
        retries=now.retries - (before.retries if before is not None else 0),
    )


def _failures(one: RequestFigures) -> int:
    """Requests that went wrong; "there is no such object" is an answer."""
    return sum(count for name, count in one.errors.items() if name != "NotFoundError")


def _real_errors(one: OperationFigures | None) -> int:
    """Operations that went wrong; that something does not exist is an answer."""
    if one is None:
        return 0
    return sum(count for name, count in one.errors.items() if name not in _ANSWERS)


def _sending(looks: Sequence[Figures]) -> dict[str, float]:
    """Bytes a second of each file on its way, over the looks that have seen it."""
    found: dict[str, float] = {}
    for one in looks[-1].sending:
        for look in looks[:-1]:
            earlier = next((other for other in look.sending if other.path == one.path), None)
            if earlier is not None:
                elapsed_s = max(looks[-1].clock_s - look.clock_s, MIN_INTERVAL_S)
                found[one.path] = max(0, one.sent_bytes - earlier.sent_bytes) / elapsed_s
                break
    return found


def _upload_rate(looks: Sequence[Figures], sending: Mapping[str, float]) -> float:
    """Files that are done count whole; those on their way as far as they are."""
    elapsed_s = max(looks[-1].clock_s - looks[0].clock_s, MIN_INTERVAL_S)
    done = looks[-1].uploads.uploaded_bytes - looks[0].uploads.uploaded_bytes
    return max(done / elapsed_s, sum(sending.values()))


def rates_to_json(figures: Figures, rates: Rates) -> dict[str, Any]:
    """One look as `objfs top --json` prints it; fields may be added, none changes its meaning."""
    uploads = figures.uploads
    return {
        "mountpoint": figures.mountpoint,
        "url": figures.url,
        "interval_s": rates.interval_s,
        "operations": {name: _pace_json(one) for name, one in rates.operations.items()},
        "running": [
            {"operation": one.operation, "path": one.path, "seconds": one.seconds} for one in figures.running
        ],
        "read_bytes_s": dict(rates.reads),
        "written_bytes_s": rates.written_bytes_s,
        "disk_cache_hit_share": rates.hit_share,
        "requests": {name: _pace_json(one) for name, one in rates.requests.items()},
        "uploads": {
            "waiting_files": uploads.waiting_files,
            "waiting_bytes": uploads.waiting_bytes,
            "waiting_changes": uploads.waiting_changes,
            "parked": uploads.parked_count,
            "conflicts": uploads.conflicts,
            "bytes_s": rates.upload_bytes_s,
            "left_s": rates.upload_left_s,
            "offline_since_s": figures.offline_since_s,
            "sending": [
                {
                    "path": one.path,
                    "size_bytes": one.size_bytes,
                    "sent_bytes": one.sent_bytes,
                    "bytes_s": rates.sending_bytes_s.get(one.path),
                    "error": one.error,
                }
                for one in figures.sending
            ],
        },
        "cost_estimate": {"so_far": rates.cost, "per_hour": rates.cost_per_hour},
    }


def _pace_json(pace: Pace) -> dict[str, float | None]:
    return {
        "per_s": pace.per_s,
        "p50_s": pace.p50_s,
        "p99_s": pace.p99_s,
        "errors_per_s": pace.errors_per_s,
        "retries_per_s": pace.retries_per_s,
        "total": pace.total,
    }
