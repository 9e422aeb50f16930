"""The file system: what programs ask for, in plain values.

Every method raises OSError with the errno that ext4 would give, StaleVersionError, or an error of the store.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from objfs.errors import NotFoundError
from objfs.upload.operations import ROOT_MARKER_KEY
from objfs.upload.uploader import load_operations
from objfs.vfs.adoption import Adoption
from objfs.vfs.attributes import default_attributes
from objfs.vfs.changes import Changes
from objfs.vfs.content import Contents, is_regular
from objfs.vfs.directories import Directories
from objfs.vfs.disk import DiskShare
from objfs.vfs.durability import Durability
from objfs.vfs.files import Files
from objfs.vfs.handles import Handles
from objfs.vfs.inspection import Inspection
from objfs.vfs.last_known import AWAY_S
from objfs.vfs.making import Maker
from objfs.vfs.names import check_new_name
from objfs.vfs.nodes import NEVER, DirectoryNode, FileNode
from objfs.vfs.owners import Owners
from objfs.vfs.places import Places
from objfs.vfs.pruning import prune
from objfs.vfs.replay import replay
from objfs.vfs.retiring import Retirement
from objfs.vfs.settling import Settling
from objfs.vfs.streams import DirectoryStreams
from objfs.vfs.treatment import Treatment
from objfs.vfs.tree import Tree
from objfs.vfs.values import Space
from objfs.vfs.warming import Warmer
from objfs.vfs.xattrs import Xattrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from objfs.read.reader import Reader
    from objfs.store.protocol import AsyncObjectStore
    from objfs.upload.uploader import Uploader
    from objfs.vfs.mirror import Kernel
    from objfs.vfs.values import Caller, SetAttributes, Stat, VfsSettings
    from objfs_cache.blocks import BlockCache
    from objfs_cache.metadata import MetadataCache
    from objfs_cache.staging import Staging

log = logging.getLogger(__name__)

SYMLINK_MAX_BYTES = 4095  # PATH_MAX without its NUL (limits.h)
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
        metadata: MetadataCache | None,
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
        self._contents = Contents(reader, staging, is_stuck=uploader.ledger.is_stuck)
        self._handles = Handles()
        self._owners = Owners(self._tree, uploader.ledger, self._contents)
        self._changes = Changes(
            self._tree,
            uploader.ledger,
            self._owners,
            max_metadata_bytes=store.capabilities.max_metadata_bytes,
            rules=settings.rules,
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
            metadata=metadata,
        )
        self._adoption = Adoption(
            self._tree,
            uploader.ledger,
            self._owners,
            self._contents,
            kernel=kernel,
            retire=Retirement(reader, nursery).retire,
            supersede=self._directories.mirror.supersede,
        )
        self._freshness = self._directories.freshness
        self._places = Places(self._tree, self._directories, max_key_bytes=store.capabilities.max_key_bytes)
        self._maker = Maker(
            self._tree, self._places, self._directories, self._contents, self._changes, uploader
        )
        self._settling = Settling(uploader, self._owners, self._changes, settings)
        self._durability = Durability(uploader.ledger, self._changes, staging.path)
        self.inspection = Inspection(self._tree, self._directories, reader, blocks, store, settings.rules)
        self.treatment = Treatment(store, self._changes, self.inspection, settings)
        self.xattrs = Xattrs(self._places, self._changes, self.inspection, self.treatment)
        self.streams = DirectoryStreams(
            self._handles, self._places, self._directories, self._durability, self._settling
        )
        self.files = Files(
            self._tree,
            self._handles,
            self._contents,
            self._disk,
            self._changes,
            self._durability,
            self._settling,
            self.treatment,
            settings,
            nursery,
        )

    # -- names --------------------------------------------------------------------------------------

    async def lookup(self, parent_ino: int, name: bytes) -> Stat | None:
        """The entry of that name, or None; counts a reference of the kernel."""
        parent = self._places.directory(parent_ino)
        node = await self._places.child(parent, name)
        if node is None:
            return None
        node.lookups += 1
        return self._freshness.stat(node)

    def negative_timeout_s(self, parent_ino: int, name: bytes) -> float:
        """How long the kernel may believe that a name does not exist."""
        return self._freshness.absent_timeout_s(
            self._places.directory(parent_ino), name.decode(errors="replace")
        )

    def remember(self, ino: int) -> None:
        """The kernel took a reference to an entry of a listing."""
        node = self._tree.nodes.get(ino)
        if node is not None:
            node.lookups += 1

    def forget(self, ino: int, lookups: int) -> None:
        """The kernel gave references back."""
        node = self._tree.nodes.get(ino)
        if node is not None:
            node.lookups -= lookups
            self._tree.drop_if_unused(node)

    async def getattr(self, ino: int) -> Stat:
        """Attributes, fresh."""
        node = self._places.node(ino)
        parent = node.parent
        if parent is not None and not (node.proven and self._freshness.is_fresh(node)):
            await self._directories.lookup(parent, node.name)
        if isinstance(node, FileNode) and node.superseded and not node.handles:
            raise OSError(errno.ESTALE, "superseded")
        return self._freshness.stat(node)

    async def setattr(self, ino: int, wanted: SetAttributes) -> Stat:
        """chmod, chown, truncate, utimens."""
        node = await self._places.looked_at(ino)
        if wanted.size_bytes is not None:
            if not isinstance(node, FileNode):
                raise OSError(errno.EISDIR, "a directory has no length")
            await self.files.truncate(node, wanted.size_bytes)
        with self._changes.or_as_before(node):
            asked = node.attributes.apply(wanted)
            if asked:
                self._changes.set_attributes(node)
        if asked:
            await self._settling.node(node)
        return self._freshness.stat(node)

    async def readlink(self, ino: int) -> bytes:
        """A symlink's target."""
        node = self._places.file(ino)
        if node.target is None:
            if node.size_bytes > SYMLINK_MAX_BYTES:
                raise OSError(errno.EIO, "no symlink is so long")
            node.target = await self._contents.read(node, self._contents.new_stream(), 0, node.size_bytes)
        return node.target

    # -- directories --------------------------------------------------------------------------------

    async def mkdir(self, parent_ino: int, name: bytes, mode: int, caller: Caller) -> Stat:
        """Make a directory."""
        parent, text = await self._places.vacant(parent_ino, name)
        attributes = self._maker.new_attributes(parent, stat.S_IFDIR | stat.S_IMODE(mode), caller)
        node = self._tree.new_directory(text, attributes)
        self._changes.mkdir(parent, text, node)
        await self._settling.node(node)
        node.lookups += 1
        return self._freshness.stat(node)

    async def rmdir(self, parent_ino: int, name: bytes) -> None:
        """Remove an empty directory."""
        node = await self._places.existing(self._places.directory(parent_ino), name)
        if not isinstance(node, DirectoryNode):
            raise OSError(errno.ENOTDIR, "not a directory")
        await self._places.check_empty(node)
        await self._settling.removal(self._changes.rmdir(node))

    # -- files --------------------------------------------------------------------------------------

    async def create(
        self, parent_ino: int, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Stat, int]:
        """Make a file and open it; an existing one is opened unless O_EXCL is among the flags."""
        parent = self._places.directory(parent_ino)
        existing = await self._places.child(parent, name)
        if existing is not None:
            if flags & os.O_EXCL:
                raise OSError(errno.EEXIST, "exists")
            if isinstance(existing, FileNode) and not is_regular(existing):
                raise OSError(errno.ESTALE, "no file: the kernel has to look again, and follow a symlink")
            handle = await self.open(existing.ino, flags)
            existing.lookups += 1
            return self._freshness.stat(existing), handle
        mode = stat.S_IFREG | stat.S_IMODE(mode)
        if flags & os.O_EXCL and self._settings.write_mode == "through":
            node = await self._maker.claim(parent, name, mode, caller)
        else:
            node = await self._maker.make(parent, name, mode, caller, held=True)
        node.lookups += 1
        return self._freshness.stat(node), self.files.open(node, flags)

    async def mknod(self, parent_ino: int, name: bytes, mode: int, caller: Caller) -> Stat:
        """Make a file, FIFO or socket without opening it."""
        if stat.S_IFMT(mode) not in MAKEABLE:
            raise OSError(errno.EPERM, "devices cannot be made here")
        parent, _ = await self._places.vacant(parent_ino, name)
        node = await self._maker.make(parent, name, mode, caller, held=False)
        await self._settling.node(node)
        node.lookups += 1
        return self._freshness.stat(node)

    async def symlink(self, parent_ino: int, name: bytes, target: bytes, caller: Caller) -> Stat:
        """Make a symlink."""
        if len(target) > SYMLINK_MAX_BYTES:
            raise OSError(errno.ENAMETOOLONG, "target too long")
        parent, text = await self._places.vacant(parent_ino, name)
        attributes = self._maker.new_attributes(parent, stat.S_IFLNK | 0o777, caller)
        node = self._tree.new_file(text, attributes)
        node.target = target
        self._changes.create(parent, text, node, held=False)
        await self._settling.node(node)
        node.lookups += 1
        return self._freshness.stat(node)

    async def open(self, ino: int, flags: int) -> int:
        """Open a file; O_TRUNC arrives here and nowhere else."""
        node = self._places.current(ino)
        if not isinstance(node, FileNode):
            raise OSError(errno.EISDIR, "a directory")
        if flags & os.O_TRUNC:  # opened for reading, too: the kernel has seen that it may be cut
            node.writers += 1
            try:
                await self.files.truncate(node, 0)
            finally:
                node.writers -= 1
        return self.files.open(node, flags)

    async def unlink(self, parent_ino: int, name: bytes) -> None:
        """Remove a file."""
        node = await self._places.existing(self._places.directory(parent_ino), name)
        if not isinstance(node, FileNode):
            raise OSError(errno.EISDIR, "a directory")
        await self._settling.removal(self._changes.unlink(node))

    async def rename(
        self, parent_ino: int, name: bytes, new_parent_ino: int, new_name: bytes, flags: int
    ) -> None:
        """Give a file or directory another name, replacing a file or an empty directory there."""
        if flags & ~RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "only RENAME_NOREPLACE is known")
        text = check_new_name(new_name)
        parent, new_parent = self._places.directory(parent_ino), self._places.directory(new_parent_ino)
        self._places.check_reserved(new_parent, text)
        node = await self._places.existing(parent, name)
        target = await self._places.child(new_parent, new_name)
        if target is node:
            return
        if target is not None and flags & RENAME_NOREPLACE:
            raise OSError(errno.EEXIST, "exists")
        if isinstance(node, DirectoryNode):
            if target is not None and not isinstance(target, DirectoryNode):
                raise OSError(errno.ENOTDIR, "the target is no directory")
            if target is not None:
                await self._places.check_empty(target)
            await self._maker.claims_ended(node)
            self._places.check_place(node, new_parent, text, target)
            if not self._store.capabilities.listing_consistent and not node.local:
                raise OSError(errno.EXDEV, "the store's listings may lack what is to be moved")
            self._changes.rename_directory(node, new_parent, text, target)
        elif isinstance(node, FileNode):
            if isinstance(target, DirectoryNode):
                raise OSError(errno.EISDIR, "the target is a directory")
            self._places.check_place(node, new_parent, text, target)
            self._changes.rename_file(
                node, new_parent, text, target if isinstance(target, FileNode) else None
            )
        await self._settling.node(node)

    # -- the whole ----------------------------------------------------------------------------------

    def warmer(self, blocks: BlockCache) -> Warmer:
        """What fills the disk cache ahead of need."""
        return Warmer(self._tree, self._directories, self._reader, blocks)

    def set_metadata_ttl(self, ttl_s: float) -> None:
        """How long names and attributes are believed, from now on."""
        self._settings = replace(self._settings, metadata_ttl_s=ttl_s)
        self._freshness.ttl_s = ttl_s

    def statfs(self) -> Space:
        """A bucket has no limit that could be asked for; the staging budget is what a writer may meet."""
        return Space(total_bytes=SPACE_BYTES, free_bytes=SPACE_BYTES, files=FILES, free_files=FILES)

    async def commit_everything(self) -> None:
        """Journal and sync what open files were written. What the local disk refuses is told in the log."""
        for node in list(self._changes.open):
            async with node.exclusively():
                try:
                    self._changes.commit(node)
                except OSError as error:
                    log.error("%r: what was written lately cannot be journaled: %s", node.path, error)
        try:
            await self._durability.sync_everything()
            await self._durability.sync_journal()
        except OSError as error:
            log.error("staged data could not be made durable: %s", error)

    async def start(self) -> None:
        """Lay the journal over the tree, and learn the root's attributes."""
        ledger = self._uploader.ledger
        ledger.restore(load_operations(ledger.journal, self._staging))
        replay(ledger, self._tree, self._owners, self._adoption, self._settings.defaults)
        self._uploader.observer = self._adoption
        root = self._tree.root
        root.proven = True
        if root.pending() or await self._directories.last_known.or_stale(self._learn_root):
            return
        await self._directories.remembering.recall(root, "")
        if root.checked_at == NEVER:
            log.warning("the store does not answer: the root's own attributes are not known")
        self._nursery.start_soon(self._learn_root_later)

    async def _learn_root_later(self) -> None:
        """Nobody else asks for the root's attributes, however old they are."""
        while True:
            await trio.sleep(AWAY_S)
            if await self._directories.last_known.or_stale(self._learn_root):
                return

    async def _learn_root(self) -> None:
        root, begun_at = self._tree.root, trio.current_time()
        try:
            marker = await self._store.head(ROOT_MARKER_KEY)
        except NotFoundError:
            marker = None
        if not root.pending() and root.changed_at <= begun_at:
            root.proven = False
            self._directories.mirror.prove_directory(root, marker, begun_at)

    async def keep_known(self) -> None:
        """Have what is known of directories outlive the mount."""
        await self._directories.remembering.keep()

    async def run(self) -> None:
        """Background work of the file system, until cancelled."""
        self._nursery.start_soon(self._durability.run, self._settings.sync_every_s)
        self._nursery.start_soon(self._disk.run)
        self._nursery.start_soon(self._directories.remembering.run)
        while True:
            await trio.sleep(PRUNE_EVERY_S)
            await prune(self._tree, older_than=trio.current_time() - self._settings.metadata_ttl_s)


@asynccontextmanager
async def open_filesystem(
    store: AsyncObjectStore,
    reader: Reader,
    uploader: Uploader,
    staging: Staging,
    blocks: BlockCache | None,
    metadata: MetadataCache | None,
    settings: VfsSettings,
    kernel: Kernel,
) -> AsyncIterator[FileSystem]:
    """A file system for the life of the block, with the journal of earlier lives laid over it."""
    async with trio.open_nursery() as nursery:
        filesystem = FileSystem(store, reader, uploader, staging, blocks, metadata, settings, kernel, nursery)
        await filesystem.start()
        nursery.start_soon(filesystem.run)
        yield filesystem
        await filesystem.keep_known()
        nursery.cancel_scope.cancel()
