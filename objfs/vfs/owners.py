"""Which node each waiting operation is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.upload.operations import Kind, Operation, State
from objfs.vfs.nodes import FileNode

if TYPE_CHECKING:
    from objfs.upload.ledger import Ledger
    from objfs.vfs.content import Contents
    from objfs.vfs.nodes import Node
    from objfs.vfs.tree import Tree
    from objfs_cache.staged import StagedFile, StagedState

OWNERS_SLACK = 1000  # operations that were taken back are forgotten once they are so many


class Owners:
    """Nodes by operation, and what recovery has to say about the bytes of some."""

    def __init__(self, tree: Tree, ledger: Ledger, contents: Contents) -> None:
        self._tree = tree
        self._ledger = ledger
        self._contents = contents
        self._owners: dict[Operation, Node] = {}
        self._epochs: dict[Operation, int] = {}
        self._doubtful: dict[Operation, StagedFile] = {}
        self._unseen: dict[Operation, StagedFile] = {}  # of these, lost bytes that are no node's layer

    def find(self, operation: Operation) -> Node | None:
        """The node of an operation."""
        return self._owners.get(operation)

    def take(self, operation: Operation) -> Node | None:
        """The node of an operation that has ended."""
        return self._owners.pop(operation, None)

    def take_epoch(self, operation: Operation) -> int:
        """The epoch of a move of a directory that has ended."""
        return self._epochs.pop(operation, 0)

    def shows(self, operation: Operation, node: Node | None) -> bool:
        """Whether a node may go on as what an operation that has ended made of it.

        If the store had the bytes all the time, which a power loss took here, it has shown others, or none.
        What is pending, or was written since, applies to those of the store, though.
        """
        doubtful = self._doubtful.pop(operation, None)
        self._unseen.pop(operation, None)
        if doubtful is None or operation.staged is not None:
            return True
        if not isinstance(node, FileNode):
            doubtful.discard()
            return False
        shows = bool(node.pending()) or node.dirty
        if doubtful not in node.layers:
            doubtful.discard()
        elif shows:
            node.layers.remove(doubtful)
            doubtful.discard()
        return shows

    def own(self, operation: Operation, node: Node) -> None:
        if len(self._owners) > 2 * len(self._ledger) + OWNERS_SLACK:
            self._owners = {one: of for one, of in self._owners.items() if one.state is not State.DONE}
        self._owners[operation] = node
        if operation not in node.pending():
            node.operations.append(operation)

    def restore(self, operation: Operation, node: Node) -> None:
        """An operation of an earlier life shows in this node."""
        self.own(operation, node)
        if operation.kind is Kind.RENAME_TREE:
            self._epochs[operation] = self._tree.next_epoch()

    def restore_staged(self, operation: Operation, node: FileNode, state: StagedState) -> None:
        """A power loss may have taken staged bytes, which the store may have got all the same.

        Where they were the only ones, reading is an error.
        """
        if operation.staged is None:
            self._doubtful[operation] = lost = self._contents.lost_layer(state)
            if operation.base.version is None and node.version is None and not node.layers:
                node.layers.insert(0, lost)
            else:
                self._unseen[operation] = lost
        elif state.reverted:
            self._doubtful[operation] = operation.staged

    def forget_lost(self) -> None:
        """Of lost bytes whose place something took, nothing is kept."""
        for operation in [one for one in self._unseen if one.state is State.DONE]:
            self._unseen.pop(operation).discard()
