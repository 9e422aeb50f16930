"""New files: in the journal at once, or in the store first where of two mounts one is to win."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import trio

from objfs.errors import PreconditionFailedError
from objfs.vfs.attributes import Attributes, encode, fresh_attributes
from objfs.vfs.names import check_new_name
from objfs.vfs.tree import is_at_or_below

if TYPE_CHECKING:
    from objfs.upload.uploader import Uploader
    from objfs.vfs.changes import Changes
    from objfs.vfs.content import Contents
    from objfs.vfs.directories import Directories
    from objfs.vfs.nodes import DirectoryNode, FileNode
    from objfs.vfs.places import Places
    from objfs.vfs.tree import Tree
    from objfs.vfs.values import Caller


class Maker:
    """Makes files."""

    def __init__(
        self,
        tree: Tree,
        places: Places,
        directories: Directories,
        contents: Contents,
        changes: Changes,
        uploader: Uploader,
    ) -> None:
        self._tree = tree
        self._places = places
        self._directories = directories
        self._contents = contents
        self._changes = changes
        self._uploader = uploader
        self._claims: dict[trio.Event, DirectoryNode] = {}  # under way, each in a directory

    async def make(
        self, parent: DirectoryNode, name: bytes, mode: int, caller: Caller, *, held: bool
    ) -> FileNode:
        """Make an empty file here; `held` while somebody has it open."""
        text = check_new_name(name)
        self._places.check_new(parent, text)
        node = self._tree.new_file(text, self.new_attributes(parent, mode, caller))
        self._contents.writable(node)
        self._changes.create(parent, text, node, held=held)
        return node

    async def claim(self, parent: DirectoryNode, name: bytes, mode: int, caller: Caller) -> FileNode:
        """Make a file in the store before anybody is told; of two mounts that try, one succeeds."""
        text = check_new_name(name)
        self._places.check_new(parent, text)
        node = self._tree.new_file(text, self.new_attributes(parent, mode, caller))
        ended = trio.Event()
        self._claims[ended] = parent
        try:
            node.version = await self._uploader.claim(
                parent.path_of(text), encode(node.attributes, text), parent.free_base(text)
            )
            self._places.check_new(parent, text)
        except BaseException as error:
            self._tree.drop_if_unused(node)
            self._directories.forget(parent)
            if isinstance(error, PreconditionFailedError):
                raise OSError(errno.EEXIST, "somebody made it first") from error
            raise
        finally:
            del self._claims[ended]
            ended.set()
        self._changes.claimed(parent, text, node)
        return node

    async def claims_ended(self, top: DirectoryNode) -> None:
        """Wait until nothing is on its way to a place in a directory, which must not move meanwhile."""
        while waited_for := [ended for ended, parent in self._claims.items() if is_at_or_below(parent, top)]:
            await waited_for[0].wait()

    def new_attributes(self, parent: DirectoryNode, mode: int, caller: Caller) -> Attributes:
        """Of what is made in a directory: its group, where it is set-group-ID."""
        gid = caller.gid
        if parent.attributes.mode & stat.S_ISGID:
            gid = parent.attributes.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        return fresh_attributes(mode, caller.uid, gid)
