"""Sizes and times as people write them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Binary for the bare letters, as in dd, truncate, rclone and systemd; decimal only where "B" is spelled out.
_SIZE_UNITS = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgtp", start=1)
    for suffix, base in (("", 1024), ("i", 1024), ("ib", 1024), ("b", 1000))
}
_TIME_UNITS = {
    "ms": 0.001,
    "": 1.0,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
LEAST_RATE_BYTES_S = 64 * 1024  # a block of 256 KiB has to arrive well within the deadline of a read
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: str) -> int:
    """Bytes of `10GiB`, `500M`, `1.5G`, `4096`. K, M, G, T are powers of 1024; KB, MB, GB, TB of 1000."""
    match = _QUANTITY.fullmatch(text)
    factor = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"'{text}' is no size; write for instance 10GiB, 500M or 1.5G")
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def parse_duration(text: str) -> float:
    """Seconds of `500ms`, `30s`, `5m`, `2h`, `1d`, `4w`; a bare number is seconds."""
    match = _QUANTITY.fullmatch(text)
    factor = _TIME_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"'{text}' is no time; write for instance 500ms, 30s, 5m or 2h")
    return float(match[1]) * factor


def show_size(count: int) -> str:
    """Exactly, in the largest unit that divides it."""
    units = ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))
    return next((f"{count // unit}{name}" for unit, name in units if count and count % unit == 0), str(count))


def show_duration(seconds: float) -> str:
    """Exactly, in the largest unit that divides it."""
    units = ((86400, "d"), (3600, "h"), (60, "m"))
    whole = (f"{seconds / unit:g}{name}" for unit, name in units if seconds and seconds % unit == 0)
    return next(whole, f"{seconds:g}s")


def parse_rate(text: str) -> int | None:
    """Bytes per second of `50M/s` or `50M`; None, without a limit, of `off`."""
    count = _rate(text, parse_size, "50M/s")
    if count is not None and count < LEAST_RATE_BYTES_S:
        raise ValueError(f"'{text}' is too little; the least is {show_size(LEAST_RATE_BYTES_S)}/s")
    return count


def parse_request_rate(text: str) -> int | None:
    """Requests per second of `100/s` or `100`; None, without a limit, of `off`."""
    return _rate(text, _whole_number, "100/s")


def _rate(text: str, parser: Callable[[str], int], example: str) -> int | None:
    if text.strip().lower() in ("off", "none", "0"):
        return None
    number, slash, unit = text.strip().partition("/")
    try:
        count = parser(number)
    except ValueError:
        count = 0
    if count < 1 or (slash and unit != "s"):
        raise ValueError(f"'{text}' is no rate; write for instance {example}, or off")
    return count


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text.strip()):
        raise ValueError("no number")
    return int(text)


def show_rate(count: int | None, *, is_size: bool) -> str:
    """A rate as people write it."""
    if count is None:
        return "off"
    return f"{show_size(count) if is_size else count}/s"
