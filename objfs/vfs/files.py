"""The content of open files: read, written, and made as durable as programs are told."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

from objfs.errors import ObjfsError
from objfs.vfs.handles import FileHandle, Handles

if TYPE_CHECKING:
    import trio

    from objfs.vfs.changes import Changes
    from objfs.vfs.content import Contents
    from objfs.vfs.disk import DiskShare
    from objfs.vfs.durability import Durability
    from objfs.vfs.nodes import FileNode
    from objfs.vfs.settling import Settling
    from objfs.vfs.treatment import Treatment
    from objfs.vfs.tree import Tree
    from objfs.vfs.values import VfsSettings
    from objfs_cache.staged import StagedFile

log = logging.getLogger(__name__)


class Files:
    """What programs do with descriptors of files."""

    def __init__(
        self,
        tree: Tree,
        handles: Handles,
        contents: Contents,
        disk: DiskShare,
        changes: Changes,
        durability: Durability,
        settling: Settling,
        treatment: Treatment,
        settings: VfsSettings,
        nursery: trio.Nursery,
    ) -> None:
        self._tree = tree
        self._handles = handles
        self._contents = contents
        self._disk = disk
        self._changes = changes
        self._durability = durability
        self._settling = settling
        self._treatment = treatment
        self._settings = settings
        self._nursery = nursery

    def open(self, node: FileNode, flags: int) -> int:
        """A handle on a file."""
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        if not writable:
            self._treatment.note_read(node)
        node.handles += 1
        node.writers += writable
        return self._handles.add(FileHandle(node=node, stream=self._contents.new_stream(), writable=writable))

    def is_set_id(self, handle: int) -> bool:
        """Whether an open file is run as its owner or group, whoever runs it."""
        mode = self._handles.get(handle, FileHandle).node.attributes.mode
        return bool(mode & (stat.S_ISUID | stat.S_ISGID))

    async def read(self, handle: int, offset: int, length: int) -> bytes:
        """Bytes of an open file; short only at its end."""
        opened = self._handles.get(handle, FileHandle)
        return await self._contents.read(opened.node, opened.stream, offset, length)

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        """Stage bytes; all of them, or an error and none."""
        node = self._handles.get(handle, FileHandle).node
        async with node.exclusively():
            await self._disk.with_room(len(data), lambda: self._stage(node, offset, data))
            self._changes.wrote(node)
        return len(data)

    async def flush(self, handle: int) -> None:
        """A descriptor is closed: what was written is journaled, and in the store in write-through mode."""
        node = self._handles.get(handle, FileHandle).node
        async with node.exclusively():
            operation = self._changes.commit(node)
        if operation is not None and node.layers and not node.layers[0].complete:
            self._nursery.start_soon(self._complete, node)
        await self._settling.node(node)

    async def fsync(self, handle: int) -> None:
        """Everything written to the file survives power loss."""
        node = self._handles.get(handle, FileHandle).node
        async with node.exclusively():
            await self._durability.sync_file(node)
        if self._settings.fsync == "remote":
            await self._settling.stored([operation for operation in node.pending() if not operation.held])

    async def release(self, handle: int) -> None:
        """The last descriptor of an open file is gone. Shared maps may have written after FLUSH."""
        opened = self._handles.remove(handle, FileHandle)
        node = opened.node
        node.handles -= 1
        node.writers -= opened.writable
        async with node.exclusively():
            self._changes.commit(node)
        if not node.handles:
            for layer in node.layers:
                layer.close()
            self._tree.drop_if_unused(node)

    async def truncate(self, node: FileNode, length: int) -> None:
        """Set the length of a file."""
        async with node.exclusively():
            if length == node.size_bytes:
                with self._changes.or_as_before(node):
                    node.attributes.touch(content=True)
                    self._changes.set_attributes(node)
                return
            layer = await self._disk.with_room(0, lambda: self._cut(node, length))
            if layer.durable is not None:  # what fsync promised is cut off only once that is durable, too
                await self._durability.sync_journal()
            layer.trim()
        if not node.writers:
            await self._settling.node(node)

    async def _stage(self, node: FileNode, offset: int, data: bytes) -> None:
        self._changes.hold(node)
        await self._contents.write(node, offset, data)

    async def _cut(self, node: FileNode, length: int) -> StagedFile:
        """Set the length in one step, or not at all."""
        self._changes.hold(node)
        with self._changes.or_as_before(node), self._contents.truncated(node, length) as layer:
            self._changes.wrote(node)
            self._changes.commit(node, held=node.writers > 0)
        return layer

    async def _complete(self, node: FileNode) -> None:
        try:
            if await self._contents.complete(node):
                self._changes.completed(node)
        except (OSError, ObjfsError, ExceptionGroup) as error:
            log.debug("the base of a changed file was not kept: %s", error)
