"""What an examination finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check.

    Attributes:
        name: of the check; stable, for scripts.
        text: what was found, without a full stop.
        advice: what to do about it, "" where there is nothing to do.
    """

    name: str
    result: Result
    text: str
    advice: str = ""


Sink = Callable[[Finding], None]


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name=name, result="ok", text=text)


def warning(name: str, text: str, advice: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding(name=name, result="warning", text=text, advice=advice)


def failed(name: str, text: str, advice: str) -> Finding:
    """A mount would not work, or not keep a promise."""
    return Finding(name=name, result="failed", text=text, advice=advice)


def skipped(name: str, text: str) -> Finding:
    """It could not be found out."""
    return Finding(name=name, result="skipped", text=text)
