"""What `objfs top` shows, for 100 columns and as many lines as there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from objfs.cli.show import show_bytes, show_duration, show_files, show_seconds, show_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from objfs.cli.looking.prices import Prices
    from objfs.cli.looking.rates import Pace, Rates
    from objfs.control.figures import Figures, RunningCall, Sending

_MAX_OPERATIONS = 12  # those with the most requests; the sum has the others
_FIXED_ROWS = 30  # what is there besides uploads and slow operations
_SLOW_S = 1.0  # a request that has no answer for so long is shown by itself
_BAR_COLUMNS = 20


def screen(
    figures: Figures, rates: Rates, prices: Prices, *, now_s: float, rows: int | None
) -> RenderableType:
    """One look; `rows` is the height of the terminal, None for no limit."""
    room = 10 if rows is None else max(2, rows - _FIXED_ROWS)
    sides = Table.grid(padding=(0, 2, 0, 0))
    sides.add_row(_operations(rates), _bytes(figures, rates))
    slow = [one for one in figures.running if one.seconds >= _SLOW_S]
    parts: list[RenderableType] = [
        _head(figures, now_s),
        "",
        sides,
        "",
        _requests(rates),
        _cost(rates, prices),
    ]
    if slow:
        parts += ["", _running(slow[:room])]
    parts += ["", *_uploads(figures, rates, now_s, room)]
    return Group(*parts)


def _head(figures: Figures, now_s: float) -> Text:
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(show_text(figures.mountpoint), style="bold")
    head.append(f"  {show_text(figures.url)}  up {show_seconds(now_s - figures.started_s)}")
    if figures.offline_since_s is not None:
        head.append(f"  STORE OFFLINE for {show_seconds(now_s - figures.offline_since_s)}", style="bold red")
    return head


def _plain_table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left", no_wrap=True)
    return table


def _operations(rates: Rates) -> Table:
    table = _plain_table("operations", "per s", "p50", "p99", "errors", "so far")
    _widen(table)
    busiest = sorted(rates.operations.items(), key=lambda item: (-item[1].per_s, -item[1].total))
    for name, pace in busiest[:_MAX_OPERATIONS]:
        table.add_row(name, *_pace(pace), f"{pace.total:,}", style="" if pace.per_s else "dim")
    table.add_row("all", *_pace(rates.all_operations), f"{rates.all_operations.total:,}", style="bold")
    return table


def _widen(table: Table) -> None:
    """Columns stay where they are while figures come and go."""
    for column, width in zip(table.columns, (13, 6, 6, 6, 6, 7), strict=False):
        column.min_width = width


def _pace(pace: Pace) -> tuple[str, str, str, str]:
    return (
        _number(pace.per_s),
        show_duration(pace.p50_s),
        show_duration(pace.p99_s),
        _number(pace.errors_per_s),
    )


def _bytes(figures: Figures, rates: Rates) -> Table:
    table = _plain_table("bytes", "per s", "share")
    table.columns[0].min_width, table.columns[1].min_width = 19, 10
    total = sum(rates.reads.values())
    for name, label in (
        ("memory", "read from memory"),
        ("disk", "from the disk cache"),
        ("store", "from the store"),
        ("staged", "not uploaded yet"),
    ):
        count = rates.reads[name]
        share = f"{count / total:.0%}" if total and count else ""
        table.add_row(label, show_bytes(count) if count else "", share, style="" if count else "dim")
    written = rates.written_bytes_s
    table.add_row("written", show_bytes(written) if written else "", "", style="" if written else "dim")
    table.add_row("uploaded", show_bytes(rates.upload_bytes_s) if rates.upload_bytes_s else "")
    table.add_row("")
    hit = "" if rates.hit_share is None else f"{rates.hit_share:.0%}"
    table.add_row("disk cache hits", "", hit)
    table.add_row("disk cache", *_of(figures.disk.bytes, figures.disk.limit_bytes))
    table.add_row("staged changes", *_of(figures.staging_bytes, figures.staging_limit_bytes))
    table.add_row("read buffers", *_of(figures.memory_bytes, figures.memory_limit_bytes))
    return table


def _of(used: int, limit: int) -> tuple[str, str]:
    return show_bytes(used), f"{used / limit:.0%}" if limit else ""


def _requests(rates: Rates) -> Table:
    table = _plain_table("requests", "per s", "p50", "p99", "errors", "so far", "retries")
    _widen(table)
    busiest = sorted(rates.requests.items(), key=lambda item: (-item[1].per_s, -item[1].total))
    for name, pace in busiest:
        style = "" if pace.per_s else "dim"
        again = _number(pace.retries_per_s)
        table.add_row(name.replace("_", " "), *_pace(pace), f"{pace.total:,}", again, style=style)
    if not rates.requests:
        table.add_row("none yet", style="dim")
    return table


def _cost(rates: Rates, prices: Prices) -> Text:
    return Text(
        f"estimated cost: ${rates.cost:,.4f} so far, ${rates.cost_per_hour:,.2f} an hour like this "
        f"({prices.source})",
        style="dim",
    )


def _running(slow: list[RunningCall]) -> Table:
    table = _plain_table("waiting for an answer", "for")
    table.columns[0].overflow = "ellipsis"
    for one in slow:
        table.add_row(f"{one.operation} {show_text(one.path)}", show_duration(one.seconds))
    return table


def _uploads(figures: Figures, rates: Rates, now_s: float, room: int) -> list[RenderableType]:
    uploads = figures.uploads
    words = [f"{show_files(uploads.waiting_files)} to go ({show_bytes(uploads.waiting_bytes)})"]
    if uploads.waiting_changes:
        words.append(f"{uploads.waiting_changes:,} other changes")
    if uploads.in_flight_files:
        words.append(f"{uploads.in_flight_files} on their way")
    if rates.upload_bytes_s >= 1:
        words.append(f"{show_bytes(rates.upload_bytes_s)}/s")
    if rates.upload_left_s is not None:
        words.append(f"about {show_seconds(rates.upload_left_s)} left")
    line = Text("uploads", style="bold")
    waits = uploads.waiting_files or uploads.waiting_changes
    line.append("  " + ", ".join(words) if waits else "  nothing waits", style="not bold")
    trouble = [
        f"{count:,} {name}"
        for count, name in ((uploads.parked_count, "parked"), (uploads.conflicts, "conflicts"))
        if count
    ]
    if trouble:
        line.append("  " + ", ".join(trouble), style="bold red")
    parts: list[RenderableType] = [line]
    if figures.offline_since_s is not None:
        parts.append(Text(f"  {show_text(figures.last_error or 'no answer')}", style="red"))
    moving = [one for one in figures.sending if not one.error or one.sent_bytes]
    if moving:
        parts.append(_sending(moving[:room], rates))
    if figures.offline_since_s is None:
        failed = [one for one in figures.sending if one.error]
        parts += [
            Text(
                f"  {show_text(one.path)}: tried again, {show_text(one.error or '')}",
                no_wrap=True,
                overflow="ellipsis",
                style="red",
            )
            for one in failed[:room]
        ]
    return parts


def _sending(files: list[Sending], rates: Rates) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column(no_wrap=True)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    for one in files:
        share = one.sent_bytes / one.size_bytes if one.size_bytes else 0.0
        pace = rates.sending_bytes_s.get(one.path)
        table.add_row(
            f"  {show_text(one.path)}",
            bar(share),
            f"{share:.0%}",
            f"of {show_bytes(one.size_bytes)}",
            f"{show_bytes(pace)}/s" if pace else "",
        )
    return table


def bar(share: float) -> str:
    """A bar of fixed width, `share` (0 to 1) of it filled."""
    filled = round(min(max(share, 0.0), 1.0) * _BAR_COLUMNS)
    return "█" * filled + "░" * (_BAR_COLUMNS - filled)


def _number(count: float) -> str:
    """`1,204`, `3.5`, and nothing for none."""
    if not count:
        return ""
    return f"{count:,.0f}" if count >= 10 else f"{count:.1f}"
