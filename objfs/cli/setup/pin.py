"""`objfs pin` and `objfs unpin`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from objfs.cli.places import locate_all
from objfs.cli.setup.warm import fetch, report
from objfs.cli.show import show_text

if TYPE_CHECKING:
    from collections.abc import Sequence


def pin(texts: Sequence[str], *, as_json: bool) -> int:
    """Keep files and directories in the cache, whatever version they come to have."""
    found = [
        fetch("pin", mountpoint, places, quiet=as_json) for mountpoint, places in locate_all(texts).items()
    ]
    return report(found, "pinned", as_json=as_json)


def unpin(texts: Sequence[str]) -> int:
    """Give them up to eviction again."""
    for mountpoint, places in locate_all(texts).items():
        with places[0].connect() as client:
            for place in places:
                client.ask("unpin", paths=[place.inner])
        names = ", ".join(show_text(place.inner or "/") for place in places)
        sys.stdout.write(f"{show_text(str(mountpoint))}: not pinned any more: {names}\n")
    return 0
