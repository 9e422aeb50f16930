"""`python -m tests.bench`: times objfs and its peers on the same MinIO, cold, near and far."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tests.bench import compression
from tests.bench.bucket import Admin
from tests.bench.data import FULL, QUICK, make_inputs
from tests.bench.proxy import open_proxy
from tests.bench.results import Results
from tests.bench.rows import GROUPS, ROW_NAMES
from tests.bench.runner import Plan, run_plan
from tests.bench.tools import TOOLS, missing_tools
from tests.servers import minio_server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

DEFAULT_TOOLS = ("objfs", "rclone", "s3fs")
STEP_TIMEOUT_S = 600.0  # s3fs unpacks a tree at 10 ms in some minutes; nothing here takes longer
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns its exit status."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    tools = [TOOLS[name] for name in arguments.tools]
    for sentence in missing_tools(tools):
        console.print(sentence, markup=False)
    for number in _STOP_SIGNALS:
        signal.signal(number, _interrupt)
    results = Results(sizes=QUICK if arguments.quick else FULL)
    compressed: list[compression.Figures] = []
    status = 0
    try:
        _run(arguments, results, compressed, console)
    except KeyboardInterrupt:
        console.print("interrupted; what was measured until then:")
        status = 130  # what shells report for a program ended by SIGINT
    for table in results.tables():
        Console(width=None if sys.stdout.isatty() else 140).print(table)
    for figures in compressed:
        Console(width=None if sys.stdout.isatty() else 140).print(figures.table())
    if arguments.json:
        told = results.as_json() | {compression.NAME: [figures.as_json() for figures in compressed]}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    return status


def _run(
    arguments: argparse.Namespace,
    results: Results,
    compressed: list[compression.Figures],
    console: Console,
) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="objfs-bench-")))
        server = stack.enter_context(minio_server())
        endpoints = {
            latency_ms: server.endpoint
            if latency_ms == 0
            else stack.enter_context(open_proxy(server.host, latency_ms, folder))
            for latency_ms in arguments.latency
        }
        plan = Plan(
            groups=[group for group in GROUPS if any(row.name in arguments.rows for row in group.rows)],
            rows=frozenset(arguments.rows),
            tools=[TOOLS[name] for name in arguments.tools],
            endpoints=endpoints,
            runs=arguments.runs,
            timeout_s=arguments.timeout,
            keep_logs=arguments.keep_logs,
        )
        inputs = make_inputs(folder, results.sizes)
        run_plan(plan, inputs, Admin(server), results, console)
        if compression.NAME in arguments.rows:
            sizes = {"size": 2 * results.sizes.big_bytes, "runs": arguments.runs}
            compressed.append(
                compression.measure(folder, Admin(server), server.endpoint, **sizes, console=console)
            )


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Leave, once: mounts, processes and folders are cleaned up undisturbed, each within a timeout."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    rows = (*ROW_NAMES, compression.NAME)
    parser.add_argument("--rows", type=_names(rows), default=rows, help=",".join(rows))
    parser.add_argument("--tools", type=_names(tuple(TOOLS)), default=DEFAULT_TOOLS, help=",".join(TOOLS))
    parser.add_argument("--latency", type=_latencies, default=[0, 10], help="added ms, for instance 0,10")
    parser.add_argument("--runs", type=int, default=1, help="median of this many")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--timeout", type=float, default=STEP_TIMEOUT_S, help="seconds given to one step")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--keep-logs", type=Path, metavar="DIR", help="keep the daemons' logs")
    return parser


def _names(known: tuple[str, ...]) -> _NamesOf:
    return _NamesOf(known)


class _NamesOf:
    """An argparse type: names with commas, each of them known."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def __call__(self, text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in self._known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(self._known)}")
        return names


def _latencies(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
