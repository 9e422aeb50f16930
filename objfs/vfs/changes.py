"""Changes by programs: each is one synchronous step in tree and journal.

A method here changes the tree and the ledger together, without an await in between, so that no other task
ever sees one without the other.
"""

from __future__ import annotations

import errno
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from objfs.upload.operations import NOTHING, Kind, Operation, State
from objfs.vfs.adoption import hide, stored_below
from objfs.vfs.attributes import encode, forget_guessed_type, metadata_bytes
from objfs.vfs.nodes import PENDING, DirectoryNode, FileNode, Node
from objfs.vfs.tree import Tree, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.upload.ledger import Ledger
    from objfs.upload.rules import RuleSet
    from objfs.vfs.owners import Owners
    from objfs_cache.staged import StagedFile

log = logging.getLogger(__name__)


class Changes:
    """Applies changes to tree and ledger. Paths and conditions are checked by the caller."""

    def __init__(
        self,
        tree: Tree,
        ledger: Ledger,
        owners: Owners,
        *,
        max_metadata_bytes: int,
        rules: RuleSet,
    ) -> None:
        self._tree = tree
        self.ledger = ledger
        self._owners = owners
        self._max_metadata_bytes = max_metadata_bytes
        self._rules = rules
        self.open: set[FileNode] = set()
        """Files with bytes that are not journaled yet, or whose upload is held because somebody writes."""

    # -- making things ------------------------------------------------------------------------------

    def create(self, parent: DirectoryNode, name: str, node: FileNode, *, held: bool) -> None:
        """A new file; its content is staged (or its target known)."""
        staged = node.layers[0] if node.layers else None
        try:
            operation = self.ledger.put(
                parent.path_of(name),
                options=encode(node.attributes, name),
                base=parent.free_base(name),
                staged=staged,
                body=node.target if staged is None else None,
                held=held,
            )
        except BaseException:
            self._tree.drop_if_unused(node)
            raise
        self._tree.attach(parent, name, node)
        node.proven = True
        self._owners.own(operation, node)
        if held:
            self._opened(node)
        parent.touch()

    def mkdir(self, parent: DirectoryNode, name: str, node: DirectoryNode) -> None:
        """A new directory."""
        path = parent.path_of(name)
        with self.ledger.step():
            self._delete_expired(parent, name)
            leaving = self.ledger.leaving(path)
            operation = self.ledger.mkdir(
                path, options=encode(node.attributes, name), base=NOTHING, made=True
            )
        parent.expired.pop(name, None)
        self._tree.attach_new(parent, name, node)
        node.proven = node.local = True
        node.gone = dict.fromkeys(leaving, PENDING)
        self._owners.own(operation, node)
        parent.touch()

    def claimed(self, parent: DirectoryNode, name: str, node: FileNode) -> None:
        """A new file that the store has already, empty."""
        self._tree.attach(parent, name, node)
        node.proven = True
        node.checked_at = node.changed_at = trio.current_time()
        self._tree.learnt.add(parent)
        stored_below(self.ledger, node)
        parent.touch()

    # -- content ------------------------------------------------------------------------------------

    def hold(self, node: FileNode) -> None:
        """A program is about to write: what waits must not start under its hands.

        Raises:
            OSError: ESTALE, somebody else's version has the name: what is written would be nowhere.
        """
        _check_current(node)
        operation = self._put_of(node)
        if operation is not None and node.parent is not None:
            operation.held = True
            self._opened(node)

    def wrote(self, node: FileNode) -> None:
        """Bytes were staged. They will be stored with the attributes that the node has now."""
        node.dirty = node.proven = True
        node.attributes.touch(content=True)
        if node.parent is not None:
            self._opened(node)

    def _opened(self, node: FileNode) -> None:
        node.written_at = trio.current_time()
        self.open.add(node)

    def commit(self, node: FileNode, *, held: bool = False) -> Operation | None:
        """Journal the staged content; returns the operation that carries it, or None if there is none."""
        operation = None if node.parent is None else self._commit(node, held=held)
        if node.parent is None or not held:
            self.open.discard(node)
        return operation

    def _commit(self, node: FileNode, *, held: bool) -> Operation | None:
        operation = self._put_of(node)
        if not node.dirty:
            if operation is not None and operation.held and not held:
                self._commit_put(operation, node, held=False)
            return operation
        if operation is not None:
            self._commit_put(operation, node, held=held)
        else:
            options = encode(node.attributes, node.name)
            before = {one: one.staged for one in node.pending()}
            operation = self.ledger.put(
                node.path, options=options, base=node.base(), staged=node.layers[0], held=held
            )
            self._owners.own(operation, node)
            self._drop_layer(node, before.get(operation))
            self._owners.forget_lost()
        node.dirty = False
        return operation

    def _drop_layer(self, node: FileNode, replaced: StagedFile | None) -> None:
        """A staged file that waited has given its operation to a newer one."""
        if replaced is not None and replaced is not node.layers[0] and replaced in node.layers:
            node.layers.remove(replaced)
            replaced.discard()
        for below in node.pending():
            if below.staged is not None and below.staged.sealed:
                self.ledger.release(below)  # nobody writes to it any more, and what follows waits for it

    def completed(self, node: FileNode) -> None:
        """The staged content that waits has what it lacked of its base."""
        operation = self._put_of(node)
        if operation is not None and not node.dirty:
            self._commit_put(operation, node, held=operation.held)

    def set_attributes(self, node: Node) -> None:
        """Journal the node's attributes, which were changed.

        Raises:
            OSError: ESTALE, somebody else's version has the name, or attributes that are not known.
        """
        _check_current(node)
        if node.is_removed:
            return
        if isinstance(node, FileNode) and not node.proven:
            raise OSError(errno.ESTALE, "attributes not known")
        node.proven = True
        options = encode(node.attributes, node.name)
        if isinstance(node, DirectoryNode):
            self._owners.own(self.ledger.mkdir(node.path, options=options), node)
        elif isinstance(node, FileNode):
            operation = self._put_of(node)
            if operation is not None:
                self._commit_put(operation, node, held=operation.held)
            elif node.dirty:
                self.commit(node, held=True)
            else:
                self._owners.own(
                    self.ledger.set_attributes(node.path, base=node.base(), options=options), node
                )

    @contextmanager
    def or_as_before(self, node: Node) -> Iterator[None]:
        """Attributes that are changed in the block, which does not wait, stay so only if it ends well."""
        before, dirty = node.attributes.copied(), isinstance(node, FileNode) and node.dirty
        try:
            yield
        except BaseException:
            node.attributes = before
            if isinstance(node, FileNode):
                node.dirty = dirty
            raise

    def check_metadata(self, node: Node) -> None:
        """Refuse attributes that the store could not hold.

        Raises:
            OSError: ENOSPC.
        """
        # Our own upload token (44 bytes) rides along, and the length and digest of compressed content (101).
        reserve = 160 + self._rules.metadata_bytes
        if metadata_bytes(encode(node.attributes, node.name)) + reserve > self._max_metadata_bytes:
            raise OSError(errno.ENOSPC, "attributes are larger than the store can hold")

    # -- places -------------------------------------------------------------------------------------

    def unlink(self, node: FileNode) -> Operation | None:
        """A file loses its name; returns the operation if the store has to hear of it."""
        parent, name = node.parent, node.name
        if parent is None:
            return None
        with self.ledger.step():
            operation = self.ledger.delete(node.path, base=node.base())
            marker = self._keep(parent, without=node)
        self.open.discard(node)
        self._release(node)
        self._tree.detach(node)
        hide(self.ledger, parent, name)
        parent.touch()
        node.attributes.touch(content=False)
        self._kept(parent, marker)
        self._owners.forget_lost()
        return operation

    def rmdir(self, node: DirectoryNode) -> Operation | None:
        """An empty directory goes; returns the operation if the store has to hear of it."""
        parent, name = node.parent, node.name
        if parent is None:
            return None
        with self.ledger.step():
            for below in list(node.expired):
                self._delete_expired(node, below)
            operation = self.ledger.rmdir(node.path)
            marker = self._keep(parent, without=node)
        node.expired.clear()
        self._tree.detach(node)
        hide(self.ledger, parent, name)
        parent.touch()
        self._kept(parent, marker)
        return operation

    def rename_file(self, node: FileNode, parent: DirectoryNode, name: str, target: FileNode | None) -> None:
        """A file gets another place; a target there loses its name."""
        if node.dirty:
            self.commit(node, held=True)
        old_parent, old_name, source = node.parent, node.name, node.path
        base = target.base() if target is not None else parent.free_base(name)
        attributes = node.attributes.copied()
        forget_guessed_type(attributes, old_name)
        attributes.touch(content=False)
        with self.ledger.step():
            operation = self.ledger.rename(
                source,
                parent.path_of(name),
                source_base=node.base(),
                base=base,
                options=encode(attributes, name),
            )
            marker = self._keep(old_parent, without=node) if old_parent not in (None, parent) else None
        node.attributes = attributes
        self._owners.own(operation, node)
        if target is not None:
            self.open.discard(target)
            self._release(target)
            self._tree.detach(target)
            target.attributes.touch(content=False)
        self._tree.move(node, parent, name)
        self._moved(old_parent, old_name, parent, marker)
        self._owners.forget_lost()

    def rename_directory(
        self, node: DirectoryNode, parent: DirectoryNode, name: str, target: DirectoryNode | None
    ) -> None:
        """A directory gets another place; an empty directory there goes."""
        old_parent, old_name, source = node.parent, node.name, node.path
        for below in walk(node):
            if isinstance(below, FileNode) and below.dirty:
                self.commit(below, held=True)
        with self.ledger.step():
            if target is not None:
                self.ledger.rmdir(target.path)
            self._delete_expired(parent, name)
            operation = self.ledger.rename_tree(source, parent.path_of(name), local=node.local)
            marker = self._keep(old_parent, without=node) if old_parent not in (None, parent) else None
        parent.expired.pop(name, None)
        if target is not None:
            self._tree.detach(target)
        if operation is not None:
            self._owners.restore(operation, node)
        self._tree.move(node, parent, name, stays=operation is not None)
        self._moved(old_parent, old_name, parent, marker)

    def _delete_expired(self, parent: DirectoryNode, name: str) -> None:
        """What has expired makes room for something that cannot replace it."""
        base = parent.free_base(name)
        if base.version is not None:
            self.ledger.delete(parent.path_of(name), base=base)

    def _release(self, node: FileNode) -> None:
        """The name is gone, perhaps with an upload still to come: what is written now is no part of it."""
        for operation in node.pending():
            self.ledger.release(operation)
            if operation.staged is not None:
                operation.staged.sealed = True

    def _moved(
        self,
        old_parent: DirectoryNode | None,
        old_name: str,
        parent: DirectoryNode,
        marker: Operation | None,
    ) -> None:
        parent.touch()
        if old_parent is None:
            return
        hide(self.ledger, old_parent, old_name)
        if old_parent is not parent:
            old_parent.touch()
            self._kept(old_parent, marker)

    def _keep(self, directory: DirectoryNode | None, *, without: Node) -> Operation | None:
        """A directory does not vanish because its last entry goes: journal its marker if there is none."""
        if directory is None or directory.parent is None:
            return None
        if directory.marker or any(one.kind is Kind.MARKER for one in directory.pending()):
            return None
        children = directory.children
        if len(children) > 1 or (children and children.get(without.name) is not without):
            return None
        attributes = directory.attributes.copied()
        attributes.touch(content=True)
        base = NOTHING if directory.marker is False else directory.base()
        return self.ledger.mkdir(directory.path, options=encode(attributes, directory.name), base=base)

    def _kept(self, directory: DirectoryNode, marker: Operation | None) -> None:
        if marker is not None:
            self._owners.own(marker, directory)

    # -- parts --------------------------------------------------------------------------------------

    def _commit_put(self, operation: Operation, node: FileNode, *, held: bool) -> None:
        """Journal content and attributes; a rename that waits behind the put has attributes of its own."""
        options = encode(node.attributes, node.name)
        with self.ledger.step():
            self.ledger.commit(operation, options, held=held)
            if node.pending()[-1] is not operation:
                self._owners.own(
                    self.ledger.set_attributes(node.path, base=node.base(), options=options), node
                )

    def _put_of(self, node: FileNode) -> Operation | None:
        """The put that still may be changed, if the newest layer waits in one."""
        if not node.layers or node.layers[0].sealed:
            return None
        for operation in node.pending():
            if operation.staged is node.layers[0] and operation.state is State.WAITING:
                return operation
        return None


def _check_current(node: Node) -> None:
    if isinstance(node, FileNode) and node.superseded:
        raise OSError(errno.ESTALE, "superseded")
