"""What becomes of changes: the tree adopts the versions that uploads made."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from objfs.errors import ObjfsError
from objfs.upload.operations import Kind, Operation
from objfs.vfs.nodes import NEVER, PENDING, DirectoryNode, FileNode, Node
from objfs.vfs.treated import adopt
from objfs.vfs.tree import Tree, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from objfs.store.values import Version
    from objfs.upload.ledger import Ledger
    from objfs.vfs.content import Contents
    from objfs.vfs.mirror import Kernel
    from objfs.vfs.owners import Owners
    from objfs_cache.staged import StagedFile

log = logging.getLogger(__name__)


class Adoption:
    """The uploader's `Observer`."""

    def __init__(
        self,
        tree: Tree,
        ledger: Ledger,
        owners: Owners,
        contents: Contents,
        *,
        kernel: Kernel,
        retire: Callable[[FileNode, StagedFile], None],
        supersede: Callable[[Node], None],
    ) -> None:
        self._tree = tree
        self._ledger = ledger
        self._owners = owners
        self._contents = contents
        self._kernel = kernel
        self._retire = retire
        self._supersede = supersede

    async def before_replace(self, operation: Operation) -> None:
        """See `Observer`: programs that hold the old version open keep its bytes."""
        doomed = [
            node
            for node in self._tree.displaced
            if isinstance(node, FileNode) and node.parent is None and node.handles and not node.superseded
        ]
        for node in doomed:
            if node.key == operation.key:
                try:
                    await self._contents.save(node)
                except (OSError, ObjfsError) as error:
                    log.warning("open file %r loses its old content: %s", operation.path, error)
                self._tree.drop_if_unused(node)

    def done(self, operation: Operation, version: Version | None) -> None:
        """See `Observer`."""
        node = self._owners.take(operation)
        self._note(operation, node)
        self._names_left(operation, node)
        shows = self._owners.shows(operation, node)
        if node is None:
            return
        node.changed_at = trio.current_time()
        if isinstance(node, DirectoryNode):
            self._directory_done(node, operation)
        elif isinstance(node, FileNode):
            self._file_done(node, operation, version if shows else None)
            if not shows:
                self._supersede(node)
        self._tree.drop_if_unused(node)

    def tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """See `Observer`: everything below the tree is read from its new place from now on."""
        epoch = self._owners.take_epoch(operation)
        self._tree.tree_moved(f"{operation.source}/", f"{operation.path}/", epoch=epoch)
        for node in list(self._tree.nodes.values()) if moved else ():
            if isinstance(node, FileNode) and node.version is not None:
                before, after = moved.get(node.key, (None, node.version))
                if node.version == before:
                    node.version = after.holding(node.version)  # the same bytes: `object_id` stays
            elif isinstance(node, DirectoryNode):
                for name, (version, modified_ns) in node.expired.items():
                    before, after = moved.get(node.prefix + name, (None, version))
                    if version == before:
                        node.expired[name] = (after.holding(version), modified_ns)

    def conflicted(self, operation: Operation, old_path: str) -> None:
        """See `Observer`."""
        self._name_left(old_path)
        node = self._owners.find(operation)
        if node is None or node.parent is None or node.path != old_path:
            return
        parent, old_name = node.parent, node.name
        del parent.children[old_name]
        self._tree.attach(parent, operation.path.rpartition("/")[2], node)
        parent.listed_at = NEVER
        self._kernel.invalidate_entry(parent.ino, old_name)

    async def salvage(self, operation: Operation) -> None:
        """See `Observer`: what the cache has of it, or a staged file below."""
        node = self._owners.find(operation)
        if isinstance(node, FileNode) and operation.staged is not None and operation.staged in node.layers:
            await self._contents.salvage(node, operation.staged)

    def given_up(self, operation: Operation) -> None:
        """See `Observer`."""
        node = self._owners.take(operation)
        self._owners.forget_lost()
        if node is not None:
            self._tree.drop_if_unused(node)

    def _note(self, operation: Operation, moved: Node | None) -> None:
        """The store has something else in the directories concerned: that is to be kept."""
        concerned = [moved, *map(self._tree.find, operation.parents())]
        if operation.kind is Kind.RENAME_TREE and moved is not None:
            concerned += walk(moved)
        self._tree.learnt.update(one for one in concerned if isinstance(one, DirectoryNode))

    def _name_left(self, path: str) -> None:
        """Listings are believed again about a name that was removed here, once the store was told all."""
        above, _, name = path.rpartition("/")
        parent = self._tree.find(above) if name else None
        if isinstance(parent, DirectoryNode) and name in parent.gone:
            hide(self._ledger, parent, name)

    def _names_left(self, operation: Operation, moved: Node | None) -> None:
        """The same of an operation's names, and of all names in a directory that moved, or where it was."""
        paths = (operation.path, operation.source)
        for path in paths:
            self._name_left(path)
        if operation.kind is not Kind.RENAME_TREE:
            return
        for top in {moved, *map(self._tree.find, paths)}:
            for node in walk(top) if top is not None else ():
                if isinstance(node, DirectoryNode):
                    for name in node.gone:
                        hide(self._ledger, node, name)

    def _directory_done(self, node: DirectoryNode, operation: Operation) -> None:
        if operation.kind is Kind.MARKER:
            node.marker = True
            if node.local:
                node.local = False
                node.listed_at = node.changed_at
        else:
            self._tree.settle_directories()
        node.checked_at = node.changed_at
        stored_below(self._ledger, node)

    def _file_done(self, node: FileNode, operation: Operation, version: Version | None) -> None:
        node.remote_key = operation.key
        self._tree.displaced.add(node)
        self._tree.settle_place(node)
        if version is None:  # somebody else took the object away, or so; find out what is there now
            node.checked_at = NEVER
            if node.parent is not None:
                node.parent.listed_at = NEVER
            return
        if operation.kind is not Kind.PUT:
            object_id = node.object_id if node.version == version else ""
            node.version, node.object_id = version, object_id
        else:
            node.version, node.object_id = version, ""
        if operation.kind is Kind.PUT and operation.decision is not None:
            adopt(node.attributes, operation.decision)
        node.checked_at = node.changed_at
        stored_below(self._ledger, node)
        node.modified_ns = 0
        if operation.staged is not None and operation.staged in node.layers:
            self._adopt(node, operation.staged)

    def _adopt(self, node: FileNode, staged: StagedFile) -> None:
        """The version in the store has the staged file's bytes now."""
        at = node.layers.index(staged)
        for below in node.layers[at + 1 :]:
            below.discard()
        if at == 0:
            node.layers = []
            self._retire(node, staged)
        else:
            del node.layers[at + 1 :]


def hide(ledger: Ledger, parent: DirectoryNode, name: str) -> None:
    """A name is gone here; listings are believed about it once the store has been told all about it."""
    parent.gone[name] = PENDING if ledger.concerns(parent.path_of(name)) else trio.current_time()


def stored_below(ledger: Ledger, node: Node) -> None:
    """The directories above exist in the store since now: listings begun earlier may not know them.

    But for those made where others are still to be moved away, and those that it is still to be moved into:
    what was stored was stored elsewhere.
    """
    above, key = node.parent, node.key
    while above is not None and above.parent is not None:
        if key.startswith(above.prefix):
            above.changed_at = node.changed_at
            if above.local and not any(ledger.awaits_move(one) for one in above.pending()):
                above.local = False
                above.listed_at = node.changed_at
        above = above.parent
