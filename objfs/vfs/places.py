"""Inodes and names of requests, and whether what is wanted there may be: each refusal has its errno."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from objfs.vfs.names import RESERVED_ROOT, check_new_name, decode_name
from objfs.vfs.nodes import DirectoryNode, FileNode, Node
from objfs.vfs.tree import Tree, is_at_or_below

if TYPE_CHECKING:
    from objfs.vfs.directories import Directories


class Places:
    """Finds nodes, or raises the OSError that ext4 would give."""

    def __init__(self, tree: Tree, directories: Directories, *, max_key_bytes: int) -> None:
        self._tree = tree
        self._directories = directories
        self._max_key_bytes = max_key_bytes

    def node(self, ino: int) -> Node:
        """The inode, whatever became of its name."""
        node = self._tree.nodes.get(ino)
        if node is None:
            raise OSError(errno.ESTALE, "no such inode")
        return node

    def current(self, ino: int) -> Node:
        """The inode, unless somebody else's version took its name and nobody has it open."""
        node = self.node(ino)
        if isinstance(node, FileNode) and node.superseded and not node.handles:
            raise OSError(errno.ESTALE, "superseded")
        return node

    async def looked_at(self, ino: int) -> Node:
        """The inode, to change attributes: those of a file are read anew if others may have changed them."""
        node = self.current(ino)
        if isinstance(node, FileNode) and node.parent is not None and not node.proven:
            await self._directories.lookup(node.parent, node.name)
        return node

    def directory(self, ino: int) -> DirectoryNode:
        """The inode, which must be a directory."""
        node = self.node(ino)
        if not isinstance(node, DirectoryNode):
            raise OSError(errno.ENOTDIR, "not a directory")
        return node

    def file(self, ino: int) -> FileNode:
        """The inode, which must be a file."""
        node = self.current(ino)
        if not isinstance(node, FileNode):
            raise OSError(errno.EINVAL, "not a file")
        return node

    async def child(self, parent: DirectoryNode, name: bytes) -> Node | None:
        """What a directory has under a name, proven; None if there is nothing."""
        if len(name) > 255:
            raise OSError(errno.ENAMETOOLONG, "name too long")
        text = decode_name(name)
        return await self._directories.lookup(parent, text) if text is not None else None

    async def existing(self, parent: DirectoryNode, name: bytes) -> Node:
        """What a directory has under a name; ENOENT if there is nothing."""
        node = await self.child(parent, name)
        if node is None:
            raise OSError(errno.ENOENT, "no such file or directory")
        return node

    async def vacant(self, parent_ino: int, name: bytes) -> tuple[DirectoryNode, str]:
        """A directory and a name in it that does not exist and may."""
        parent, text = self.directory(parent_ino), check_new_name(name)
        if await self.child(parent, name) is not None:
            raise OSError(errno.EEXIST, "exists")
        self.check_new(parent, text)
        return parent, text

    def check_new(self, parent: DirectoryNode, name: str) -> None:
        """Refuse a name that is taken, or cannot be a key."""
        self.check_reserved(parent, name)
        if name in parent.children:
            raise OSError(errno.EEXIST, "exists")
        self._check_parent(parent)
        self._check_key(parent, name)

    def check_reserved(self, parent: DirectoryNode, name: str) -> None:
        """Refuse the one name in the root that is the mount's own."""
        if parent is self._tree.root and name == RESERVED_ROOT:
            raise OSError(errno.EPERM, f"{RESERVED_ROOT} is the mount's own")

    def check_place(self, node: Node, parent: DirectoryNode, name: str, target: Node | None) -> None:
        """The world may have changed since the names were looked up."""
        if node.parent is None or parent.children.get(name) is not target:
            raise OSError(errno.ESTALE, "the names changed meanwhile")
        self._check_parent(parent)
        if is_at_or_below(parent, node):
            raise OSError(errno.EINVAL, "a directory cannot move into itself")
        self._check_key(parent, name, below_bytes=_longest_below(node))

    async def check_empty(self, node: DirectoryNode) -> None:
        """Refuse a directory that has entries, or keys that cannot be shown."""
        await self._directories.look_into(node)
        if node.children or node.hidden:
            raise OSError(errno.ENOTEMPTY, "not empty")

    def _check_parent(self, parent: DirectoryNode) -> None:
        if parent.is_removed:
            raise OSError(errno.ENOENT, "the directory was removed")

    def _check_key(self, parent: DirectoryNode, name: str, *, below_bytes: int = 0) -> None:
        if len(f"{parent.path}/{name}/".encode()) + below_bytes > self._max_key_bytes:
            raise OSError(errno.ENAMETOOLONG, "the key would be longer than the store can hold")


def _longest_below(top: Node) -> int:
    """Bytes of the longest path below a directory, from there on, as far as it is known."""
    longest = 0
    stack = [(top, 0)]
    while stack:
        node, length = stack.pop()
        longest = max(longest, length)
        if isinstance(node, DirectoryNode):
            stack += [(child, length + len(name.encode()) + 1) for name, child in node.children.items()]
    return longest
