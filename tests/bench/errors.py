"""Why a cell has no figure."""

from __future__ import annotations


class BenchError(Exception):
    """A step failed, or gave a wrong answer."""
