"""Which FUSE protocol the running kernel speaks; it tells only in the first request of a mount."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from contextlib import suppress
from pathlib import Path

_DEVICE = "/dev/fuse"
_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER (sched.h)
_NOSUID_NODEV, _PRIVATE_BELOW = 0x2 | 0x4, 0x40000 | 0x4000  # MS_… of mount(2)
_REQUEST_BYTES = 128 * 1024 + 4096  # the kernel refuses to be read with less than its largest request
_HEADER_BYTES = 40  # struct fuse_in_header; fuse_init_in with major and minor follows (linux/fuse.h)
_WAIT_S = 2.0


def kernel_fuse_version() -> str | None:
    """For instance `7.45`; None where this user may not find out.

    A child mounts nothing of anybody's: it has a mount namespace of its own, which ends with it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b""
        with suppress(BaseException):
            answer = _ask().encode()
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer.decode() or None


def _ask() -> str:
    """Mount, read the kernel's first request, and let it go; for a process that ends at once."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    _check(libc.unshare(_NEW_MOUNTS | (0 if user == 0 else _NEW_USERS)))
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _check(libc.mount(b"none", b"/", None, _PRIVATE_BELOW, None))
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    _check(libc.mount(b"objfs", b"/", b"fuse", _NOSUID_NODEV, options))
    if not select.select([device], [], [], _WAIT_S)[0]:
        raise TimeoutError
    major, minor = struct.unpack_from("=II", os.read(device, _REQUEST_BYTES), _HEADER_BYTES)
    return f"{major}.{minor}"


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")
