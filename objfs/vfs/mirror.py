"""The tree as a picture of the store: what the store told is put in, where nothing of ours is newer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from objfs.codec.marks import content_version
from objfs.vfs.attributes import Defaults, decode, default_attributes
from objfs.vfs.names import RESERVED_ROOT
from objfs.vfs.nodes import LONG_AGO, NEVER, DirectoryNode, FileNode, Node
from objfs.vfs.tree import Tree, is_ours, walk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.values import ObjectInfo, Version
    from objfs.vfs.freshness import Freshness
    from objfs.vfs.listings import Listing


OVERLOOKED_MAX = 100  # files that one listing lacks


class Kernel(Protocol):
    """What the file system may ask of the kernel."""

    def invalidate_entry(self, parent_ino: int, name: str) -> None:
        """Forget a name; never blocks."""
        ...


class Mirror:
    """Changes the tree as the store tells. Every method is one step without an await."""

    def __init__(
        self, tree: Tree, freshness: Freshness, *, defaults: Defaults, kernel: Kernel, may_overlook: bool
    ) -> None:
        self._tree = tree
        self._freshness = freshness
        self._defaults = defaults
        self._kernel = kernel
        self._may_overlook = may_overlook

    def merge(self, directory: DirectoryNode, listing: Listing, *, complete: bool) -> list[str]:
        """Put in what a listing told; `complete`: what it lacks is gone, but for what is returned.

        Returns:
            names of entries that are to be asked for before they go: some listings come behind, and some
            overlook objects that are being overwritten (see `Prover.is_overlooked`).
        """
        begun_at = listing.begun_at
        if directory.told_at > begun_at:
            return []
        if directory.parent is None:
            listing.folders.discard(RESERVED_ROOT)
            listing.files.pop(RESERVED_ROOT, None)
        clashes = [name for name in listing.files if name in listing.folders]
        for name in clashes:  # a key that is file and directory is shown as the directory
            del listing.files[name]
        directory.hidden = listing.hidden + len(clashes)
        for name, info in listing.files.items():
            if self.may_update(directory, name, begun_at):
                self.show_file(directory, name, info, begun_at)
        for name in listing.folders:
            if self.may_update(directory, name, begun_at):
                node = self.show_directory(directory, name, begun_at)
                is_there = node.prefix == f"{directory.prefix}{name}/"
                if name in listing.proven and is_there and not node.proven:
                    self.prove_directory(node, listing.proven[name], begun_at)
        self._take_marker(directory, listing)
        return self._complete(directory, listing) if complete else []

    def _complete(self, directory: DirectoryNode, listing: Listing) -> list[str]:
        begun_at = listing.begun_at
        lacking = {name: child for name, child in directory.children.items() if listing.lacks(child)}
        doubted = {name for name, child in lacking.items() if listing.may_lag(child)}
        if self._may_overlook:
            doubted |= _overlooked(lacking)
        for name in lacking:
            if name not in doubted and self.may_update(directory, name, begun_at):
                self.vanish(directory, name, begun_at)
        if directory.listed_at == NEVER:
            self._tree.learnt.add(directory)
        directory.listed_at = directory.told_at = begun_at
        directory.absent = {
            name: asked_at for name, asked_at in directory.absent.items() if asked_at > begun_at
        }
        directory.expired = {name: one for name, one in directory.expired.items() if name in listing.files}
        directory.gone = {name: until for name, until in directory.gone.items() if until > begun_at}
        return [name for name in lacking if name in doubted]

    def _take_marker(self, directory: DirectoryNode, listing: Listing) -> None:
        if listing.begun_at == LONG_AGO:
            is_newer = directory.proven and (directory.parent is not None or directory.checked_at > LONG_AGO)
        else:  # the root's marker is elsewhere
            is_newer = directory.parent is None or bool(directory.pending())
        if is_newer or directory.changed_at > listing.begun_at:
            return
        directory.marker = listing.marker is not None
        if listing.marker is None or listing.marker.metadata is not None:
            self.prove_directory(directory, listing.marker, listing.begun_at)

    def may_update(self, parent: DirectoryNode, name: str, begun_at: float) -> bool:
        """Whether what the store told since `begun_at` may change what is shown under a name."""
        if self._freshness.is_gone(parent, name, begun_at):
            return False
        child = parent.children.get(name)
        if child is None:
            return max(parent.told_at, parent.absent.get(name, NEVER)) <= begun_at
        if isinstance(child, DirectoryNode):
            return True
        return child.changed_at <= begun_at and not is_ours(child)

    def show_file(self, parent: DirectoryNode, name: str, info: ObjectInfo, at: float) -> None:
        """Put in what the store told of an object: the known version, or a new inode."""
        node = parent.children.get(name)
        if isinstance(node, DirectoryNode) and not self.may_vanish(node, at):
            return
        if node is None and _is_expired_still(parent, name, info):
            return
        if isinstance(node, FileNode) and _was_told_since(node, info, at):
            return
        if isinstance(node, FileNode) and node.version == info.version and not _is_open_otherwise(node, info):
            if info.metadata is None and _may_differ(node, info, at):
                node.proven = False  # same bytes, put or copied anew
        else:
            self._tree.learnt.add(parent)
            if node is not None:
                self.supersede(node)
            attributes = default_attributes(self._defaults, directory=False, modified_ns=info.modified_ns)
            node = self._tree.new_file(name, attributes)
            node.version = info.version
            self._tree.attach(parent, name, node)
        node.checked_at = max(node.checked_at, at)
        node.modified_ns = info.modified_ns or node.modified_ns
        if info.metadata is not None:
            _learn_content(node, content_version(info))
            attributes = decode(info, self._defaults, directory=False)
            if not node.proven or attributes != node.attributes:
                self._tree.learnt.add(parent)
            node.attributes = attributes
            node.proven = True

    def show_directory(self, parent: DirectoryNode, name: str, at: float) -> DirectoryNode:
        """Put in that there are keys below a name."""
        node = parent.children.get(name)
        if not isinstance(node, DirectoryNode):
            if node is not None:
                self.supersede(node)
            node = self._tree.new_directory(
                name, default_attributes(self._defaults, directory=True, modified_ns=0)
            )
            self._tree.attach(parent, name, node)
            self._tree.learnt.add(parent)
        elif node.checked_at <= at and not self._freshness.is_fresh(node):
            node.proven = False
        node.checked_at = max(node.checked_at, at)
        return node

    def prove_directory(self, node: DirectoryNode, marker: ObjectInfo | None, at: float) -> None:
        """Put in what the marker tells, or that there is none."""
        if node.proven and (node.pending() or node.changed_at > at):
            return  # perhaps we wrote it since
        before = node.marker, node.attributes if node.proven else None
        node.marker = marker is not None
        if marker is not None:
            node.learn(decode(marker, self._defaults, directory=True))
        elif not node.proven:
            node.attributes = default_attributes(
                self._defaults, directory=True, modified_ns=node.attributes.mtime_ns
            )
        node.proven = True
        node.checked_at = max(node.checked_at, at)
        if (node.marker, node.attributes) != before:
            self._tree.learnt.update(one for one in (node, node.parent) if one is not None)

    def vanish(self, parent: DirectoryNode, name: str, begun_at: float) -> None:
        """Put in that the store has nothing of that name."""
        node = parent.children.get(name)
        if node is not None and self.may_vanish(node, begun_at):
            self.supersede(node)

    def may_vanish(self, node: Node, begun_at: float) -> bool:
        """Whether nothing of ours, or told later, keeps what the store has not had since `begun_at`."""
        return max(node.changed_at, node.checked_at) <= begun_at and not is_ours(node)

    def supersede(self, node: Node) -> None:
        """Somebody else replaced or removed what the node, and all below it, stands for."""
        parent, name = node.parent, node.name
        for below in reversed(list(walk(node))):
            if isinstance(below, FileNode):
                below.superseded = True
            self._tree.detach(below)
        if parent is not None:
            self._tree.learnt.add(parent)
            self._kernel.invalidate_entry(parent.ino, name)


def _overlooked(lacking: Mapping[str, Node]) -> set[str]:
    """Files that may be there all the same; where many are missing, they were deleted."""
    files = {name for name, child in lacking.items() if isinstance(child, FileNode) and not is_ours(child)}
    return files if len(files) <= OVERLOOKED_MAX else set()


def _learn_content(node: FileNode, version: Version) -> None:
    """Take over what an object tells of its content, which listings do not."""
    before = node.version
    if before is None or before.decoded_bytes != version.decoded_bytes:
        node.object_id = ""
    node.version = version


def _was_told_since(node: FileNode, info: ObjectInfo, at: float) -> bool:
    """Whether the store told of another version, or all of this one, when it was asked later."""
    return node.checked_at > at and (node.proven or node.version != info.version or at == LONG_AGO)


def _is_open_otherwise(node: FileNode, info: ObjectInfo) -> bool:
    """Whether a file is open whose bytes are shown in another form now: decompressed, or as stored."""
    if not node.handles or node.version is None or info.metadata is None:
        return False
    return content_version(info).decoded_bytes != node.version.decoded_bytes


def _may_differ(node: FileNode, info: ObjectInfo, at: float) -> bool:
    """Whether attributes that go with the same bytes may be others now."""
    return node.checked_at <= LONG_AGO < at or _is_later(info.modified_ns, node.modified_ns)


def _is_later(modified_ns: int, before_ns: int) -> bool:
    """Whether Last-Modified moved on; one of the two may be in whole seconds."""
    if not before_ns or not modified_ns:
        return False
    return modified_ns // 1_000_000_000 > before_ns // 1_000_000_000


def _is_expired_still(parent: DirectoryNode, name: str, info: ObjectInfo) -> bool:
    """Whether an object is the one that was seen to have expired: nobody put its time off since."""
    version, modified_ns = parent.expired.get(name, (None, 0))
    if version is None or info.metadata is not None:
        return False
    return info.version == version and not _is_later(info.modified_ns, modified_ns)
