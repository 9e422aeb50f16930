"""Sizes, times and counts for people, and values for scripts."""

from __future__ import annotations

import json
import sys

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def show_bytes(count: float) -> str:
    """`0 B`, `1.5 GiB`."""
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count /= _STEP
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def show_text(text: str) -> str:
    """Text that came from a store or a path, without control characters for the terminal to obey."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def show_seconds(seconds: float) -> str:
    """`12 s`, `5 min`, `3.5 h`, `2.0 d`."""
    if seconds < _MINUTE_S:
        return f"{max(0, seconds):.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h" if seconds < _DAY_S else f"{seconds / _DAY_S:.1f} d"


def show_count(count: int, noun: str) -> str:
    """`1 name`, `3,000 names`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def show_files(count: int) -> str:
    """`1 file`, `3 files`."""
    return show_count(count, "file")


def show_changes(count: int) -> str:
    """`1 change`, `3 changes`."""
    return show_count(count, "change")


def show_duration(seconds: float | None) -> str:
    """`45 us`, `1.2 ms`, `350 ms`, `2.5 s`, and nothing for None."""
    if seconds is None:
        return ""
    for unit, name in ((1e-6, "us"), (1e-3, "ms"), (1.0, "s")):
        count = seconds / unit
        if count < 999.5 or name == "s":
            return f"{count:.1f} {name}" if count < 9.95 and name != "us" else f"{count:,.0f} {name}"
    return ""


def print_json(value: object) -> None:
    """What `--json` prints."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
