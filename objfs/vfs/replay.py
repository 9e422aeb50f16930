"""After a restart: the tree gets the changes back that the store has not got yet."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from objfs.upload.operations import Kind, Operation
from objfs.vfs.attributes import Attributes, Defaults, decode_options, default_attributes
from objfs.vfs.nodes import PENDING, DirectoryNode, FileNode, Node

if TYPE_CHECKING:
    from objfs.upload.ledger import Ledger
    from objfs.vfs.adoption import Adoption
    from objfs.vfs.owners import Owners
    from objfs.vfs.tree import Tree


def replay(ledger: Ledger, tree: Tree, owners: Owners, adoption: Adoption, defaults: Defaults) -> None:
    """Lay the ledger's operations over the (still unread) tree, in their order."""
    steps = _Replay(ledger, tree, owners, adoption, defaults)
    for operation in ledger:
        steps.apply(operation)


class _Replay:
    def __init__(
        self, ledger: Ledger, tree: Tree, owners: Owners, adoption: Adoption, defaults: Defaults
    ) -> None:
        self._ledger = ledger
        self._tree = tree
        self._owners = owners
        self._adoption = adoption
        self._defaults = defaults

    def apply(self, operation: Operation) -> None:
        if operation.kind is Kind.PUT:
            self._put(operation)
        elif operation.kind is Kind.SET:
            self._set(operation)
        elif operation.kind is Kind.MARKER:
            self._marker(operation)
        elif operation.kind is Kind.DELETE:
            self._delete(operation)
        elif operation.kind is Kind.RENAME:
            self._rename(operation)
        else:
            self._rename_tree(operation)

    def _put(self, operation: Operation) -> None:
        attributes = self._attributes(operation, directory=False)
        parent, name = self._place(operation.path)
        before = parent.children.get(name)
        if isinstance(before, FileNode) and stat.S_IFMT(before.attributes.mode ^ attributes.mode):
            self._remove(parent, name)  # a symlink that became a file, or the other way round
        node = self._file(operation.path, attributes)
        if operation.staged is not None:
            node.layers.insert(0, operation.staged)
        if operation.committed is not None:
            self._owners.restore_staged(operation, node, operation.committed)
        elif operation.body is not None and stat.S_ISLNK(node.attributes.mode):
            node.target = operation.body
        if node.version is None:
            node.version = operation.base.version or operation.lost
        self._owners.restore(operation, node)

    def _set(self, operation: Operation) -> None:
        node = self._file(operation.path, self._attributes(operation, directory=False))
        if node.version is None:
            node.version = operation.base.version
        self._owners.restore(operation, node)

    def _marker(self, operation: Operation) -> None:
        attributes = self._attributes(operation, directory=True)
        if not operation.path:
            self._tree.root.attributes = attributes
            self._owners.restore(operation, self._tree.root)
            return
        parent, name = self._place(operation.path)
        node = parent.children.get(name)
        if not isinstance(node, DirectoryNode):
            self._remove(parent, name)
            node = self._tree.new_directory(name, attributes)
            node.local = operation.made and self._ledger.awaits_move(operation)
            (self._tree.attach_new if operation.made else self._tree.attach)(parent, name, node)
            leaving = self._ledger.leaving(operation.path, before=operation.seq)
            node.gone = dict.fromkeys(leaving, PENDING)
        node.attributes = attributes
        node.proven = True
        self._owners.restore(operation, node)

    def _delete(self, operation: Operation) -> None:
        parent, name = self._place(operation.path)
        self._remove(parent, name)
        parent.gone[name] = PENDING

    def _rename(self, operation: Operation) -> None:
        source_parent, source_name = self._place(operation.source)
        parent, name = self._place(operation.path)
        attributes = self._attributes(operation, directory=False)
        node = source_parent.children.get(source_name)
        if not isinstance(node, FileNode):
            self._remove(source_parent, source_name)
            node = self._tree.new_file(source_name, attributes)
            node.version = operation.source_base.version
            self._tree.attach(source_parent, source_name, node)
        node.attributes = attributes
        node.proven = True
        self._remove(parent, name)
        self._tree.move(node, parent, name)
        self._owners.restore(operation, node)

    def _rename_tree(self, operation: Operation) -> None:
        source_parent, source_name = self._place(operation.source)
        parent, name = self._place(operation.path)
        node = self._directory(source_parent, source_name)
        self._remove(parent, name)
        self._tree.move(node, parent, name)
        self._owners.restore(operation, node)
        if operation.copied:
            self._adoption.tree_copied(operation, {})

    def _file(self, path: str, attributes: Attributes) -> FileNode:
        parent, name = self._place(path)
        node = parent.children.get(name)
        if not isinstance(node, FileNode):
            self._remove(parent, name)
            node = self._tree.new_file(name, attributes)
            self._tree.attach(parent, name, node)
        node.attributes = attributes
        node.proven = True
        return node

    def _place(self, path: str) -> tuple[DirectoryNode, str]:
        *folders, name = path.split("/")
        parent = self._tree.root
        for folder in folders:
            parent = self._directory(parent, folder)
        return parent, name

    def _directory(self, parent: DirectoryNode, name: str) -> DirectoryNode:
        node = parent.children.get(name)
        if isinstance(node, DirectoryNode):
            return node
        self._remove(parent, name)
        node = self._tree.new_directory(
            name, default_attributes(self._defaults, directory=True, modified_ns=0)
        )
        self._tree.attach(parent, name, node)
        return node

    def _remove(self, parent: DirectoryNode, name: str) -> None:
        node: Node | None = parent.children.get(name)
        if node is not None:
            self._tree.detach(node)

    def _attributes(self, operation: Operation, *, directory: bool) -> Attributes:
        return decode_options(operation.options, self._defaults, directory=directory)
