"""The file system: what programs ask for, in plain values.

Every method raises OSError with the errno that ext4 would give, StaleVersionError, or an error of the store.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from objfs.errors import (
    NotFoundError,
    ObjectStoreError,
    ObjfsError,
    PreconditionFailedError,
    UnavailableError,
)
from objfs.store.values import MIB, Version
from objfs.upload.operations import ROOT_MARKER_KEY, State
from objfs.upload.uploader import load_operations
from objfs.vfs.attributes import Attributes, decode, default_attributes, encode, fresh_attributes
from objfs.vfs.changes import Changes
from objfs.vfs.content import Contents, object_id
from objfs.vfs.directories import Directories
from objfs.vfs.disk import DiskShare
from objfs.vfs.durability import Durability
from objfs.vfs.handles import DirectoryHandle, FileHandle, Handles
from objfs.vfs.inspection import STATUS_XATTR, Inspection
from objfs.vfs.names import RESERVED_ROOT, check_new_name, decode_name
from objfs.vfs.nodes import DirectoryNode, FileNode, Node, Tree
from objfs.vfs.pruning import prune
from objfs.vfs.replay import replay
from objfs.vfs.treated import (
    XATTR_PREFIX,
    check_honoured,
    parse_value,
    renew,
    wanted_attributes,
    xattr_value,
)
from objfs.vfs.values import Caller, SetAttributes, Space, Stat, VfsSettings
from objfs.vfs.warming import Warmer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from objfs.read.reader import Reader
    from objfs.store.protocol import AsyncObjectStore
    from objfs.upload.operations import Operation
    from objfs.upload.uploader import Uploader
    from objfs.vfs.mirror import Kernel
    from objfs_cache.blocks import BlockCache
    from objfs_cache.staging import StagedFile, Staging

log = logging.getLogger(__name__)

SYMLINK_MAX_BYTES = 4095  # PATH_MAX without its NUL (limits.h)
KEEP_BYTES = 64 * MIB  # uploaded files up to this size go into the block cache; larger ones would flush it
SPACE_BYTES = 1 << 50  # a bucket has no size; what other tools of the field report
FILES = 1 << 32
PRUNE_EVERY_S = 10.0
RENAME_NOREPLACE = 1  # linux/fs.h
MAKEABLE = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK)


class FileSystem:
    """One mount's files. Made by `open_filesystem`."""

    def __init__(
        self,
        store: AsyncObjectStore,
        reader: Reader,
        uploader: Uploader,
        staging: Staging,
        blocks: BlockCache | None,
        settings: VfsSettings,
        kernel: Kernel,
        nursery: trio.Nursery,
    ) -> None:
        self._store = store
        self._reader = reader
        self._uploader = uploader
        self._staging = staging
        self._settings = settings
        self._nursery = nursery
        defaults = settings.defaults
        self._tree = Tree(default_attributes(defaults, directory=True, modified_ns=0))
        self._disk = DiskShare(staging, blocks)
        self._contents = Contents(reader, staging, self._disk, is_stuck=uploader.ledger.is_stuck)
        self._handles = Handles()
        self._changes = Changes(
            self._tree,
            uploader.ledger,
            self._contents,
            kernel=kernel,
            max_metadata_bytes=store.capabilities.max_metadata_bytes,
            rules=settings.rules,
            retire=self._retire,
        )
        self._directories = Directories(
            self._tree,
            store,
            nursery,
            defaults=defaults,
            ttl_s=settings.metadata_ttl_s,
            kernel=kernel,
            hides=uploader.ledger.concerns,
            rules=settings.rules,
        )
        self._durability = Durability(uploader.ledger, self._changes, staging.path)
        self.inspection = Inspection(self._tree, self._directories, reader, blocks, store, settings.rules)

    # -- names --------------------------------------------------------------------------------------

    async def lookup(self, parent_ino: int, name: bytes) -> Stat | None:
        """The entry of that name, or None; counts a reference of the kernel."""
        parent = self._directory(parent_ino)
        node = await self._child(parent, name)
        if node is None:
            return None
        node.lookups += 1
        return self._stat(node)

    def negative_timeout_s(self, parent_ino: int, name: bytes) -> float:
        """How long the kernel may believe that a name does not exist."""
        return self._directories.freshness.absent_timeout_s(
            self._directory(parent_ino), name.decode(errors="replace")
        )

    def forget(self, ino: int, lookups: int) -> None:
        """The kernel gave references back."""
        node = self._tree.nodes.get(ino)
        if node is not None:
            node.lookups -= lookups
            self._tree.drop_if_unused(node)

    async def getattr(self, ino: int) -> Stat:
        """Attributes, fresh."""
        node = self._node(ino)
        parent = node.parent
        if parent is not None and not (node.proven and self._directories.freshness.is_fresh(node)):
            await self._directories.lookup(parent, node.name)
        if isinstance(node, FileNode) and node.superseded and not node.handles:
            raise OSError(errno.ESTALE, "superseded")
        return self._stat(node)

    async def setattr(self, ino: int, wanted: SetAttributes) -> Stat:
        """chmod, chown, truncate, utimens."""
        node = self._current(ino)
        if wanted.size_bytes is not None:
            if not isinstance(node, FileNode):
                raise OSError(errno.EISDIR, "a directory has no length")
            await self._truncate(node, wanted.size_bytes)
        with self._changes.or_as_before(node):
            asked = _apply(node.attributes, wanted)
            if asked and isinstance(node, FileNode) and not node.proven:
                raise OSError(errno.ESTALE, "attributes not known")
            if asked:
                self._changes.set_attributes(node)
        if asked:
            await self._settle(node)
        return self._stat(node)

    async def readlink(self, ino: int) -> bytes:
        """A symlink's target."""
        node = self._file(ino)
        if node.target is None:
            if node.size_bytes > SYMLINK_MAX_BYTES:
                raise OSError(errno.EIO, "no symlink is so long")
            node.target = await self._contents.read(node, self._contents.new_stream(), 0, node.size_bytes)
        return node.target

    # -- directories --------------------------------------------------------------------------------

    async def opendir(self, ino: int) -> int:
        """Open a directory: its names are those of now."""
        node = self._directory(ino)
        await self._directories.ensure_listed(node, walking=True)
        await self._directories.expiring.expire_in(node)
        names = sorted(node.children, key=lambda name: _order(name, node.children[name]))
        node.order = names
        node.handles += 1
        return self._handles.add(DirectoryHandle(node=node, names=names))

    def readdir(self, handle: int, start: int) -> Iterator[tuple[int, str, Stat]]:
        """Entries from a position on: (next position, name, stat; mode 0 where the type is not proven).

        The caller calls `remember` for each entry that it hands to the kernel.
        """
        opened = self._handles.get(handle, DirectoryHandle)
        directory = opened.node
        if start < 1:
            yield 1, ".", self._stat(directory)
        if start < 2:
            yield 2, "..", self._stat(directory.parent or directory)
        for position in range(max(0, start - 2), len(opened.names)):
            name = opened.names[position]
            node = directory.children.get(name)
            if node is not None:
                yield position + 3, name, self._stat(node)

    def remember(self, ino: int) -> None:
        """The kernel took a reference to an entry of a listing."""
        node = self._tree.nodes.get(ino)
        if node is not None:
            node.lookups += 1

    def releasedir(self, handle: int) -> None:
        """Close a directory."""
        opened = self._handles.remove(handle, DirectoryHandle)
        opened.node.handles -= 1
        self._directories.prover.released(opened.node)

    async def mkdir(self, parent_ino: int, name: bytes, mode: int, caller: Caller) -> Stat:
        """Make a directory."""
        parent, text = await self._vacant(parent_ino, name)
        attributes = self._new_attributes(parent, stat.S_IFDIR | stat.S_IMODE(mode), caller)
        node = self._tree.new_directory(text, attributes)
        self._changes.mkdir(parent, text, node)
        await self._settle(node)
        node.lookups += 1
        return self._stat(node)

    async def rmdir(self, parent_ino: int, name: bytes) -> None:
        """Remove an empty directory."""
        node = await self._existing(self._directory(parent_ino), name)
        if not isinstance(node, DirectoryNode):
            raise OSError(errno.ENOTDIR, "not a directory")
        await self._check_empty(node)
        await self._settle_removal(self._changes.rmdir(node))

    # -- files --------------------------------------------------------------------------------------

    async def create(
        self, parent_ino: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Stat, int]:
        """Make a file and open it; an existing one is opened unless O_EXCL is among the flags."""
        parent = self._directory(parent_ino)
        existing = await self._child(parent, name)
        if existing is not None:
            if flags & os.O_EXCL:
                raise OSError(errno.EEXIST, "exists")
            handle = await self.open(existing.ino, flags)
            existing.lookups += 1
            return self._stat(existing), handle
        mode = stat.S_IFREG | stat.S_IMODE(mode)
        if flags & os.O_EXCL and self._settings.write_mode == "through":
            node = await self._claim(parent, name, mode, caller)
        else:
            node = await self._make(parent, name, mode, caller, held=True)
        node.lookups += 1
        return self._stat(node), self._open_handle(node, flags)

    async def mknod(self, parent_ino: int, name: bytes, mode: int, caller: Caller) -> Stat:
        """Make a file, FIFO or socket without opening it."""
        if stat.S_IFMT(mode) not in MAKEABLE:
            raise OSError(errno.EPERM, "devices cannot be made here")
        parent, _ = await self._vacant(parent_ino, name)
        node = await self._make(parent, name, mode, caller, held=False)
        await self._settle(node)
        node.lookups += 1
        return self._stat(node)

    async def symlink(self, parent_ino: int, name: bytes, target: bytes, caller: Caller) -> Stat:
        """Make a symlink."""
        if len(target) > SYMLINK_MAX_BYTES:
            raise OSError(errno.ENAMETOOLONG, "target too long")
        parent, text = await self._vacant(parent_ino, name)
        attributes = self._new_attributes(parent, stat.S_IFLNK | 0o777, caller)
        node = self._tree.new_file(text, attributes)
        node.target = target
        self._changes.create(parent, text, node, held=False)
        await self._settle(node)
        node.lookups += 1
        return self._stat(node)

    async def open(self, ino: int, flags: int) -> int:
        """Open a file; O_TRUNC arrives here and nowhere else."""
        node = self._current(ino)
        if not isinstance(node, FileNode):
            raise OSError(errno.EISDIR, "a directory")
        if flags & os.O_TRUNC and flags & os.O_ACCMODE != os.O_RDONLY:
            node.writers += 1
            try:
                await self._truncate(node, 0)
            finally:
                node.writers -= 1
        return self._open_handle(node, flags)

    async def read(self, handle: int, offset: int, length: int) -> bytes:
        """Bytes of an open file; short only at its end."""
        opened = self._handles.get(handle, FileHandle)
        return await self._contents.read(opened.node, opened.stream, offset, length)

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        """Stage bytes; all of them, or an error and none."""
        node = self._handles.get(handle, FileHandle).node
        async with node.exclusively():
            self._changes.hold(node)
            await self._contents.write(node, offset, data)
            self._changes.wrote(node)
        return len(data)

    async def flush(self, handle: int) -> None:
        """A descriptor is closed: what was written is journaled, and in the store in write-through mode."""
        node = self._handles.get(handle, FileHandle).node
        async with node.exclusively():
            operation = self._changes.commit(node)
        if operation is not None and node.layers and not node.layers[0].complete:
            self._nursery.start_soon(self._complete, node)
        await self._settle(node)

    async def fsync(self, handle: int) -> None:
        """Everything written to the file survives power loss."""
        node = self._handles.get(handle, FileHandle).node
        async with node.exclusively():
            await self._durability.sync_file(node)
        if self._settings.fsync == "remote":
            await self._stored([operation for operation in node.pending() if not operation.held])

    async def fsyncdir(self, handle: int | None = None) -> None:
        """All changes of names and attributes survive power loss; those in this directory reach the store."""
        await self._durability.sync_journal()
        if self._settings.fsync == "remote" and handle is not None:
            path = self._handles.get(handle, DirectoryHandle).node.path
            await self._stored([one for one in self._uploader.ledger if one.is_in(path) and not one.held])

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

    async def unlink(self, parent_ino: int, name: bytes) -> None:
        """Remove a file."""
        node = await self._existing(self._directory(parent_ino), name)
        if not isinstance(node, FileNode):
            raise OSError(errno.EISDIR, "a directory")
        await self._settle_removal(self._changes.unlink(node))

    async def rename(
        self, parent_ino: int, name: bytes, new_parent_ino: int, new_name: bytes, flags: int
    ) -> None:
        """Give a file or directory another name, replacing a file or an empty directory there."""
        if flags & ~RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "only RENAME_NOREPLACE is known")
        text = check_new_name(new_name)
        parent, new_parent = self._directory(parent_ino), self._directory(new_parent_ino)
        self._check_reserved(new_parent, text)
        node = await self._existing(parent, name)
        target = await self._child(new_parent, new_name)
        if target is node:
            return
        if target is not None and flags & RENAME_NOREPLACE:
            raise OSError(errno.EEXIST, "exists")
        if isinstance(node, DirectoryNode):
            if target is not None and not isinstance(target, DirectoryNode):
                raise OSError(errno.ENOTDIR, "the target is no directory")
            if target is not None:
                await self._check_empty(target)
            self._check_place(node, new_parent, text, target)
            if not self._store.capabilities.listing_consistent and not node.local:
                raise OSError(errno.EXDEV, "the store's listings may lack what is to be moved")
            self._changes.rename_directory(node, new_parent, text, target)
        elif isinstance(node, FileNode):
            if isinstance(target, DirectoryNode):
                raise OSError(errno.EISDIR, "the target is a directory")
            self._check_place(node, new_parent, text, target)
            self._changes.rename_file(
                node, new_parent, text, target if isinstance(target, FileNode) else None
            )
        await self._settle(node)

    # -- extended attributes ------------------------------------------------------------------------

    async def getxattr(self, ino: int, name: str) -> bytes:
        """One extended attribute."""
        _check_xattr(name)
        if name == STATUS_XATTR:
            return await self.inspection.as_text(self._current(ino))
        if name.startswith(XATTR_PREFIX):
            own = self._current(ino)
            found = xattr_value(own, name) if isinstance(own, FileNode) else None
            if found is None:
                raise OSError(errno.ENODATA, "not set")
            return found
        value = self._current(ino).attributes.xattrs.get(name)
        if value is None:
            raise OSError(errno.ENODATA, "no such attribute")
        return value

    async def listxattr(self, ino: int) -> list[str]:
        """Names of all extended attributes."""
        return sorted(self._current(ino).attributes.xattrs)

    async def setxattr(self, ino: int, name: str, value: bytes) -> None:
        """Set one extended attribute; ENOSPC where the store could not hold it."""
        _check_xattr(name)
        node = self._current(ino)
        if name.startswith(XATTR_PREFIX):
            await self._set_by_xattr(node, name, os.fsdecode(value))
            return
        with self._changes.or_as_before(node):
            node.attributes.xattrs[name] = value
            self._changes.check_metadata(node)
            node.attributes.touch(content=False)
            self._changes.set_attributes(node)

    async def removexattr(self, ino: int, name: str) -> None:
        """Remove one extended attribute."""
        node = self._current(ino)
        if name.startswith(XATTR_PREFIX):
            if not isinstance(node, FileNode) or xattr_value(node, name) is None:
                raise OSError(errno.ENODATA, "not set")
            await self._set_by_xattr(node, name, "")
            return
        with self._changes.or_as_before(node):
            if node.attributes.xattrs.pop(name, None) is None:
                raise OSError(errno.ENODATA, "no such attribute")
            node.attributes.touch(content=False)
            self._changes.set_attributes(node)

    async def _set_by_xattr(self, node: Node, name: str, text: str) -> None:
        key = name.removeprefix(XATTR_PREFIX)
        try:
            value = parse_value(key, text)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from error
        await self._set_treatment(node, {key: value})

    # -- the whole ----------------------------------------------------------------------------------

    def warmer(self, blocks: BlockCache) -> Warmer:
        """What fills the disk cache ahead of need."""
        return Warmer(self._tree, self._directories, self._reader, blocks)

    def set_metadata_ttl(self, ttl_s: float) -> None:
        """How long names and attributes are believed, from now on."""
        self._settings = replace(self._settings, metadata_ttl_s=ttl_s)
        self._directories.freshness.ttl_s = ttl_s

    def statfs(self) -> Space:
        """A bucket has no limit that could be asked for; the staging budget is what a writer may meet."""
        return Space(total_bytes=SPACE_BYTES, free_bytes=SPACE_BYTES, files=FILES, free_files=FILES)

    async def commit_everything(self) -> None:
        """Journal and sync what open files were written, before the mount goes."""
        for node in list(self._changes.dirty):
            async with node.exclusively():
                self._changes.commit(node)
        await self._durability.sync_everything()
        await self._durability.sync_journal()

    async def start(self) -> None:
        """Lay the journal over the tree, and learn the root's attributes."""
        ledger = self._uploader.ledger
        ledger.restore(load_operations(ledger.journal, self._staging))
        replay(ledger, self._tree, self._changes, self._settings.defaults)
        self._uploader.observer = self._changes
        root = self._tree.root
        root.proven = True
        if root.pending():
            return
        try:
            info = await self._store.head(ROOT_MARKER_KEY)
        except NotFoundError:
            return
        except ObjectStoreError as error:
            log.warning("the root's own attributes are not known: %s", error)
            return
        root.attributes = decode(info, self._settings.defaults, directory=True)

    async def run(self) -> None:
        """Background work of the file system, until cancelled."""
        self._nursery.start_soon(self._durability.run, self._settings.sync_every_s)
        self._nursery.start_soon(self._disk.run)
        while True:
            await trio.sleep(PRUNE_EVERY_S)
            await prune(self._tree, older_than=trio.current_time() - self._settings.metadata_ttl_s)

    # -- parts --------------------------------------------------------------------------------------

    def _node(self, ino: int) -> Node:
        node = self._tree.nodes.get(ino)
        if node is None:
            raise OSError(errno.ESTALE, "no such inode")
        return node

    def _current(self, ino: int) -> Node:
        """The inode, unless somebody else's version took its name and nobody has it open."""
        node = self._node(ino)
        if isinstance(node, FileNode) and node.superseded and not node.handles:
            raise OSError(errno.ESTALE, "superseded")
        return node

    def _directory(self, ino: int) -> DirectoryNode:
        node = self._node(ino)
        if not isinstance(node, DirectoryNode):
            raise OSError(errno.ENOTDIR, "not a directory")
        return node

    def _file(self, ino: int) -> FileNode:
        node = self._current(ino)
        if not isinstance(node, FileNode):
            raise OSError(errno.EINVAL, "not a file")
        return node

    async def _child(self, parent: DirectoryNode, name: bytes) -> Node | None:
        if len(name) > 255:
            raise OSError(errno.ENAMETOOLONG, "name too long")
        text = decode_name(name)
        return await self._directories.lookup(parent, text) if text is not None else None

    async def _existing(self, parent: DirectoryNode, name: bytes) -> Node:
        node = await self._child(parent, name)
        if node is None:
            raise OSError(errno.ENOENT, "no such file or directory")
        return node

    async def _vacant(self, parent_ino: int, name: bytes) -> tuple[DirectoryNode, str]:
        """A directory and a name in it that does not exist and may."""
        parent, text = self._directory(parent_ino), check_new_name(name)
        if await self._child(parent, name) is not None:
            raise OSError(errno.EEXIST, "exists")
        self._check_new(parent, text)
        return parent, text

    def _check_new(self, parent: DirectoryNode, name: str) -> None:
        self._check_reserved(parent, name)
        if name in parent.children:
            raise OSError(errno.EEXIST, "exists")
        if parent.parent is None and parent is not self._tree.root:
            raise OSError(errno.ENOENT, "the directory was removed")
        if len(f"{parent.path}/{name}/".encode()) > self._store.capabilities.max_key_bytes:
            raise OSError(errno.ENAMETOOLONG, "the key would be longer than the store can hold")

    def _check_reserved(self, parent: DirectoryNode, name: str) -> None:
        if parent is self._tree.root and name == RESERVED_ROOT:
            raise OSError(errno.EPERM, f"{RESERVED_ROOT} is the mount's own")

    def _check_place(self, node: Node, parent: DirectoryNode, name: str, target: Node | None) -> None:
        """The world may have changed since the names were looked up."""
        if node.parent is None or parent.children.get(name) is not target:
            raise OSError(errno.ESTALE, "the names changed meanwhile")
        if parent.parent is None and parent is not self._tree.root:
            raise OSError(errno.ENOENT, "the directory was removed")
        above: Node | None = parent
        while above is not None:
            if above is node:
                raise OSError(errno.EINVAL, "a directory cannot move into itself")
            above = above.parent
        if len(f"{parent.path}/{name}/".encode()) > self._store.capabilities.max_key_bytes:
            raise OSError(errno.ENAMETOOLONG, "the key would be longer than the store can hold")

    async def _check_empty(self, node: DirectoryNode) -> None:
        await self._directories.ensure_listed(node)
        await self._directories.expiring.expire_in(node)
        if node.children or node.hidden:
            raise OSError(errno.ENOTEMPTY, "not empty")

    async def _make(
        self, parent: DirectoryNode, name: bytes, mode: int, caller: Caller, *, held: bool
    ) -> FileNode:
        text = check_new_name(name)
        self._check_new(parent, text)
        node = self._tree.new_file(text, self._new_attributes(parent, mode, caller))
        self._contents.writable(node)
        self._changes.create(parent, text, node, held=held)
        return node

    async def _claim(self, parent: DirectoryNode, name: bytes, mode: int, caller: Caller) -> FileNode:
        """Make a file in the store before anybody is told; of two mounts that try, one succeeds."""
        text = check_new_name(name)
        self._check_new(parent, text)
        node = self._tree.new_file(text, self._new_attributes(parent, mode, caller))
        try:
            node.version = await self._uploader.claim(
                f"{parent.path}/{text}".lstrip("/"), encode(node.attributes, text), parent.free_base(text)
            )
            self._check_new(parent, text)
        except BaseException as error:
            self._tree.drop_if_unused(node)
            self._directories.forget(parent)
            if isinstance(error, PreconditionFailedError):
                raise OSError(errno.EEXIST, "somebody made it first") from error
            raise
        self._changes.claimed(parent, text, node)
        return node

    def _new_attributes(self, parent: DirectoryNode, mode: int, caller: Caller) -> Attributes:
        gid = caller.gid
        if parent.attributes.mode & stat.S_ISGID:
            gid = parent.attributes.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        return fresh_attributes(mode, caller.uid, gid)

    def _open_handle(self, node: FileNode, flags: int) -> int:
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        if not writable:
            self._note_read(node)
        node.handles += 1
        node.writers += writable
        return self._handles.add(FileHandle(node=node, stream=self._contents.new_stream(), writable=writable))

    def _note_read(self, node: FileNode) -> None:
        """Put off the expiry of a file that is opened for reading, where reads count: at most once a day."""
        if self._settings.read_only or node.parent is None or node.superseded or node.pending():
            return
        if renew(node.attributes, time.time()):
            self._changes.set_attributes(node)

    async def set_treatment(self, path: str, values: Mapping[str, object]) -> None:
        """Override the rules for one file; "" takes an override back.

        Raises:
            OSError: there is no such file, or a value is wrong.
        """
        node = await self.inspection.find(path)
        if node is None:
            raise OSError(errno.ENOENT, "no such file or directory")
        await self._set_treatment(node, values)

    async def _set_treatment(self, node: Node, values: Mapping[str, object]) -> None:
        if not isinstance(node, FileNode) or not stat.S_ISREG(node.attributes.mode):
            raise OSError(errno.EINVAL, "only plain files are stored by rules")
        if self._settings.read_only:
            raise OSError(errno.EROFS, "the mount is read-only")
        wanted = wanted_attributes(node, values, self._settings.rules, time.time_ns())
        if {"storage_class", "encryption"} & set(values):
            await check_honoured(self._store, wanted)
            wanted = wanted_attributes(node, values, self._settings.rules, time.time_ns())
        before, node.attributes = node.attributes, wanted
        try:
            self._changes.check_metadata(node)
        except OSError:
            node.attributes = before
            raise
        node.attributes.touch(content=False)
        self._changes.set_attributes(node)

    async def _truncate(self, node: FileNode, length: int) -> None:
        async with node.exclusively():
            if length == node.size_bytes:
                node.attributes.touch(content=True)
                self._changes.set_attributes(node)
                return
            self._changes.hold(node)
            layer = self._contents.truncate(node, length)
            self._changes.wrote(node)
            self._changes.commit(node, held=node.writers > 0)
            if layer.durable is not None:  # what fsync promised is cut off only once that is durable, too
                await self._durability.sync_journal()
            layer.trim()
        if not node.writers:
            await self._settle(node)

    async def _settle(self, node: Node) -> None:
        """In write-through mode, wait until the store has the node's changes."""
        if self._settings.write_mode == "back":
            return
        await self._stored([operation for operation in node.pending() if not operation.held])

    async def _settle_removal(self, operation: Operation | None) -> None:
        """In write-through mode, wait until the store has removed it too."""
        if self._settings.write_mode == "through" and operation is not None:
            await self._stored([operation])

    async def _stored(self, operations: list[Operation]) -> None:
        """Wait until the store has these, as long as it takes while the store answers."""
        for operation in operations:
            while operation.state is not State.DONE:
                with trio.move_on_after(self._settings.store_timeout_s) as scope:
                    await self._uploader.settle(operation)
                status = self._uploader.status()
                if scope.cancelled_caught and status.offline_since_s is not None:
                    raise UnavailableError(status.last_error or "no answer", key=operation.path)

    async def _complete(self, node: FileNode) -> None:
        try:
            if await self._contents.complete(node):
                self._changes.completed(node)
        except (OSError, ObjfsError, ExceptionGroup) as error:
            log.debug("the base of a changed file was not kept: %s", error)

    def _retire(self, node: FileNode, staged: StagedFile) -> None:
        """An uploaded staged file has served; its bytes go into the block cache."""
        version = node.version
        if version is None or staged.length > KEEP_BYTES or not staged.complete:
            staged.discard()
            return
        self._nursery.start_soon(self._keep, object_id(node), version, staged)

    async def _keep(self, name: str, version: Version, staged: StagedFile) -> None:
        try:
            for start in range(0, staged.length, MIB):
                length = min(MIB, staged.length - start)
                data = await trio.to_thread.run_sync(staged.read, start, length)
                self._reader.insert(name, version, start, data)
        except OSError as error:
            log.warning("an uploaded file could not be kept in the cache: %s", error)
        finally:
            staged.discard()

    def _stat(self, node: Node) -> Stat:
        attributes = node.attributes
        unlinked = node.parent is None and node is not self._tree.root
        return Stat(
            ino=node.ino,
            mode=attributes.mode if node.proven else 0,
            nlink=0 if unlinked and not (isinstance(node, FileNode) and node.superseded) else 1,
            uid=attributes.uid,
            gid=attributes.gid,
            size_bytes=node.size_bytes if isinstance(node, FileNode) else 0,
            atime_ns=attributes.atime_ns,
            mtime_ns=attributes.mtime_ns,
            ctime_ns=attributes.ctime_ns,
            timeout_s=self._directories.freshness.timeout_s(node),
        )


