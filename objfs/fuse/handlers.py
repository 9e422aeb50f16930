"""The kernel's requests, one handler each: translate, delegate, translate back."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pyfuse3
import trio

from objfs.fuse.errnos import replies_errno
from objfs.vfs.values import Caller, SetAttributes, Stat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import (
        EntryAttributes,
        FileHandleT,
        FileInfo,
        FileNameT,
        FlagT,
        InodeT,
        ModeT,
        ReaddirToken,
        RequestContext,
        SetattrFields,
        StatvfsData,
        XAttrNameT,
    )

    from objfs.observe.operations import Operations
    from objfs.vfs.filesystem import FileSystem

BLOCK_BYTES = 4096  # what df counts in
PREFERRED_BYTES = 1 << 20  # st_blksize: programs that look at it read and write in such pieces


class Handlers(pyfuse3.Operations):
    """All requests of one mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False  # fuse-facts: torn files, late errors

    def __init__(
        self,
        filesystem: FileSystem,
        operations: Operations,
        *,
        xattrs: bool,
        deadline_s: float,
        direct_writes: bool,
    ) -> None:
        super().__init__()
        self._fs = filesystem
        self.operations = operations
        self._xattrs = xattrs
        self._deadline_s = deadline_s
        self._direct_writes = direct_writes

    # -- names --------------------------------------------------------------------------------------

    @replies_errno
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        with trio.fail_after(self._deadline_s):
            found = await self._fs.lookup(parent_inode, name)
        if found is not None:
            return _entry(found)
        missing = pyfuse3.EntryAttributes()
        missing.st_ino = pyfuse3.InodeT(0)
        missing.entry_timeout = self._fs.negative_timeout_s(parent_inode, name)
        return missing

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for inode, count in inode_list:
            self._fs.forget(inode, count)

    @replies_errno
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        with trio.fail_after(self._deadline_s):
            return _entry(await self._fs.getattr(inode))

    @replies_errno
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        wanted = SetAttributes(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size_bytes=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return _entry(await self._fs.setattr(inode, wanted))

    @replies_errno
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        with trio.fail_after(self._deadline_s):
            return pyfuse3.FileNameT(await self._fs.readlink(inode))

    @replies_errno
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._fs.symlink(parent_inode, name, target, _caller(ctx)))

    @replies_errno
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        raise pyfuse3.FUSEError(errno.EPERM)  # link(2): the file system has no hard links

    @replies_errno
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._fs.unlink(parent_inode, name)

    @replies_errno
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        await self._fs.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    # -- directories --------------------------------------------------------------------------------

    @replies_errno
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._fs.mkdir(parent_inode, name, mode, _caller(ctx)))

    @replies_errno
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        await self._fs.rmdir(parent_inode, name)

    @replies_errno
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        with trio.fail_after(self._deadline_s):
            return pyfuse3.FileHandleT(await self._fs.streams.open(inode))

    @replies_errno
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        with trio.fail_after(self._deadline_s):
            await self._fs.streams.begin(fh, start_id)
        for position, name, found in self._fs.streams.read(fh, start_id):
            if not pyfuse3.readdir_reply(
                token, pyfuse3.FileNameT(os.fsencode(name)), _entry(found), position
            ):
                return
            if position > 2:
                self._fs.remember(found.ino)

    @replies_errno
    async def releasedir(self, fh: FileHandleT) -> None:
        self._fs.streams.close(fh)

    @replies_errno
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        await self._fs.streams.sync(fh)

    # -- files --------------------------------------------------------------------------------------

    @replies_errno
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        with trio.fail_after(self._deadline_s):
            handle = await self._fs.open(inode, flags)
        return self._opened(handle, flags)

    @replies_errno
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        with trio.fail_after(self._deadline_s):
            found, handle = await self._fs.create(parent_inode, name, mode, flags, _caller(ctx))
        return self._opened(handle, flags), _entry(found)

    @replies_errno
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return _entry(await self._fs.mknod(parent_inode, name, mode, _caller(ctx)))

    @replies_errno
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        with trio.fail_after(self._deadline_s):
            return await self._fs.files.read(fh, off, size)

    @replies_errno
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return await self._fs.files.write(fh, off, buf)

    @replies_errno
    async def flush(self, fh: FileHandleT) -> None:
        await self._fs.files.flush(fh)

    @replies_errno
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self._fs.files.fsync(fh)

    @replies_errno
    async def release(self, fh: FileHandleT) -> None:
        await self._fs.files.release(fh)

    # -- extended attributes: one ENOSYS ends them, and their cost, for the life of the mount -------

    @replies_errno
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        self._need_xattrs()
        return await self._fs.xattrs.get(inode, os.fsdecode(name))

    @replies_errno
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        self._need_xattrs()
        await self._fs.xattrs.set(inode, os.fsdecode(name), value)

    @replies_errno
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        self._need_xattrs()
        return [pyfuse3.XAttrNameT(os.fsencode(name)) for name in await self._fs.xattrs.names(inode)]

    @replies_errno
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        self._need_xattrs()
        await self._fs.xattrs.remove(inode, os.fsdecode(name))

    # -- the whole ----------------------------------------------------------------------------------

    @replies_errno
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        space = self._fs.statfs()
        reply = pyfuse3.StatvfsData()
        reply.f_bsize = PREFERRED_BYTES
        reply.f_frsize = BLOCK_BYTES
        reply.f_blocks = space.total_bytes // BLOCK_BYTES
        reply.f_bfree = reply.f_bavail = space.free_bytes // BLOCK_BYTES
        reply.f_files = space.files
        reply.f_ffree = reply.f_favail = space.free_files
        reply.f_namemax = 255
        return reply

    def _opened(self, handle: int, flags: int) -> FileInfo:
        """The page cache lives on across opens, but what can only be written does not pass through it.

        Such a descriptor can neither be read nor mapped, and the pages would be dropped with the file's new
        time anyway: without them a large write takes a quarter of the time. But only on its way through the
        page cache does an ordinary user's write take the set-user-ID bit away.
        """
        write_only = flags & os.O_ACCMODE == os.O_WRONLY
        return pyfuse3.FileInfo(
            fh=pyfuse3.FileHandleT(handle),
            keep_cache=True,
            direct_io=write_only and self._direct_writes and not self._fs.files.is_set_id(handle),
        )

    def _need_xattrs(self) -> None:
        if not self._xattrs:
            raise pyfuse3.FUSEError(errno.ENOSYS)


def _caller(ctx: RequestContext) -> Caller:
    return Caller(uid=ctx.uid, gid=ctx.gid)


def _entry(found: Stat) -> EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(found.ino)
    entry.st_mode = pyfuse3.ModeT(found.mode)
    entry.st_nlink = found.nlink
    entry.st_uid = found.uid
    entry.st_gid = found.gid
    entry.st_size = found.size_bytes
    entry.st_blksize = PREFERRED_BYTES
    entry.st_blocks = -(-found.size_bytes // 512)
    entry.st_atime_ns = found.atime_ns
    entry.st_mtime_ns = found.mtime_ns
    entry.st_ctime_ns = found.ctime_ns
    entry.entry_timeout = found.timeout_s
    entry.attr_timeout = found.timeout_s
    return entry
