"""A mount in the kernel: made, served, tuned and taken away."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyfuse3

from objfs import mounts
from objfs.errors import MountError
from objfs.fuse.handlers import Handlers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from objfs.observe.operations import Operations
    from objfs.vfs.filesystem import FileSystem

log = logging.getLogger(__name__)

MAX_HANDLERS = 256  # pyfuse3's 99 are soon taken by reads that wait for a slow store
MAX_BACKGROUND = 128  # the kernel's 12 let a few stalled reads delay all others
READ_AHEAD_KB = 1024  # the kernel's 128 costs four times the round trips of a sequential read
UNMOUNT_TIMEOUT_S = 30.0
TUNE_TIMEOUT_S = 10.0
CONNECTIONS = Path("/sys/fs/fuse/connections")  # the kernel's documentation: filesystems/fuse
# In a mount namespace of its own, so that nobody else sees the control file system appear.
SET_APART = ("unshare", "--mount", "sh", "-c", 'mount -t fusectl none "$1" && echo "$3" > "$2"', "sh")
DIRECT_WRITES_SINCE = (6, 6)  # Linux that drops the pages which others have mapped under a direct write


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseOptions:
    """How a mount shows itself to the kernel.

    Attributes:
        source: shown in mount(8)'s first column; holds no secret.
        extra: further mount options, as they are.
        deadline_s: most time a request may wait for the store.
    """

    source: str
    read_only: bool = False
    allow_other: bool = False
    xattrs: bool = False
    extra: frozenset[str] = frozenset()
    deadline_s: float = 60.0

    def as_set(self) -> set[str]:
        """Options for libfuse. Commas would end an option."""
        options = {"default_permissions", "subtype=objfs", f"fsname={self.source.replace(',', '_')}"}
        if self.read_only:
            options.add("ro")
        if self.allow_other:
            options.add("allow_other")
        return options | self.extra


class KernelCache:
    """What the kernel remembers of names."""

    def invalidate_entry(self, parent_ino: int, name: str) -> None:
        """See `objfs.vfs.mirror.Kernel`."""
        with contextlib.suppress(OSError, RuntimeError):  # not mounted (any more), or not known to the kernel
            pyfuse3.invalidate_entry_async(
                pyfuse3.InodeT(parent_ino), pyfuse3.FileNameT(os.fsencode(name)), ignore_enoent=True
            )


class Session:
    """One mounted file system."""

    def __init__(self, mountpoint: Path) -> None:
        self._mountpoint = mountpoint
        self._mounted_device = _device(mountpoint)

    async def serve(self) -> None:
        """Answer the kernel until the mountpoint was taken away."""
        await pyfuse3.main(max_tasks=MAX_HANDLERS)

    def tune(self) -> None:
        """Raise the kernel's limits for this mount; root may, others live with the defaults. Blocks.

        Its first request has to be answered before: the answer sets them as well.
        """
        device = _device(self._mountpoint)
        if device is None:
            return
        _set(Path(f"/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KB)
        limit = CONNECTIONS / device.partition(":")[2] / "max_background"
        if limit.exists() or os.geteuid() != 0:
            _set(limit, MAX_BACKGROUND)
        else:  # the control file system is not mounted, as in most containers
            _set_apart(limit, MAX_BACKGROUND)

    def detach(self, *, lazy: bool) -> None:
        """Take the mountpoint away, if nobody else has done so; blocks, so run it in a thread.

        Raises:
            MountError: programs use it (and it is not taken away lazily).
        """
        if not self._is_mounted():  # what is there now, if anything, is not ours to take away
            return
        helper = shutil.which("fusermount3")
        if os.geteuid() == 0 or helper is None:
            command = ["umount", *(["-l"] if lazy else []), "--", str(self._mountpoint)]
        else:
            command = [helper, "-u", *(["-z"] if lazy else []), "--", str(self._mountpoint)]
        done = subprocess.run(  # noqa: S603  # fixed programs, the mountpoint as one argument
            command, capture_output=True, text=True, timeout=UNMOUNT_TIMEOUT_S, check=False
        )
        if done.returncode != 0 and self._is_mounted():
            raise MountError(
                f"{self._mountpoint} cannot be unmounted ({done.stderr.strip()}); "
                "close the programs that use it."
            )

    def _is_mounted(self) -> bool:
        return self._mounted_device is not None and _device(self._mountpoint) == self._mounted_device


@asynccontextmanager
async def open_session(
    filesystem: FileSystem, mountpoint: Path, options: FuseOptions, operations: Operations
) -> AsyncIterator[Session]:
    """The file system mounted at `mountpoint` for the life of the block.

    Raises:
        MountError: the kernel or fusermount3 refuses.
    """
    handlers = Handlers(
        filesystem,
        operations,
        xattrs=options.xattrs,
        deadline_s=options.deadline_s,
        direct_writes=_kernel_version() >= DIRECT_WRITES_SINCE,
    )
    try:
        pyfuse3.init(handlers, str(mountpoint), options.as_set())
    except RuntimeError as error:
        raise MountError(f"{mountpoint} cannot be mounted: {error}.") from error
    library = logging.getLogger("pyfuse3")
    library.addFilter(_is_news)
    try:
        yield Session(mountpoint)
    finally:
        _close()


def _kernel_version() -> tuple[int, ...]:
    """Major and minor number of the running Linux."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def _is_news(record: logging.LogRecord) -> bool:
    """Whether pyfuse3 tells more than that somebody unmounted before it had told the kernel something.

    The kernel has forgotten the request by then (fuse_dev_do_write: ENOENT), and nobody waits; there is no
    session any more whose names could be forgotten (fuse_lowlevel_notify_inval_entry: EINVAL).
    """
    error = record.exc_info[1] if record.exc_info else None
    if "invalidate_entry" in record.msg and isinstance(error, OSError):
        return error.errno != errno.EINVAL
    return "fuse_reply_" not in record.msg or record.args != (os.strerror(errno.ENOENT),)


def _close() -> None:
    try:
        pyfuse3.close(unmount=True)
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) not in (errno.EINVAL, errno.ENOENT):
            log.warning("the mountpoint was not taken away: %s", error)


def _device(mountpoint: Path) -> str | None:
    """The mount's major:minor, without asking the mount itself."""
    entry = mounts.find_mount(Path(os.path.realpath(mountpoint.parent), mountpoint.name))
    return None if entry is None else entry.device


def _set(path: Path, value: int) -> None:
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        log.debug("%s stays as it is: %s", path, error.strerror)


def _set_apart(limit: Path, value: int) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # a fixed program, paths and a number as arguments
            [*SET_APART, str(CONNECTIONS), str(limit), str(value)],
            capture_output=True,
            text=True,
            timeout=TUNE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("%s stays as it is: %s", limit, error)
        return
    if done.returncode != 0:
        log.debug("%s stays as it is: %s", limit, done.stderr.strip())
