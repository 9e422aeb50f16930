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


def is_leaving(order: Order, path: str, *, before: float) -> bool:
    """Whether all that the store has below a path is to be moved away by operations before a seq."""
    last: Operation | None = None
    for operation in {*order.covering(path), *order.below(path)}:
        if operation.kind is Kind.RENAME_TREE and operation.seq < before:
            is_above = is_within(path, operation.source) or is_within(path, operation.path)
            if is_above and (last is None or last.seq < operation.seq):
                last = operation
    return last is not None and is_within(path, last.source)
