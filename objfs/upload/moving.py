"""What is on its way below a directory, so that nobody takes its present content for its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from objfs.upload.operations import Kind, Operation

if TYPE_CHECKING:
    from objfs.upload.order import Order


def leaving(order: Order, path: str, *, before: float) -> set[str]:
    """Names directly below a path that operations before a seq are still to empty or remove."""
    found: set[str] = set()
    for operation in order.below(path):
        removed = operation.path if operation.kind is Kind.DELETE else operation.source
        if operation.seq < before and removed.startswith(f"{path}/"):
            found.add(removed[len(path) + 1 :].partition("/")[0])
    return found


def moves_between(order: Order, operation: Operation, path: str, *, since: float = -math.inf) -> bool:
    """Whether a directory moves from, or onto, a path between a seq and an operation that waits for it."""
    return any(
        one.kind is Kind.RENAME_TREE
        and since < one.seq < operation.seq
        and (is_within(path, one.path) or is_within(path, one.source))
        for one in order.predecessors(operation)
    )


def is_within(path: str, top: str) -> bool:
    """Whether a path is at or below another."""
    return f"{path}/".startswith(f"{top}/")
