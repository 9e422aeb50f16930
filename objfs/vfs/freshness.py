"""How long what the store told is believed, here and in the kernel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from objfs.vfs.last_known import AWAY_S
from objfs.vfs.nodes import NEVER, PENDING, DirectoryNode, FileNode, Node
from objfs.vfs.treated import expiry_of
from objfs.vfs.values import Stat

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.vfs.last_known import LastKnown
    from objfs.vfs.tree import Tree


class Freshness:
    """Answers from what is known, while it is young enough."""

    def __init__(
        self, tree: Tree, last_known: LastKnown, *, ttl_s: float, hides: Callable[[str], bool]
    ) -> None:
        self._tree = tree
        self._last_known = last_known
        self._hides = hides
        self.ttl_s = ttl_s

    def is_fresh(self, node: Node) -> bool:
        """Whether the node may be shown without asking the store."""
        if trio.current_time() - node.checked_at < self.ttl_s:
            return True
        return node.parent is None or bool(node.pending()) or (isinstance(node, FileNode) and node.dirty)

    def is_listed(self, directory: DirectoryNode) -> bool:
        """Whether all names of the directory are known and fresh."""
        return (
            directory.is_removed or directory.local or trio.current_time() - directory.listed_at < self.ttl_s
        )

    def timeout_s(self, node: Node) -> float:
        """How long the kernel may believe what it is told of a node. It asks for the root on every walk."""
        if node is self._tree.root or node.pending() or (isinstance(node, FileNode) and node.dirty):
            return self.ttl_s
        left_s = self._left_s(node.checked_at)
        expiry = expiry_of(node.attributes)
        if expiry is not None:
            left_s = min(left_s, expiry.at_s - time.time())
        return max(0.0, left_s)

    def stat(self, node: Node, *, is_listed: bool = False) -> Stat:
        """What is known; in listings nothing of a type that is only guessed."""
        attributes = node.attributes
        is_unlinked = node.is_removed and not (isinstance(node, FileNode) and node.superseded)
        return Stat(
            ino=node.ino,
            mode=attributes.mode if node.proven or not is_listed else 0,
            nlink=0 if is_unlinked else 1,
            uid=attributes.uid,
            gid=attributes.gid,
            size_bytes=node.size_bytes if isinstance(node, FileNode) else 0,
            atime_ns=attributes.atime_ns,
            mtime_ns=attributes.mtime_ns,
            ctime_ns=attributes.ctime_ns,
            timeout_s=self.timeout_s(node),
        )

    def is_absent(self, parent: DirectoryNode, name: str) -> bool:
        """Whether a name that is no child is known not to exist."""
        if self.is_listed(parent) or self.is_gone(parent, name, trio.current_time()):
            return True
        return trio.current_time() - parent.absent.get(name, NEVER) < self.ttl_s

    def absent_timeout_s(self, parent: DirectoryNode, name: str) -> float:
        """How long the kernel may believe that a name does not exist."""
        if parent.local or name in parent.gone:
            return self.ttl_s
        return max(0.0, self._left_s(max(parent.listed_at, parent.absent.get(name, NEVER))))

    def _left_s(self, told_at: float) -> float:
        """How long what the store told is to be believed: what is shown as last known, until that may end."""
        if self._last_known.is_away:
            return min(self.ttl_s, AWAY_S)
        return min(self.ttl_s, told_at + self.ttl_s - trio.current_time())

    def is_gone(self, parent: DirectoryNode, name: str, begun_at: float) -> bool:
        """Whether a name was removed here later than `begun_at`, or its removal is still on its way."""
        if parent.is_removed:
            return True
        until = parent.gone.get(name)
        if until is None:
            return False
        if until == PENDING and not self._hides(parent.path_of(name)):
            until = parent.gone[name] = trio.current_time()
        return until > begun_at
