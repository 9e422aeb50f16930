"""Which operation has to wait for which: the order rule of the journal, without any I/O.

An operation waits for all earlier unfinished operations on any of its paths, and on their ancestors and
descendants, unless the two commute: puts, markers and attributes under one another do, the marker of a
directory that is not new with everything below it, and the attributes of the root with everything. (Deletes
would, but the removal of a directory stays in the journal until nothing below it can show after a restart;
so does what was in its place before it was made.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from objfs.upload.moving import is_within
from objfs.upload.operations import Kind, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ADDITIVE = frozenset({Kind.PUT, Kind.MARKER, Kind.SET})


@dataclass(slots=True, eq=False)
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)


class Order:
    """Unfinished operations, each with those it waits for."""

    def __init__(self) -> None:
        self._root = _Node()
        self._waits: dict[Operation, set[Operation]] = {}
        self._blocks: dict[Operation, set[Operation]] = {}
        self._told: dict[Operation, tuple[Operation, ...]] = {}  # to wait for more than their paths demand

    def __len__(self) -> int:
        return len(self._waits)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._waits)

    def add(self, operation: Operation, *, after: Iterable[Operation] = ()) -> bool:
        """Append an operation behind all present ones; returns whether it waits for none.

        Args:
            operation: the new one.
            after: more operations to wait for, whatever their paths.
        """
        self._told[operation] = tuple(after)
        waits = self.before(operation).union(self._told[operation])
        self._waits[operation] = waits
        self._blocks[operation] = set()
        for other in waits:
            self._blocks[other].add(operation)
        for path in _paths(operation):
            self._node(path).operations.append(operation)
        return not waits

    def before(self, operation: Operation) -> set[Operation]:
        """Present operations that one which is not among them would have to wait for."""
        return {
            other
            for path in _paths(operation)
            for other in self._related(path)
            if not _commute(operation, other, path)
        }

    def remove(self, operation: Operation) -> list[Operation]:
        """Take a finished (or revoked) operation out; returns those that now wait for none."""
        for path in _paths(operation):
            self._detach(path, operation)
        del self._told[operation]
        for other in self._waits.pop(operation):
            self._blocks[other].discard(operation)
        freed: list[Operation] = []
        for other in self._blocks.pop(operation):
            self._waits[other].discard(operation)
            if not self._waits[other]:
                freed.append(other)
        return freed

    def loosen(self, marker: Operation) -> list[Operation]:
        """Let what leaves a marker in its place not wait for it; returns those that now wait for none."""
        freed: list[Operation] = []
        for other in [one for one in self._blocks[marker] if is_apart(marker, one)]:
            self._blocks[marker].discard(other)
            self._waits[other].discard(marker)
            if not self._waits[other]:
                freed.append(other)
        return freed

    def predecessors(self, operation: Operation) -> list[Operation]:
        """Operations that it waits for."""
        return list(self._waits[operation])

    def told_to_wait_for(self, operation: Operation) -> tuple[Operation, ...]:
        """Operations that it was told to wait for, whatever their paths; some may be finished."""
        return self._told.get(operation, ())

    def has_followers(self, operation: Operation) -> bool:
        """Whether a later operation waits for it."""
        return bool(self._blocks[operation])

    def followers(self, operation: Operation) -> list[Operation]:
        """Operations that wait for it, in order."""
        return sorted(self._blocks[operation], key=lambda other: other.seq)

    def last_at(self, path: str) -> Operation | None:
        """The latest operation on exactly this path, unless another one waits for it."""
        exact = self._find(path)
        if exact is None or not exact.operations:
            return None
        last = exact.operations[-1]
        return None if self.has_followers(last) else last

    def any_at(self, path: str) -> bool:
        """Whether any unfinished operation concerns exactly this path."""
        return bool(self.at(path))

    def at(self, path: str) -> list[Operation]:
        """Operations on exactly this path, in the order in which they came."""
        node = self._find(path)
        return [] if node is None else list(node.operations)

    def below(self, path: str) -> list[Operation]:
        """Operations at or below a path, in order."""
        node = self._find(path)
        if node is None:
            return []
        return sorted(set(_subtree(node)), key=lambda operation: operation.seq)

    def covering(self, path: str) -> list[Operation]:
        """Operations on ancestors of a path, in order."""
        found: set[Operation] = set()
        node = self._root
        for part in path.split("/") if path else ():
            found.update(node.operations)
            child = node.children.get(part)
            if child is None:
                break
            node = child
        return sorted(found, key=lambda operation: operation.seq)

    def _related(self, path: str) -> Iterator[Operation]:
        node = self._root
        for part in path.split("/") if path else ():
            yield from node.operations
            child = node.children.get(part)
            if child is None:
                return
            node = child
        yield from _subtree(node)

    def _find(self, path: str) -> _Node | None:
        node = self._root
        for part in path.split("/") if path else ():
            child = node.children.get(part)
            if child is None:
                return None
            node = child
        return node

    def _node(self, path: str) -> _Node:
        node = self._root
        for part in path.split("/") if path else ():
            node = node.children.setdefault(part, _Node())
        return node

    def _detach(self, path: str, operation: Operation) -> None:
        trail: list[tuple[_Node, str]] = []
        node = self._root
        for part in path.split("/") if path else ():
            trail.append((node, part))
            node = node.children[part]
        node.operations.remove(operation)
        while trail and not node.operations and not node.children:
            node, part = trail.pop()
            del node.children[part]


def _paths(operation: Operation) -> tuple[str, ...]:
    if operation.kind in (Kind.RENAME, Kind.RENAME_TREE):
        return (operation.source, operation.path)
    return (operation.path,)


def _commute(operation: Operation, other: Operation, path: str) -> bool:
    if not operation.path or not other.path:  # the root's attributes are an object apart from the tree
        return operation.path != other.path
    if is_apart(operation, other) or is_apart(other, operation):
        return True
    return {operation.kind, other.kind} <= _ADDITIVE and path not in _paths(other)


def is_apart(marker: Operation, other: Operation) -> bool:
    """Whether one is the marker of a directory that is not new, and the other leaves that in its place."""
    if marker.kind is not Kind.MARKER or marker.made:
        return False
    return not any(is_within(marker.path, path) for path in _paths(other))


def _subtree(node: _Node) -> Iterator[Operation]:
    stack = [node]
    while stack:
        at = stack.pop()
        yield from at.operations
        stack.extend(at.children.values())
