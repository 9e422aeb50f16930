"""What is on its way below a directory, so that nobody takes its present content for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.upload.bases import is_within
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


def moves_before(order: Order, operation: Operation) -> list[Operation]:
    """Renames of directories at or above an operation's path that it waits for, in order.

    While there are any, nothing that was made later below that path can have been stored.
    """
    moves = [
        one
        for one in order.predecessors(operation)
        if one.kind is Kind.RENAME_TREE
        and (is_within(operation.path, one.source) or is_within(operation.path, one.path))
    ]
    return sorted(moves, key=lambda one: one.seq)