def _order(name: str, node: Node) -> bytes:
    """Key order, as the store lists: a directory sorts with its slash."""
    return f"{name}/".encode() if isinstance(node, DirectoryNode) else name.encode()


def _check_xattr(name: str) -> None:
    """Refuse access lists: who sets one expects that it changes the mode (acl(5)), and then sets no mode."""
    if name.startswith("system."):
        raise OSError(errno.ENOTSUP, "there are no access lists")


def _apply(attributes: Attributes, wanted: SetAttributes) -> bool:
    """Put what is wanted into the attributes; returns whether anything is to be stored."""
    asked = False
    if wanted.mode is not None:
        attributes.mode = stat.S_IFMT(attributes.mode) | stat.S_IMODE(wanted.mode)
        asked = True
    for name in ("uid", "gid", "atime_ns", "mtime_ns"):
        value = getattr(wanted, name)
        if value is not None:
            setattr(attributes, name, value)
            asked = True
    if asked:
        attributes.touch(content=False)
    return asked


@asynccontextmanager
async def open_filesystem(
    store: AsyncObjectStore,
    reader: Reader,
    uploader: Uploader,
    staging: Staging,
    blocks: BlockCache | None,
    settings: VfsSettings,
    kernel: Kernel,
) -> AsyncIterator[FileSystem]:
    """A file system for the life of the block, with the journal of earlier lives laid over it."""
    async with trio.open_nursery() as nursery:
        filesystem = FileSystem(store, reader, uploader, staging, blocks, settings, kernel, nursery)
        await filesystem.start()
        nursery.start_soon(filesystem.run)
        yield filesystem
        nursery.cancel_scope.cancel()
