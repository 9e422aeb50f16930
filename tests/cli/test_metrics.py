"""Metrics: what is exported is what is documented, and what dashboard and alerts ask for."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from objfs.config.metrics import MetricsKind, parse_metrics
from objfs.control.endpoint import open_metrics
from objfs.control.figures import (
    Figures,
    OperationFigures,
    RequestFigures,
    RunningCall,
    figures_from_json,
    figures_to_json,
)
from objfs.control.metrics import exposition
from objfs.control.values import UploadsStatus
from objfs.errors import MountError
from objfs.observe.histogram import Durations, Histogram
from objfs.observe.operations import OPERATIONS
from objfs.store.forward import RequestKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "objfs" / "control" / "METRICS.md"
SHARE = ROOT / "objfs" / "share"


def durations(*seconds: float) -> Durations:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    return histogram.freeze()


FIGURES = Figures(
    clock_s=5.0,
    url='memory://"x"',
    mountpoint="/mnt/a\nb",
    version="1",
    started_s=10.0,
    operations={name: OperationFigures(durations=durations(0.001, 0.3)) for name in OPERATIONS}
    | {"read": OperationFigures(durations=durations(0.002), errors={"EIO": 2})},
    running_calls=1,
    running=(RunningCall(operation="read", path="a", seconds=2.0),),
    requests={
        kind.value: RequestFigures(durations=durations(0.02), errors={"ThrottledError": 3}, retries=1)
        for kind in RequestKind
    },
    uploads=UploadsStatus(waiting_files=4, conflicts=1),
    offline_since_s=1.0,
)


def exported() -> dict[str, Any]:
    """All metrics by the name that people query."""
    text = exposition(FIGURES).decode()
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text)
    }


def table(families: dict[str, Any]) -> str:
    """The table of the document."""
    lines = ["| metric | type | labels | what it is |", "|---|---|---|---|"]
    for name, family in families.items():
        labels = sorted(
            {label for sample in family.samples for label in sample.labels} - {"le", "mountpoint"}
        )
        lines.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(lines)


def test_the_document_has_exactly_what_is_exported() -> None:
    assert table(exported()) in DOCUMENT.read_text()


def test_names_follow_the_rules() -> None:
    for name, family in exported().items():
        assert re.fullmatch(r"objfs_[a-z]+(_[a-z]+)*", name)
        assert family.type in ("counter", "gauge", "histogram")
        assert (family.type == "counter") == name.endswith("_total")
        assert not re.search(r"_(ms|us|kb|mb|mib|percent|minutes)(_|$)", name), "base units only"
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.labels["mountpoint"] == FIGURES.mountpoint


def test_values() -> None:
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in exported().values()
        for sample in family.samples
    }
    here = ("mountpoint", FIGURES.mountpoint)
    assert samples["objfs_store_throttled_total", here] == 3 * len(RequestKind)
    assert samples["objfs_operation_errors_total", ("errno", "EIO"), here, ("operation", "read")] == 2
    assert samples["objfs_longest_running_operation_seconds", here] == 2
    assert samples["objfs_store_offline", here] == 1
    name = "objfs_operation_duration_seconds"
    lookup = (here, ("operation", "lookup"))
    assert samples[f"{name}_count", *lookup] == 2
    assert samples[f"{name}_bucket", ("le", "0.00390625"), *lookup] == 1
    assert samples[f"{name}_bucket", ("le", "+Inf"), *lookup] == 2
    assert samples[f"{name}_sum", *lookup] == pytest.approx(0.301)


def test_the_number_of_series_is_bounded() -> None:
    """Labels have values of fixed sets: nothing that programs or buckets name becomes one."""
    values = {
        label: {
            sample.labels[label]
            for family in exported().values()
            for sample in family.samples
            if label in sample.labels
        }
        for label in ("operation", "kind", "source")
    }
    assert values["operation"] == set(OPERATIONS)
    assert values["kind"] == {kind.value for kind in RequestKind}
    assert values["source"] == {"memory", "disk", "store", "staged"}
    assert sum(len(family.samples) for family in exported().values()) < 1000


@pytest.mark.parametrize("name", ["grafana/objfs.json", "prometheus/objfs-alerts.yml"])
def test_dashboard_and_alerts_name_only_what_exists(name: str) -> None:
    text = (SHARE / name).read_text()
    families = exported()
    samples = {sample.name: sample for family in families.values() for sample in family.samples}
    asked = set(re.findall(r"\bobjfs_[a-z_]+", text))
    assert len(asked) > 8
    assert asked <= set(samples), f"not exported: {asked - set(samples)}"
    known = {label for sample in samples.values() for label in sample.labels}
    for labels in re.findall(r"\bby \(([^)]*)\)", text):
        assert {label.strip() for label in labels.split(",")} <= known
    for metric, selector in re.findall(r"\b(objfs_[a-z_]+)\{([^}]*)\}", text):
        assert set(re.findall(r"(\w+)=~?", selector)) <= set(samples[metric].labels), metric


def test_the_dashboard_shows_every_kind_of_figure() -> None:
    board = json.loads((SHARE / "grafana" / "objfs.json").read_text())
    queries = " ".join(target["expr"] for panel in board["panels"] for target in panel.get("targets", []))
    for part in ("operation_duration", "read_bytes", "store_request", "waiting", "cache_hits", "parked"):
        assert part in queries
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_figures_go_over_the_socket_unchanged() -> None:
    sent = json.loads(json.dumps(figures_to_json(FIGURES)))
    assert figures_from_json({**sent, "new_field": 1}) == FIGURES


# -- where they can be had ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("127.0.0.1:9400", MetricsKind.HTTP),
        ("localhost:9400", MetricsKind.HTTP),
        ("[::1]:9400", MetricsKind.HTTP),
        ("unix:/run/x", MetricsKind.UNIX),
        ("textfile:/a/b.prom", MetricsKind.TEXTFILE),
    ],
)
def test_places(text: str, kind: MetricsKind) -> None:
    assert parse_metrics(text).kind is kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9400",
        "0.0.0.0:9400",
        "example.org:80",
        "127.0.0.1:0",
        "127.0.0.1:99999",
        "unix:x",
        "textfile:/a/b",
        "[::]:1",
    ],
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="'"):
        parse_metrics(text)


async def _figures() -> Figures:
    return FIGURES


@asynccontextmanager
async def serving(where: str) -> AsyncIterator[None]:
    async with open_metrics(where, _figures):
        yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_over_http() -> None:
    port = _free_port()

    def get(path: str, method: str = "GET") -> tuple[int, str, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # loopback
                return answer.status, answer.headers["content-type"], answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, "", b""

    async def main() -> None:
        async with serving(f"127.0.0.1:{port}"):
            status, kind, body = await trio.to_thread.run_sync(get, "/metrics")
            assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
            assert b"objfs_waiting_files{" in body
            assert (await trio.to_thread.run_sync(get, "/metrics", "HEAD"))[2] == b""
            assert (await trio.to_thread.run_sync(get, "/other"))[0] == 404
            assert (await trio.to_thread.run_sync(get, "/metrics", "POST"))[0] == 405
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"\x16\x03\x01 nonsense\r\n\r\n")
                assert b"400" in await stream.receive_some(100)
            with pytest.raises(MountError, match="--metrics of its own"):
                async with open_metrics(f"127.0.0.1:{port}", _figures):
                    pass

    trio.run(main)


def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def main() -> None:
        async with serving(f"unix:{path}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(b"GET /metrics HTTP/1.0\r\n\r\n")
                body = b"".join([chunk async for chunk in stream])
            assert b"objfs_waiting_files{" in body

    trio.run(main)
    assert not path.exists()


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "objfs.prom"

    async def main() -> None:
        async with serving(f"textfile:{path}"):
            assert "objfs_waiting_files{" in path.read_text()
            assert stat.S_IMODE(path.stat().st_mode) == 0o644

    trio.run(main)
    assert os.listdir(tmp_path) == []
    with pytest.raises(MountError, match="cannot be written"):
        trio.run(_enter, f"textfile:{tmp_path}/missing/objfs.prom")


async def _enter(where: str) -> None:
    async with serving(where):
        pass
