"""A kernel in small: turns operations on paths into calls of the file system, as Linux would."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.errors import ObjectStoreError, StaleVersionError, first_error
from objfs.vfs.values import Caller, SetAttributes, Stat

if TYPE_CHECKING:
    from objfs.vfs.filesystem import FileSystem
    from tests.sim.model import Entry, Op, Result

ROOT = 1
LABEL = "user.label"
CALLER = Caller(uid=1000, gid=1000)


@dataclass
class Client:
    """One program's view of a mount."""

    fs: FileSystem
    handles: dict[int, tuple[int, int]] = field(default_factory=dict)
    standing: int = ROOT
    """Where `.` is."""
    _references: list[int] = field(default_factory=list)

    async def apply(self, op: Op) -> Result:
        """Carry out an operation, or raise OSError."""
        for chance in (True, True, True, False):
            try:
                return await self._attempt(op)
            except OSError as error:
                if error.errno != errno.ESTALE or not chance:
                    raise
        raise AssertionError

    async def walk(self, path: str = "") -> dict[str, Entry]:
        """Everything at and below a path."""
        seen: dict[str, Entry] = {}
        stack = [path]
        while stack:
            above = stack.pop()
            for name in await self.names(above):
                at = f"{above}/{name}".lstrip("/")
                seen[at] = await self.entry(at)
                if seen[at][0] == "folder":
                    stack.append(at)
        return seen

    async def names(self, path: str) -> list[str]:
        """A listing."""
        try:
            return await self._listing(path)
        finally:
            self._forget()

    async def entry(self, path: str) -> Entry:
        """One path with its content."""
        try:
            found = await self._resolve(path)
            kind, mode = _kind(found.mode), stat.S_IMODE(found.mode)
            label = await self._label_of(found.ino)
            if kind == "folder":
                return kind, mode, b"", None, label
            if kind == "link":
                return kind, mode, await self.fs.readlink(found.ino), None, label
            handle = await self.fs.open(found.ino, os.O_RDONLY)
            try:
                content = await self.fs.files.read(handle, 0, found.size_bytes + 100)
            finally:
                with suppress(OSError, ObjectStoreError):  # of what writers wait for
                    await self.fs.files.flush(handle)
                await self.fs.files.release(handle)
            return kind, mode, content, found.mtime_ns, label
        finally:
            self._forget()

    # -- operations ---------------------------------------------------------------------------------

    async def _attempt(self, op: Op) -> Result:
        try:
            result: Result = await getattr(self, f"_{op.name}")(op)
            return result
        except (StaleVersionError, ObjectStoreError, ExceptionGroup) as group:
            error = first_error(group)
            if isinstance(error, StaleVersionError):
                raise OSError(errno.ESTALE, op.path) from error
            if isinstance(error, ObjectStoreError):
                raise OSError(errno.EIO, str(error)) from error
            raise
        finally:
            self._forget()

    async def _create(self, op: Op) -> None:
        parent, name = await self._parent(op.path)
        existing = await self._maybe(parent, name)
        if existing is not None and not op.flags & os.O_EXCL:
            await self._open(op)
            return
        found, handle = await self.fs.create(parent, name, op.number or 0o644, op.flags | os.O_RDWR, CALLER)
        self.handles[op.slot] = (handle, found.ino)

    async def _open(self, op: Op) -> None:
        found = await self._resolve(op.path)
        if _kind(found.mode) == "folder":
            raise OSError(errno.EISDIR, op.path)
        if _kind(found.mode) == "link":
            raise OSError(errno.ELOOP, op.path)
        handle = await self.fs.open(found.ino, op.flags)
        self.fs.remember(found.ino)
        self.handles[op.slot] = (handle, found.ino)

    async def _write(self, op: Op) -> int:
        return await self.fs.files.write(self.handles[op.slot][0], op.offset, op.data)

    async def _read(self, op: Op) -> bytes:
        return await self.fs.files.read(self.handles[op.slot][0], op.offset, op.length)

    async def _flush(self, op: Op) -> None:
        await self.fs.files.flush(self.handles[op.slot][0])

    async def _fsync(self, op: Op) -> None:
        await self.fs.files.fsync(self.handles[op.slot][0])

    async def _fsyncdir(self, op: Op) -> None:
        handle = await self.fs.streams.open((await self._resolve(op.path)).ino)
        try:
            await self.fs.streams.sync(handle)
        finally:
            self.fs.streams.close(handle)

    async def _close(self, op: Op) -> None:
        handle, ino = self.handles.pop(op.slot)
        try:
            await self.fs.files.flush(handle)
        finally:
            with suppress(OSError):  # nobody is told
                await self.fs.files.release(handle)
            self.fs.forget(ino, 1)

    async def _truncate(self, op: Op) -> None:
        found = await self._resolve(op.path)
        await self.fs.setattr(found.ino, SetAttributes(size_bytes=op.length))

    async def _ftruncate(self, op: Op) -> None:
        await self.fs.setattr(self.handles[op.slot][1], SetAttributes(size_bytes=op.length))

    async def _fstat(self, op: Op) -> tuple[str, int, int]:
        found = await self.fs.getattr(self.handles[op.slot][1])
        return _kind(found.mode), found.nlink, found.size_bytes

    async def _mkdir(self, op: Op) -> None:
        parent, name = await self._parent(op.path)
        self._references.append((await self.fs.mkdir(parent, name, op.number or 0o755, CALLER)).ino)

    async def _symlink(self, op: Op) -> None:
        parent, name = await self._parent(op.path)
        self._references.append((await self.fs.symlink(parent, name, op.data, CALLER)).ino)

    async def _readlink(self, op: Op) -> bytes:
        found = await self._resolve(op.path)
        if _kind(found.mode) != "link":
            raise OSError(errno.EINVAL, op.path)
        return await self.fs.readlink(found.ino)

    async def _rmdir(self, op: Op) -> None:
        parent, name = await self._parent(op.path)
        await self.fs.rmdir(parent, name)

    async def _unlink(self, op: Op) -> None:
        parent, name = await self._parent(op.path)
        await self.fs.unlink(parent, name)

    async def _rename(self, op: Op) -> None:
        parent, name = await self._parent(op.path)
        new_parent, new_name = await self._parent(op.other)
        if await self._maybe(parent, name) is None:
            raise OSError(errno.ENOENT, op.path)
        if op.other.startswith(f"{op.path}/"):
            raise OSError(errno.EINVAL, op.other)
        if op.path.startswith(f"{op.other}/"):
            raise OSError(errno.ENOTEMPTY, op.other)
        await self.fs.rename(parent, name, new_parent, new_name, op.flags)

    async def _chmod(self, op: Op) -> None:
        found = await self._resolve(op.path)
        await self.fs.setattr(found.ino, SetAttributes(mode=op.number))

    async def _label(self, op: Op) -> None:
        found = await self._resolve(op.path)
        if op.data:
            await self.fs.xattrs.set(found.ino, LABEL, op.data)
            return
        if await self._label_of(found.ino):
            await self.fs.xattrs.remove(found.ino, LABEL)

    async def _label_of(self, ino: int) -> bytes:
        try:
            return await self.fs.xattrs.get(ino, LABEL)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
            return b""

    async def _utime(self, op: Op) -> None:
        found = await self._resolve(op.path)
        if _kind(found.mode) == "folder":
            raise OSError(errno.EISDIR, op.path)
        await self.fs.setattr(found.ino, SetAttributes(mtime_ns=op.number))

    async def _stat(self, op: Op) -> tuple[str, int, int]:
        found = await self._resolve(op.path)
        again = await self.fs.getattr(found.ino)
        assert (again.ino, again.size_bytes, again.mode) == (found.ino, found.size_bytes, found.mode)
        return _kind(found.mode), stat.S_IMODE(found.mode), found.size_bytes

    async def _list(self, op: Op) -> list[str]:
        found = await self._resolve(op.path)
        if _kind(found.mode) != "folder":
            raise OSError(errno.ENOTDIR, op.path)
        return sorted(await self._listing(op.path))

    async def _stand(self, op: Op) -> None:
        found = await self._resolve(op.path)
        if _kind(found.mode) != "folder":
            raise OSError(errno.ENOTDIR, op.path)
        self.fs.remember(found.ino)
        before, self.standing = self.standing, found.ino
        if before != ROOT:
            self.fs.forget(before, 1)

    async def _sleep(self, op: Op) -> None:
        await trio.sleep(op.number / 1000)

    # -- parts --------------------------------------------------------------------------------------

    async def _listing(self, path: str) -> list[str]:
        found = await self._resolve(path)
        handle = await self.fs.streams.open(found.ino)
        await self.fs.streams.begin(handle, 0)
        names = [name for position, name, _ in self.fs.streams.read(handle, 0) if position > 2]
        self.fs.streams.close(handle)
        assert len(names) == len(set(names)), names
        return names

    async def _resolve(self, path: str) -> Stat:
        first, _, rest = path.partition("/")
        if first == ".":
            found, path = await self.fs.getattr(self.standing), rest
        else:
            found = await self.fs.getattr(ROOT)
        for part in path.split("/") if path else ():
            if _kind(found.mode) != "folder":
                raise OSError(errno.ENOTDIR, path)
            child = await self._maybe(found.ino, part.encode())
            if child is None:
                raise OSError(errno.ENOENT, path)
            found = child
        return found

    async def _parent(self, path: str) -> tuple[int, bytes]:
        above, _, name = path.rpartition("/")
        found = await self._resolve(above)
        if _kind(found.mode) != "folder":
            raise OSError(errno.ENOTDIR, path)
        return found.ino, name.encode()

    async def _maybe(self, parent: int, name: bytes) -> Stat | None:
        found = await self.fs.lookup(parent, name)
        if found is not None:
            assert found.mode, f"lookup of {name!r} told no type"
            self._references.append(found.ino)
        return found

    def _forget(self) -> None:
        for ino in self._references:
            self.fs.forget(ino, 1)
        self._references.clear()


def _kind(mode: int) -> str:
    return {stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}.get(stat.S_IFMT(mode), "file")
