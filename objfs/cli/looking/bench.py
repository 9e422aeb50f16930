"""`objfs bench`."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from objfs.cli.show import print_json, show_text
from objfs.cli.targets import find_target, settings_of
from objfs.doctor.measuring import measure_store
from objfs.doctor.tracking import leaving_nothing
from objfs.errors import MountError
from objfs.store.registry import open_store
from objfs.store.retry import RetryingStore, RetryPolicy
from objfs.store.urls import StoreOptions, StoreUrl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from objfs.doctor.measuring import Row

_POLICY = RetryPolicy(max_attempts=3, deadline_s=10.0)


def bench(name: str, flags: Mapping[str, str], *, quick: bool, as_json: bool) -> int:
    """Measure a store, and print a table; what was written is gone afterwards, also after Ctrl-C."""
    settings = settings_of(find_target(name, flags), flags)
    options = StoreOptions(
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        profile=settings.profile,
        credentials_file=str(settings.credentials_file) if settings.credentials_file else None,
    )
    left: list[str] = []
    rows: list[Row] = []
    with (
        closing(open_store(StoreUrl.parse(settings.url), options)) as store,
        leaving_nothing(RetryingStore(store, _POLICY), left.extend) as tracking,
    ):
        for row in measure_store(tracking, quick=quick):
            rows.append(row)
            if not as_json and sys.stderr.isatty():
                sys.stderr.write(f"\r{row.name:<20}")
                sys.stderr.flush()
    if not as_json and sys.stderr.isatty():
        sys.stderr.write(f"\r{'':<20}\r")
    if as_json:
        values = [{**asdict(row), "requests_s": row.requests_s, "mb_s": row.mb_s} for row in rows]
        print_json(values)
    else:
        _print(settings.url, rows)
    if left:
        raise MountError(
            f"{len(left)} objects could not be deleted, {left[0]} for instance; delete them by hand."
        )
    return 0


def _print(url: str, rows: list[Row]) -> None:
    from rich.console import Console

    Console(highlight=False).print(_table(url, rows))


def _table(url: str, rows: list[Row]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=escape(show_text(url)), title_justify="left", pad_edge=False)
    table.add_column("request")
    for heading in ("at once", "requests", "p50 ms", "p99 ms", "per s", "MB/s"):
        table.add_column(heading, justify="right")
    for row in rows:
        speed = "" if row.mb_s is None else f"{row.mb_s:,.1f}"
        table.add_row(
            row.name,
            str(row.parallel),
            f"{row.requests:,}",
            f"{row.p50_s * 1000:,.1f}",
            f"{row.p99_s * 1000:,.1f}",
            f"{row.requests_s:,.1f}",
            speed,
        )
    return table
