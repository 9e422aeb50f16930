"""Figures of all cells: medians, tables, JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tests.bench.rows import GROUPS, Measured
from tests.bench.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.bench.data import Sizes

Outcome = Measured | str  # or why it failed
_SHOWN_FAILURE_CHARS = 60


@dataclass(slots=True, kw_only=True)
class Results:
    """What was measured so far, by row, added latency and tool."""

    sizes: Sizes
    _outcomes: dict[tuple[str, int, str], list[Outcome]] = field(default_factory=dict)

    def add(self, row: str, latency_ms: int, tool: str, outcome: Outcome) -> None:
        """Note one cell of one run."""
        self._outcomes.setdefault((row, latency_ms, tool), []).append(outcome)

    def middle(self, row: str, latency_ms: int, tool: str) -> Outcome | None:
        """The median over the runs, one failure if there was any, None if it was not tried."""
        outcomes = self._outcomes.get((row, latency_ms, tool), [])
        failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
        measured = [outcome for outcome in outcomes if isinstance(outcome, Measured)]
        if failures or not measured:
            return failures[0] if failures else None
        stored = [one.stored_s for one in measured if one.stored_s is not None]
        return Measured(
            seconds=median(one.seconds for one in measured),
            stored_s=median(stored) if stored else None,
            cpu_s=median(one.cpu_s for one in measured),
            peak_rss_bytes=max(one.peak_rss_bytes for one in measured),
        )

    def ratio(self, row: str, latency_ms: int, tool: str, *, stored: bool = False) -> float | None:
        """Time of this tool over that of the better peer; None if there is nothing to compare."""
        own = _seconds(self.middle(row, latency_ms, tool), stored=stored)
        peers = [
            seconds
            for peer in TOOLS.values()
            if peer.peer
            and (seconds := _seconds(self.middle(row, latency_ms, peer.name), stored=stored)) is not None
        ]
        return own / max(min(peers), 1e-3) if own is not None and peers else None

    def tables(self) -> Iterator[Table]:
        """For each latency one of times and one of what the daemons used."""
        tools = [name for name in TOOLS if any(tool == name for _row, _latency, tool in self._outcomes)]
        for latency_ms in sorted({latency for _row, latency, _tool in self._outcomes}):
            yield self._times(latency_ms, tools)
            yield self._usage(latency_ms, tools)

    def as_json(self) -> dict[str, Any]:
        """Everything measured, run by run."""
        cells = [
            {
                "row": row,
                "latency_ms": latency_ms,
                "tool": tool,
                "runs": [
                    {"failed": one} if isinstance(one, str) else asdict(one) for one in outcomes
                ],
                "ratio_to_better_peer": self.ratio(row, latency_ms, tool),
                "ratio_stored": self.ratio(row, latency_ms, tool, stored=True),
            }
            for (row, latency_ms, tool), outcomes in self._outcomes.items()
        ]  # fmt: skip
        return {"sizes": asdict(self.sizes), "cells": cells}

    def _times(self, latency_ms: int, tools: list[str]) -> Table:
        table = Table(
            title=f"seconds, +{latency_ms} ms (in brackets: until it is in the bucket; "
            "x: beside the better of rclone and s3fs)",
            box=SIMPLE_HEAD,
            title_justify="left",
        )
        table.add_column("")
        for tool in tools:
            table.add_column(tool, justify="right")
            if not TOOLS[tool].peer:
                table.add_column("x", justify="right")
        for row, label in self._rows():
            table.add_row(label, *self._cells(row, latency_ms, tools))
        return table

    def _cells(self, row: str, latency_ms: int, tools: Iterable[str]) -> Iterator[str]:
        for tool in tools:
            yield _time_text(self.middle(row, latency_ms, tool))
            if not TOOLS[tool].peer:
                near = self.ratio(row, latency_ms, tool)
                far = self.ratio(row, latency_ms, tool, stored=True)
                yield " ".join(
                    [f"{near:.2f}" if near is not None else "", f"({far:.2f})" if far is not None else ""]
                ).strip()

    def _usage(self, latency_ms: int, tools: list[str]) -> Table:
        table = Table(
            title=f"the daemons' CPU seconds and peak memory, +{latency_ms} ms",
            box=SIMPLE_HEAD,
            title_justify="left",
        )
        table.add_column("")
        for tool in tools:
            table.add_column(tool, justify="right")
        for row, label in self._rows():
            table.add_row(label, *(_usage_text(self.middle(row, latency_ms, tool)) for tool in tools))
        return table

    def _rows(self) -> Iterator[tuple[str, str]]:
        tried = {row for row, _latency, _tool in self._outcomes}
        for group in GROUPS:
            for row in group.rows:
                if row.name in tried:
                    yield row.name, row.label(self.sizes)


def _seconds(outcome: Outcome | None, *, stored: bool) -> float | None:
    if not isinstance(outcome, Measured):
        return None
    return outcome.stored_s if stored else outcome.seconds


def _time_text(outcome: Outcome | None) -> str:
    if outcome is None:
        return "-"
    if isinstance(outcome, str):
        return escape(" ".join(outcome.split())[:_SHOWN_FAILURE_CHARS])
    stored = f" ({outcome.stored_s:.2f})" if outcome.stored_s is not None else ""
    return f"{outcome.seconds:.2f}{stored}"


def _usage_text(outcome: Outcome | None) -> str:
    if not isinstance(outcome, Measured):
        return "-"
    return f"{outcome.cpu_s:.2f} s  {outcome.peak_rss_bytes >> 20} MiB"
