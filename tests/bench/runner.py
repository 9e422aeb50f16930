"""The order of the cells: tools alternate within each run, and a failure is a cell, not the end."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.errors import BenchError
from tests.bench.mounting import mounted
from tests.bench.rows import Cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.console import Console

    from tests.bench.bucket import Admin, Bucket
    from tests.bench.data import Inputs
    from tests.bench.mounting import Mount
    from tests.bench.results import Results
    from tests.bench.rows import Group, Measured, Row
    from tests.bench.tools import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure; `endpoints` by added latency in milliseconds."""

    groups: Sequence[Group]
    rows: frozenset[str]
    tools: Sequence[Tool]
    endpoints: Mapping[int, str]
    runs: int
    timeout_s: float
    keep_logs: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One tool on one group of rows."""

    group: Group
    latency_ms: int
    run: int
    tool: Tool


def run_plan(plan: Plan, inputs: Inputs, admin: Admin, results: Results, console: Console) -> None:
    """Measure all cells."""
    for group in plan.groups:
        with ExitStack() as stack:
            shared = stack.enter_context(admin.bucket()) if group.shared else None
            for visit in _visits(plan, group):
                with nullcontext(shared) if shared else admin.bucket() as bucket:
                    _run_visit(plan, visit, bucket, inputs, results, console)


def _visits(plan: Plan, group: Group) -> Iterator[Visit]:
    tools = [tool for tool in plan.tools if tool.binary() is not None]
    for run in range(plan.runs):
        for latency_ms in plan.endpoints:
            for place in range(len(tools)):
                tool = tools[(place + run) % len(tools)]  # nobody is always the first
                yield Visit(group=group, latency_ms=latency_ms, run=run, tool=tool)


def _run_visit(
    plan: Plan, visit: Visit, bucket: Bucket, inputs: Inputs, results: Results, console: Console
) -> None:
    for row in visit.group.rows:
        if row.name not in plan.rows:
            continue
        outcome = _run_cell(row, Cell(bucket=bucket, inputs=inputs, mount=_mounter(plan, visit, row, bucket)))
        results.add(row.name, visit.latency_ms, visit.tool.name, outcome)
        said = outcome if isinstance(outcome, str) else _say(outcome)
        console.print(f"{row.name} +{visit.latency_ms} ms {visit.tool.name}: {said}", markup=False)


def _mounter(
    plan: Plan, visit: Visit, row: Row, bucket: Bucket
) -> Callable[[], AbstractContextManager[Mount]]:
    name = f"{row.name}-{visit.latency_ms}-{visit.tool.name}-{visit.run}.log"
    log = plan.keep_logs / name if plan.keep_logs else None
    endpoint = plan.endpoints[visit.latency_ms]
    return lambda: mounted(visit.tool, endpoint, bucket.name, plan.timeout_s, log)


def _run_cell(row: Row, cell: Cell) -> Measured | str:
    try:
        return row.run(cell)
    except BenchError as error:
        return f"failed: {error}"
    except Exception as error:  # noqa: BLE001  # whatever it was, the other cells go on
        return f"failed: {type(error).__name__}: {error}"


def _say(measured: Measured) -> str:
    stored = "" if measured.stored_s is None else f", in the bucket after {measured.stored_s:.2f} s"
    used = f"{measured.cpu_s:.2f} s CPU, {measured.peak_rss_bytes >> 20} MiB"
    return f"{measured.seconds:.2f} s{stored} ({used})"
