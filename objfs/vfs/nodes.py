"""Inodes and the tree they form: plain data, changed in synchronous steps only.

The tree is the store's listing with the local changes laid over it. A directory may lie elsewhere in the
store than its path says while a rename is under way (`origin`), a file likewise (`remote_key`); a name that
was removed here hides what the store still lists (`gone`).
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.upload.operations import NOTHING, UNKNOWN, Base, Kind, Operation, State, marker_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.store.values import Version
    from objfs.vfs.attributes import Attributes
    from objfs_cache.staged import StagedFile

ROOT_INO = 1  # FUSE_ROOT_ID
NEVER = -math.inf
PENDING = math.inf
MOVES_REMEMBERED = 1000  # of objects, most recent ones: requests under way are compared with them


@dataclass(slots=True, eq=False)
class Node:
    """What files and directories have in common.

    Attributes:
        parent: None for the root and for what was unlinked.
        proven: the attributes were read from the object itself (or made here), not guessed from a listing.
        checked_at: trio time at which the store last confirmed name and version.
        changed_at: trio time at which a change of ours last took effect; older listings are not believed.
        operations: unfinished changes that show in this node.
        lookups: the kernel's references.
    """

    ino: int
    parent: DirectoryNode | None
    name: str
    attributes: Attributes
    proven: bool = False
    checked_at: float = NEVER
    changed_at: float = NEVER
    operations: list[Operation] = field(default_factory=list)
    lookups: int = 0

    def pending(self) -> list[Operation]:
        """Unfinished operations; finished ones are dropped."""
        if self.operations:
            self.operations = [one for one in self.operations if one.state is not State.DONE]
        return self.operations

    @property
    def is_removed(self) -> bool:
        """Whether it has no name any more."""
        return self.parent is None and self.ino != ROOT_INO

    @property
    def key(self) -> str:
        """Key in the store, now."""
        raise NotImplementedError

    @property
    def path(self) -> str:
        """Path below the mount's root."""
        parts: list[str] = []
        node: Node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return "/".join(reversed(parts))


@dataclass(slots=True, eq=False)
class FileNode(Node):
    """A regular file, symlink or special file; its content is one version, changed by own writes only.

    Attributes:
        version: the bytes in the store, or None if it was never stored.
        modified_ns: Last-Modified of the version as last told, 0 if unknown.
        remote_key: where the bytes are in the store, while that is not the node's own key.
        layers: staged files over the version, newest first.
        staged_size: length in bytes while there are layers.
        dirty: bytes were staged since the last journal entry.
        written_at: trio time of the last write.
        target: a symlink's target, once known.
        handles, writers: open handles, and those of them that may write.
        superseded: somebody else's version has taken the name.
        stalled_at: trio time at which a read last gave up waiting for the store.
    """

    version: Version | None = None
    modified_ns: int = 0
    remote_key: str | None = None
    layers: list[StagedFile] = field(default_factory=list)
    dirty: bool = False
    written_at: float = NEVER
    target: bytes | None = None
    handles: int = 0
    writers: int = 0
    superseded: bool = False
    object_id: str = ""
    lock: trio.Lock | None = None
    stalled_at: float = NEVER

    @property
    def size_bytes(self) -> int:
        """Length of the content."""
        if self.layers:
            return self.layers[0].length
        if self.target is not None:
            return len(self.target)
        return self.version.content_bytes if self.version is not None else 0

    @property
    def key(self) -> str:
        """Where the version is in the store now."""
        if self.remote_key is not None:
            return self.remote_key
        return self.parent.prefix + self.name if self.parent is not None else self.name

    def exclusively(self) -> trio.Lock:
        """The lock of whoever changes the content; made when first needed, most files never do."""
        if self.lock is None:
            self.lock = trio.Lock()
        return self.lock

    def base(self) -> Base:
        """What this mount knows to be in the store under the node."""
        return Base(version=self.version) if self.version is not None else NOTHING


@dataclass(slots=True, eq=False)
class DirectoryNode(Node):
    """A directory.

    Attributes:
        children: known names; complete if `listed_at` is fresh.
        gone: names removed here; a listing begun before the time given is not believed about them.
        absent: names that the store was asked for and has not, with the time of asking.
        expired: names whose object is there and has expired, with its version and its Last-Modified.
        order: names of the last complete listing, as the store ordered them.
        listed_at: trio time at which the last complete listing was begun; NEVER if it is not to be believed.
        told_at: the same, whatever became of it: what was asked before it tells nothing of other names.
        large: the listing has more than one page.
        hidden: keys below that cannot be shown as files.
        marker: whether the marker object exists, or None if unknown.
        local: nothing below is in the store yet.
        handles: open handles.
        probed_at, probes: when, and how many, names were asked for one by one lately.
        walked_at, opened_children: when, and how many, children were opened one after another lately.
        origin: the prefix where the content is in the store, while that is not the directory's own.
        epoch: when it was made, among the moves of directories; what others made is as old as its parent.
        touched_ns: when a name in it last changed here; its marker need not tell.
    """

    children: dict[str, Node] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    absent: dict[str, float] = field(default_factory=dict)
    expired: dict[str, tuple[Version, int]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    listed_at: float = NEVER
    told_at: float = NEVER
    large: bool = False
    hidden: int = 0
    marker: bool | None = None
    local: bool = False
    origin: str | None = None
    epoch: int = -1
    handles: int = 0
    probed_at: float = NEVER
    probes: int = 0
    walked_at: float = NEVER
    opened_children: int = 0
    touched_ns: int = 0

    def touch(self) -> None:
        """A name in it changed just now."""
        self.attributes.touch(content=True)
        self.touched_ns = self.attributes.mtime_ns

    def learn(self, attributes: Attributes) -> None:
        """Take over what the store tells, but for the time of what changed here since."""
        self.attributes = attributes
        if self.touched_ns > attributes.ctime_ns:
            attributes.mtime_ns = attributes.ctime_ns = self.touched_ns

    def path_of(self, name: str) -> str:
        """Path below the mount's root of what has, or may get, a name here."""
        return f"{self.path}/{name}".lstrip("/")

    @property
    def prefix(self) -> str:
        """Key prefix of the content in the store."""
        if self.origin is not None:
            return self.origin
        return "" if self.parent is None else f"{self.parent.prefix}{self.name}/"

    @property
    def is_displaced(self) -> bool:
        """Whether the content is not, or perhaps not for long, where the path says."""
        return self.origin is not None or (self.parent is not None and self.parent.is_displaced)

    @property
    def key(self) -> str:
        """Key of the marker in the store."""
        return self.prefix or marker_key("")

    def free_base(self, name: str) -> Base:
        """What the store has under a name that is free here: nothing, or what has expired."""
        expired = self.expired.get(name)
        return NOTHING if expired is None else Base(version=expired[0])

    def base(self) -> Base:
        """Markers are written without conditions."""
        return UNKNOWN


class Tree:
    """All inodes of a mount by number and by place."""

    def __init__(self, root_attributes: Attributes) -> None:
        self._inos = itertools.count(ROOT_INO + 1)
        self.root = DirectoryNode(ino=ROOT_INO, parent=None, name="", attributes=root_attributes, lookups=1)
        self.nodes: dict[int, Node] = {ROOT_INO: self.root}
        self.displaced: set[Node] = set()
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
