"""`objfs top`."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from objfs.cli.looking.pick import one_mount
from objfs.cli.looking.prices import parse_prices
from objfs.cli.looking.rates import rates_between, rates_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.cli.looking.prices import Prices
    from objfs.cli.looking.rates import Rates
    from objfs.control.client import ControlClient
    from objfs.control.figures import Figures

REFRESH_S = 1.0
_SMOOTHED_LOOKS = 6  # rates of uploads are of the last five seconds: parts end in bursts


def top(mount: str | None, *, once: bool, as_json: bool, prices: str | None) -> int:
    """Show what a mount does, each second anew; with `once` only the first second."""
    table = parse_prices(prices)
    with one_mount(mount) as client:
        try:
            if as_json:
                for figures, rates in _looks(client, table, once=once):
                    sys.stdout.write(json.dumps(rates_to_json(figures, rates)) + "\n")
                    sys.stdout.flush()
            else:
                _show(_looks(client, table, once=once), table, live=not once and sys.stdout.isatty())
        except (KeyboardInterrupt, BrokenPipeError):
            return 0
    return 0


def _looks(client: ControlClient, prices: Prices, *, once: bool) -> Iterator[tuple[Figures, Rates]]:
    looks: deque[Figures] = deque([client.figures()], maxlen=_SMOOTHED_LOOKS)
    next_s = time.monotonic()
    while True:
        next_s = max(next_s + REFRESH_S, time.monotonic())
        time.sleep(max(0.0, next_s - time.monotonic()))
        looks.append(client.figures())
        yield looks[-1], rates_between(list(looks), prices)
        if once:
            return


def _show(looks: Iterator[tuple[Figures, Rates]], prices: Prices, *, live: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from objfs.cli.looking.top_screen import screen

    console = Console(highlight=False)
    if not live:
        for figures, rates in looks:
            console.print(screen(figures, rates, prices, now_s=time.time(), rows=None))
            sys.stdout.flush()
        return
    with Live(console=console, screen=True, auto_refresh=False) as display:
        for figures, rates in looks:
            shown = screen(figures, rates, prices, now_s=time.time(), rows=console.size.height)
            display.update(shown, refresh=True)
