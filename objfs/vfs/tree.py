"""The tree that inodes form: the store's listing with the local changes laid over it.

Changed in synchronous steps only.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from objfs.upload.operations import Kind
from objfs.vfs.nodes import PENDING, ROOT_INO, DirectoryNode, FileNode, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.vfs.attributes import Attributes

MOVES_REMEMBERED = 1000  # of objects, most recent ones: requests under way are compared with them


class Tree:
    """All inodes of a mount by number and by place."""

    def __init__(self, root_attributes: Attributes) -> None:
        self._inos = itertools.count(ROOT_INO + 1)
        self.root = DirectoryNode(ino=ROOT_INO, parent=None, name="", attributes=root_attributes, lookups=1)
        self.nodes: dict[int, Node] = {ROOT_INO: self.root}
        self.displaced: set[Node] = set()
        self.learnt: set[DirectoryNode] = set()
        """Directories of which, or of whose entries, anything was learnt that is not kept yet."""
        self.moves = 0
        """Number of directory moves so far: a listing that saw one in the middle has to be begun anew."""
        self._moved: deque[tuple[int, str, str]] = deque(maxlen=MOVES_REMEMBERED)
        self._epochs = itertools.count(1)
        self.root.epoch = 0

    def next_epoch(self) -> int:
        """A number greater than all before."""
        return next(self._epochs)

    def new_file(self, name: str, attributes: Attributes) -> FileNode:
        """A file inode without a place yet."""
        node = FileNode(ino=next(self._inos), parent=None, name=name, attributes=attributes)
        self.nodes[node.ino] = node
        return node

    def new_directory(self, name: str, attributes: Attributes) -> DirectoryNode:
        """A directory inode without a place yet."""
        node = DirectoryNode(ino=next(self._inos), parent=None, name=name, attributes=attributes)
        self.nodes[node.ino] = node
        return node

    def attach(self, parent: DirectoryNode, name: str, node: Node) -> None:
        """Give a node its place. What was there has been detached before."""
        node.parent = parent
        node.name = name
        if isinstance(node, DirectoryNode) and node.epoch < 0:
            node.epoch = parent.epoch
        parent.children[name] = node
        parent.gone.pop(name, None)
        parent.absent.pop(name, None)
        parent.expired.pop(name, None)

    def attach_new(self, parent: DirectoryNode, name: str, node: DirectoryNode) -> None:
        """Give a directory made here its place: there its content will be, whatever still moves above."""
        self.attach(parent, name, node)
        self._place_by_path(node)

    def _place_by_path(self, top: DirectoryNode) -> None:
        """What is made here only has not to do with moves that are still to come from its place."""
        epoch = next(self._epochs)
        for node in walk(top):
            if isinstance(node, DirectoryNode) and node.parent is not None:
                node.epoch = epoch
                node.origin = f"{node.path}/" if node.parent.is_displaced else None
                (self.displaced.discard if node.origin is None else self.displaced.add)(node)

    def detach(self, node: Node) -> None:
        """Take a node out of its directory; it lives on while the kernel or a handle refers to it."""
        if node.parent is None:
            return
        if isinstance(node, FileNode):
            if node.version is not None:
                node.remote_key = node.key
                self.displaced.add(node)
        elif isinstance(node, DirectoryNode) and node.origin is None:
            node.origin = node.prefix
            self.displaced.add(node)
        if node.parent.children.get(node.name) is node:
            del node.parent.children[node.name]
        node.parent = None
        self.drop_if_unused(node)

    def move(self, node: Node, parent: DirectoryNode, name: str, *, stays: bool = True) -> None:
        """Give a node another place.

        Args:
            node: the one.
            parent: its new directory.
            name: its new name there.
            stays: a directory's content is where it was in the store until told otherwise.
        """
        old_parent, old_name = node.parent, node.name
        if isinstance(node, FileNode):
            if node.version is not None:
                node.remote_key = node.key
                self.displaced.add(node)
        elif isinstance(node, DirectoryNode) and stays:
            node.origin = node.prefix
            self.displaced.add(node)
            self.moves += 1
        if old_parent is not None:
            if old_parent.children.get(old_name) is node:
                del old_parent.children[old_name]
            old_parent.gone[old_name] = PENDING
        self.attach(parent, name, node)
        if isinstance(node, DirectoryNode) and not stays:
            self._place_by_path(node)

    def tree_moved(self, old_prefix: str, new_prefix: str, *, epoch: int) -> None:
        """All objects below a prefix are elsewhere in the store now, but for directories made since."""
        self.moves += 1
        self._moved.append((self.moves, old_prefix, new_prefix))
        for node in list(self.displaced):
            if isinstance(node, DirectoryNode) and node.origin is not None:
                if node.epoch < epoch:
                    node.origin = _moved(node.origin, old_prefix, new_prefix)
            elif isinstance(node, FileNode) and node.remote_key is not None:
                node.remote_key = _moved(node.remote_key, old_prefix, new_prefix)
                self.settle_place(node)
        self.settle_directories()

    def settle_directories(self) -> None:
        """Forget of all directories that they are displaced, where they are not any more."""
        directories = [node for node in self.displaced if isinstance(node, DirectoryNode)]
        for node in sorted(directories, key=lambda one: one.path.count("/")):  # what is above first
            self.settle_place(node)

    def has_moved(self, key: str, *, since: int) -> bool:
        """Whether objects came to, or went from, where a key is, since there were so many `moves`.

        What a request told of it then is about another object, also if the key is the same again.
        """
        if self.moves == since:
            return False
        if len(self._moved) == MOVES_REMEMBERED and self._moved[0][0] > since + 1:
            return True
        return any(key.startswith((old, new)) for number, old, new in self._moved if number > since)

    def settle_place(self, node: Node) -> None:
        """Forget that a node is displaced if it is not any more, nor will be by moves still to come."""
        if node.parent is None or any(one.kind in (Kind.RENAME, Kind.RENAME_TREE) for one in node.pending()):
            return
        if isinstance(node, FileNode):
            if node.remote_key == node.parent.prefix + node.name:
                node.remote_key = None
                self.displaced.discard(node)
        elif (
            isinstance(node, DirectoryNode)
            and node.origin == f"{node.path}/"
            and not node.parent.is_displaced
        ):
            node.origin = None
            self.displaced.discard(node)

    def find(self, path: str) -> Node | None:
        """The node at a path, as far as it is known."""
        node: Node = self.root
        for part in path.split("/") if path else ():
            child = node.children.get(part) if isinstance(node, DirectoryNode) else None
            if child is None:
                return None
            node = child
        return node

    def drop_if_unused(self, node: Node) -> None:
        """Free the inode of something unlinked or superseded that nobody refers to any more."""
        if node.parent is not None or node.lookups > 0 or node.ino == ROOT_INO:
            return
        if isinstance(node, FileNode):
            if node.handles or node.pending():
                return
            while node.layers:
                node.layers.pop().discard()
        self.displaced.discard(node)
        self.nodes.pop(node.ino, None)


def _moved(key: str, old_prefix: str, new_prefix: str) -> str:
    return new_prefix + key[len(old_prefix) :] if key.startswith(old_prefix) else key


def walk(top: Node) -> Iterator[Node]:
    """A node and everything known below it. Without recursion: keys are deeper than Python's own stack."""
    stack = [top]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, DirectoryNode):
            stack.extend(node.children.values())


def is_ours(node: Node) -> bool:
    """Whether a node shows a change that the store has not got yet (its own, or of something below)."""
    return any(
        one.pending() or (isinstance(one, FileNode) and (one.dirty or one.layers)) for one in walk(node)
    )


def is_at_or_below(directory: DirectoryNode, top: Node) -> bool:
    """Whether a directory is another one, or lies in it."""
    above: DirectoryNode | None = directory
    while above is not None and above is not top:
        above = above.parent
    return above is top
