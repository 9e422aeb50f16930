"""What `top`, `trace`, `stat` and `status` make of what a mount tells."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from rich.console import Console

from objfs.cli.log_limit import MOST_PER_WINDOW, WINDOW_S, LimitedHandler
from objfs.cli.logs import JsonFormatter
from objfs.cli.looking.prices import Prices, parse_prices
from objfs.cli.looking.rates import rates_between, rates_to_json
from objfs.cli.looking.stat import rows
from objfs.cli.looking.top_screen import bar, screen
from objfs.cli.looking.trace import line, trace
from objfs.cli.mounting.status import _print_tables, _table
from objfs.control.figures import DiskFigures, Figures, OperationFigures, ReadFigures, RequestFigures, Sending
from objfs.control.tracing import QUEUE_EVENTS, TraceEvent, TraceFilter, Tracer
from objfs.control.values import (
    CacheStatus,
    MountStatus,
    ParkedStatus,
    StoreStatus,
    UploadsStatus,
)
from objfs.errors import UsageError
from objfs.fuse.traced import Described
from objfs.observe.histogram import Histogram, bounds_s, together
from objfs.observe.operations import Operations

if TYPE_CHECKING:
    from rich.console import RenderableType

    from objfs.observe.histogram import Durations
    from objfs.observe.operations import Call

MIB = 1 << 20


def shown(what: RenderableType, *, columns: int = 100, colour: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=columns, force_terminal=colour, highlight=False).print(what)
    return out.getvalue()


def durations(*seconds: float) -> Durations:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    return histogram.freeze()


# -- histograms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1e-9, 9.5e-7, 1e-6, 2.9e-6, 0.001, 0.3, 1.0, 59.9, 4000.0, 1e9])
def test_a_duration_is_in_its_bucket(seconds: float) -> None:
    (at,) = durations(seconds).counts
    low, high = bounds_s(at)
    assert low <= seconds < high or seconds >= 4096
    assert high <= low * 1.25 or at == 0


def test_quantiles() -> None:
    many = durations(*[0.001] * 98, 0.1, 10.0)
    assert many.count == 100
    assert many.quantile_s(0.5) == pytest.approx(0.001, rel=0.25)
    assert many.quantile_s(0.99) == pytest.approx(0.1, rel=0.25)
    assert many.quantile_s(1.0) == pytest.approx(10.0, rel=0.25)
    assert durations().quantile_s(0.5) is None
    assert many.since(durations(*[0.001] * 98)).count == 2
    assert together([many, many]).count == 200


# -- top ------------------------------------------------------------------------------------------------


def look(clock_s: float, **changes: object) -> Figures:
    figures = Figures(clock_s=clock_s, url="s3://b", mountpoint="/mnt", version="1", started_s=0.0)
    return replace(figures, **changes)  # type: ignore[arg-type]  # fields by name


BEFORE = look(
    10.0,
    operations={"read": OperationFigures(durations=durations(0.5), errors={"EIO": 1})},
    requests={"get": RequestFigures(durations=durations(0.5), received_bytes=10**9)},
    sending=(Sending(path="a.mov", size_bytes=100 * MIB, sent_bytes=10 * MIB),),
)
AFTER = look(
    12.0,
    operations={
        "read": OperationFigures(durations=durations(0.5, *[0.001] * 20), errors={"EIO": 3, "ENOENT": 9}),
        "write": OperationFigures(),
    },
    requests={
        "get": RequestFigures(durations=durations(0.5, 0.01, 0.01), errors={"NotFoundError": 2}, retries=4),
        "put": RequestFigures(durations=durations(*[0.1] * 1000), errors={"ThrottledError": 2}),
        "delete": RequestFigures(durations=durations(0.1)),
    },
    reads=ReadFigures(memory=6 * MIB, store=2 * MIB),
    disk=DiskFigures(hits=3, misses=1, bytes=5, limit_bytes=10),
    uploads=UploadsStatus(waiting_files=1, waiting_bytes=100 * MIB, in_flight_files=1, parked_count=2),
    sending=(
        Sending(path="a\x1b[2J.mov", size_bytes=1, sent_bytes=0, error="no"),
        Sending(path="a.mov", size_bytes=100 * MIB, sent_bytes=30 * MIB),
    ),
)


def test_rates() -> None:
    rates = rates_between([BEFORE, AFTER], Prices())
    read = rates.operations["read"]
    assert (read.per_s, read.total, read.errors_per_s) == (10.0, 21, 1.0)
    assert read.p50_s == pytest.approx(0.001, rel=0.25), "of the last interval, not of the whole life"
    assert "write" not in rates.operations
    assert rates.reads["memory"] == 3 * MIB
    assert rates.hit_share == 0.75
    assert rates.requests["get"].errors_per_s == 0, "that there is no such object is an answer"
    assert rates.requests["get"].retries_per_s == 2
    assert rates.requests["put"].errors_per_s == 1
    assert rates.upload_bytes_s == 10 * MIB
    assert rates.upload_left_s == pytest.approx(7.0)
    assert rates.cost == pytest.approx(0.005 + 3 * 0.0004 / 1000)


def test_two_looks_at_once() -> None:
    rates = rates_between([BEFORE, BEFORE], Prices())
    assert rates.operations["read"].per_s == 0
    assert rates.upload_left_s is None


def test_prices() -> None:
    prices = parse_prices("write=1, read=2,out=3")
    assert prices == Prices(write=1, read=2, out=3)
    assert prices.total(BEFORE.requests) == pytest.approx(3 + 2 / 1000)
    assert prices.of("delete", 1000) == 0
    assert parse_prices(None).source == "list prices of S3 Standard in us-east-1"
    assert prices.source == "the prices given"
    for text in ("write", "write=x", "gold=1", "write=-1"):
        with pytest.raises(UsageError, match="--prices"):
            parse_prices(text)


def test_the_screen_fits_and_obeys_no_key() -> None:
    text = shown(screen(AFTER, rates_between([BEFORE, AFTER], Prices()), Prices(), now_s=100.0, rows=None))
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    for part in ("read", "75%", "3.0 MiB", "estimated cost: $0.0050", "2 parked", "a.mov", "30%"):
        assert part in text
    low = shown(screen(AFTER, rates_between([BEFORE, AFTER], Prices()), Prices(), now_s=100.0, rows=24))
    assert len(low.splitlines()) <= 36


def test_an_outage_is_at_the_top() -> None:
    away = replace(AFTER, offline_since_s=40.0, last_error="gone\x1b")
    text = shown(screen(away, rates_between([BEFORE, away], Prices()), Prices(), now_s=100.0, rows=None))
    assert "STORE OFFLINE for 1 min" in text.splitlines()[0]
    assert r"gone\x1b" in text


def test_json_of_top_is_json() -> None:
    value = json.loads(json.dumps(rates_to_json(AFTER, rates_between([BEFORE, AFTER], Prices()))))
    assert value["operations"]["read"]["per_s"] == 10.0
    assert value["uploads"]["sending"][1]["bytes_s"] == 10 * MIB
    assert value["cost_estimate"]["so_far"] > 0


def test_bars() -> None:
    assert bar(0.0) == "░" * 20
    assert bar(2.0) == "█" * 20
    assert bar(0.5).count("█") == 10


# -- trace ----------------------------------------------------------------------------------------------

EVENT = TraceEvent(
    time_s=1000.25,
    duration_s=0.0012,
    operation="read",
    pid=42,
    command="cat",
    path="a\nb",
    arguments={"offset": 0, "size": 4096},
    result=100,
    error=None,
)


def test_a_line_of_a_trace() -> None:
    text = line(EVENT)
    assert text.endswith(r"cat[42]            read       a\nb offset=0 size=4096 = 100")
    assert ".250  1.2 ms" in text
    assert line(replace(EVENT, error="EIO")).endswith("= EIO")
    assert line(replace(EVENT, result=None, pid=0, command="kernel")).endswith("= ok")


def test_wrong_filters_of_a_trace() -> None:
    with pytest.raises(UsageError, match="--op: there is no operation 'raed'"):
        trace(None, path=None, operations=["read,raed"], slow=None, as_json=False)
    with pytest.raises(UsageError, match="--slow"):
        trace(None, path=None, operations=[], slow="soon", as_json=False)


@pytest.mark.parametrize(
    ("wanted", "path", "expected"),
    [("", "a", True), ("a", "a", True), ("a", "a/b", True), ("a", "ab", False), ("*.jpg", "x/y.jpg", True)],
)
def test_paths_of_a_filter(wanted: str, path: str, expected: bool) -> None:
    assert TraceFilter(path=wanted).wants_path(path) is expected


class _Words:
    """Describes; every path is its first argument."""

    def describe(self, call: Call, number: int, result: object) -> Described:
        return Described(pid=0, path=self.path(call), error="EIO" if number else None)

    def path(self, call: Call) -> str:
        path = call.arguments[0]
        assert isinstance(path, str), "a bug"
        return path


def test_listeners_get_what_they_want_and_nothing_is_done_without_them() -> None:
    async def main() -> None:
        operations = Operations()
        tracer = Tracer(operations, _Words())
        assert operations.tap is None
        with tracer.listening(TraceFilter(path="a", operations=frozenset({"read"}))) as listener:
            for name, path in (("read", "a"), ("read", "b"), ("write", "a"), ("read", "a/c")):
                operations.end(operations.begin(name, (path,)), 0, None)
            operations.end(operations.begin("read", ("a",)), 5, None)
            events = await listener.next_events()
            assert [(one.path, one.error) for one in events] == [("a", None), ("a/c", None), ("a", "EIO")]
        assert operations.tap is None

    trio.run(main)


def test_a_slow_listener_loses_events_and_delays_nobody() -> None:
    async def main() -> None:
        operations = Operations()
        tracer = Tracer(operations, _Words())
        with tracer.listening(TraceFilter()) as slow, tracer.listening(TraceFilter()) as quick:
            for _ in range(QUEUE_EVENTS):
                operations.end(operations.begin("read", ("a",)), 0, None)
            assert len(await quick.next_events()) == QUEUE_EVENTS
            operations.end(operations.begin("read", ("b",)), 0, None)
            assert (slow.dropped, quick.dropped) == (1, 0)

    trio.run(main)


def test_a_bug_in_a_trace_harms_no_program(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        operations = Operations()
        with Tracer(operations, _Words()).listening(TraceFilter()):
            operations.end(operations.begin("read", (7,)), 0, None)
        assert operations.durations["read"].freeze().count == 1

    trio.run(main)
    assert "read could not be traced" in caplog.text


# -- stat and status ------------------------------------------------------------------------------------

STAT = {
    "path": "a",
    "kind": "file",
    "size_bytes": 40_000_000,
    "mode": 0o644,
    "state": "parked",
    "changes": ["put"],
    "error": "403.",
    "conflict_of": None,
    "staged_bytes": 10,
    "cached_bytes": 20_000_000,
    "memory_bytes": 0,
    "key": "a",
    "etag": "e",
    "stored_bytes": 10_000_000,
    "content_bytes": 40_000_000,
    "modified_s": 0.0,
    "remote": "changed",
    "storage_class": "STANDARD_IA",
    "content_type": "text/plain",
    "content_encoding": "zstd",
}


def test_stat_of_a_file() -> None:
    told = dict(rows(STAT))
    assert told["file"] == "40,000,000 bytes, -rw-r--r--"
    assert "PARKED" in told["state"]
    assert "objfs rescue" in told["state"]
    assert told["cached"] == "19.1 MiB of 38.1 MiB (50%) on disk"
    assert told["version"] == "ETag e, 9.5 MiB as stored; changed by somebody else since"
    assert told["modified"] == "1970-01-01 00:00:00 UTC in the store"
    assert told["stored as"] == "STANDARD_IA, text/plain, zstd"


def test_stat_of_a_new_file() -> None:
    fresh = {
        **STAT,
        "etag": None,
        "state": "waiting",
        "error": None,
        "modified_s": None,
        "remote": "not asked",
    }
    told = dict(rows(fresh))
    assert told["state"] == "waits for its upload"
    assert "version" not in told


STATUS = MountStatus(
    url="s3://photos/a-very-long-prefix/" + "x" * 60,
    mountpoint="/mnt/photos",
    state="serving",
    pid=1,
    version="0",
    started_s=0.0,
    read_only=False,
    write_mode="back",
    log_path="/log",
    store=StoreStatus(url="s3://photos", endpoint_url=None, reachable=True),
    uploads=UploadsStatus(),
    cache=CacheStatus(path="/cache"),
)


def test_status_of_a_mount_that_is_well() -> None:
    text = shown(_table(STATUS, 7200.0))
    assert max(map(len, text.splitlines())) <= 100
    assert "serving for 2.0 h" in text
    assert "parked" not in text
    assert "conflicts" not in text
    assert "\x1b" not in text


def test_status_in_a_pipe_has_no_folded_lines(capsys: pytest.CaptureFixture[str]) -> None:
    long = f"/cache/{'c' * 200}"
    _print_tables([replace(STATUS, cache=CacheStatus(path=long)), STATUS])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{STATUS.mountpoint}  {STATUS.url}"
    assert f"{'':13}{long}" in lines
    assert "  to upload  nothing" in lines
    assert lines.count("") == 1


def test_status_tells_what_is_wrong_and_what_to_do() -> None:
    parked = tuple(ParkedStatus(key=f"k{n}\x1b[2J", operation="put", error="403") for n in range(7))
    bad = replace(
        STATUS,
        store=StoreStatus(
            url="s3://photos", endpoint_url=None, reachable=False, offline_since_s=7000.0, error="refused."
        ),
        uploads=UploadsStatus(waiting_files=3, waiting_bytes=MIB, parked_count=9, parked=parked, conflicts=1),
    )
    text = " ".join(shown(_table(bad, 7180.0)).split())
    assert "NOT REACHABLE for 3 min, since" in text
    assert ": refused. Cached files can be read, changes wait here and go out by themselves." in text
    assert "9 changes REFUSED by the store; their data are kept." in text
    assert "objfs flush --retry-parked" in text
    assert "... and 4 more" in text
    assert "1 file changed by somebody else first; both versions are kept: 'objfs conflicts'" in text
    assert "\x1b" not in text
    assert "\x1b[1;31m" in shown(_table(bad, 7180.0), colour=True)


def test_uploads_that_fail_although_the_store_answers() -> None:
    store = StoreStatus(
        url="s3://b", endpoint_url=None, reachable=True, offline_since_s=100.0, error="slow down"
    )
    text = shown(_table(replace(STATUS, store=store), 160.0))
    assert "reachable, but UPLOADS FAIL for 1 min" in text


@pytest.mark.parametrize(
    ("limit_bytes", "room_bytes", "told"),
    [
        (100 * MIB, 5000, "room NONE on the disk of the cache; free some there, or wait for uploads"),
        (10 * MIB, 0, "room NONE in the cache; see --cache-size, or wait for uploads"),
        (100 * MIB, 80 * MIB, None),
        (100 * MIB, None, None),
    ],
)
def test_why_writes_find_no_room(limit_bytes: int, room_bytes: int | None, told: str | None) -> None:
    cache = CacheStatus(
        path="/c", staged_bytes=10 * MIB, staged_limit_bytes=limit_bytes, room_bytes=room_bytes
    )
    text = " ".join(shown(_table(replace(STATUS, cache=cache), 1.0)).split())
    assert told in text if told else "room" not in text


# -- the log --------------------------------------------------------------------------------------------


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _warning(template: str, *values: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("objfs.x", level, "f", 1, template, values, None)


def test_the_same_cause_is_logged_so_often_and_then_counted() -> None:
    now_s = 0.0
    kept = _Kept()
    handler = LimitedHandler([kept], clock=lambda: now_s)
    for number in range(MOST_PER_WINDOW + 120):
        handler.handle(_warning("read: %s", f"fault {number}"))
    handler.handle(_warning("write: %s", "another cause"))
    assert len(kept.texts) == MOST_PER_WINDOW + 1
    assert kept.texts[-1] == "write: another cause"
    now_s = WINDOW_S
    handler.tell_left_out()
    assert kept.texts[-1] == "... 120 more like this in the last minute: read: fault 0"
    handler.handle(_warning("read: %s", "again"))
    assert kept.texts[-1] == "read: again"
    handler.close()


def test_what_was_left_out_is_told_at_the_end() -> None:
    kept = _Kept()
    handler = LimitedHandler([kept], clock=lambda: 0.0, most=1)
    for _ in range(3):
        handler.handle(_warning("100 %% of %s", "it"))
    handler.close()
    assert kept.texts == ["100 % of it", "... 2 more like this in the last minute: 100 % of it"]


def test_what_goes_well_is_not_limited() -> None:
    kept = _Kept()
    handler = LimitedHandler([kept], clock=lambda: 0.0, most=1)
    for _ in range(3):
        handler.handle(_warning("done", level=logging.INFO))
    handler.close()
    assert len(kept.texts) == 3


def test_json_lines() -> None:
    formatter = JsonFormatter(['topsecret"value'])
    record = _warning("a %s\nb %s https://me:pass@h/?X-Amz-Signature=abc", 'topsecret"value', "\x1b")
    try:
        raise ValueError('topsecret"value')
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    text = formatter.format(record)
    assert "\n" not in text
    value = json.loads(text)
    assert value["message"] == "a ***\nb \x1b https://me:***@h/?X-Amz-Signature=***"
    assert (value["level"], value["logger"]) == ("warning", "objfs.x")
    assert value["exception"].endswith("ValueError: ***")
    assert "topsecret" not in text
