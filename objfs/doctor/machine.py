"""This machine: FUSE, limits, and the disk under the cache."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.doctor.findings import Finding, failed, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONFIG = Path("/etc/fuse.conf")
LEAST_OPEN_FILES = 4096  # descriptors of a busy mount: staged files and connections
FREE_SHARE = 0.05  # what a mount leaves free on the disk of its cache (objfs.app.local)
LITTLE_SHARE = 0.15
_NETWORK_TYPES = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "afs"})
_PROGRAM_TIMEOUT_S = 5.0


def examine_machine(cache_base: Path, cache_size_bytes: int) -> Iterator[Finding]:
    """All checks that need no store."""
    yield check_fuse_device(FUSE_DEVICE)
    yield check_fusermount()
    yield check_library()
    yield check_allow_other(FUSE_CONFIG)
    yield check_open_files()
    yield from check_cache_folder(cache_base, cache_size_bytes)


def check_fuse_device(device: Path) -> Finding:
    """The kernel's FUSE, and the right to use it."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return failed(
            "fuse device",
            f"{device} is missing, so nothing can be mounted",
            f"run modprobe fuse; in a container pass --device {device} --cap-add SYS_ADMIN",
        )
    except OSError as error:
        return failed(
            "fuse device",
            f"{device} cannot be opened: {error.strerror}",
            f"ask the administrator for access to {device}; in a container pass --device {device}",
        )
    return ok("fuse device", f"{device} can be opened")


def check_fusermount() -> Finding:
    """The program that mounts for users."""
    name = "fusermount3"
    program = shutil.which(name)
    if program is None:
        text, advice = "fusermount3 is missing; only root can mount", "install the package fuse3"
        return failed(name, text, advice) if os.geteuid() else warning(name, text, advice)
    try:
        answer = subprocess.run(  # noqa: S603  # the system's own program
            [program, "--version"], capture_output=True, text=True, timeout=_PROGRAM_TIMEOUT_S, check=False
        )
        version = answer.stdout.strip().removeprefix("fusermount3 version: ") or "of unknown version"
    except (OSError, subprocess.TimeoutExpired):
        return failed(name, f"{program} cannot be run", "install the package fuse3 anew")
    if os.geteuid() and not os.stat(program).st_mode & 0o4000:
        return failed(name, f"{program} is not set-uid root", f"run as root: chmod u+s {program}")
    return ok(name, f"{program}, {version}")


def check_library() -> Finding:
    """pyfuse3 and the libfuse below it."""
    try:
        importlib.import_module("objfs.fuse.session")
    except ImportError as error:
        return failed(
            "libfuse",
            f"the FUSE library cannot be loaded: {error}",
            "install the package libfuse3-4 or libfuse3-3",
        )
    return ok("libfuse", "can be loaded")


def check_allow_other(config: Path) -> Finding:
    """Whether users may open their mounts to others."""
    name = "allow-other"
    if os.geteuid() == 0:
        return ok(name, "root may use --allow-other")
    try:
        lines = [line.strip() for line in config.read_text().splitlines()]
    except OSError:
        lines = []
    if "user_allow_other" in lines:
        return ok(name, f"allowed by {config}")
    return warning(
        name,
        "only you can use your mounts: --allow-other is not allowed to users",
        f"if others are to use them, add the line 'user_allow_other' to {config}",
    )


def check_open_files() -> Finding:
    """The limit of open files, as a mount raises it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < LEAST_OPEN_FILES:
        return warning(
            "open files",
            f"at most {hard} files can be open",
            f"raise the hard limit to {LEAST_OPEN_FILES} or more (limits.conf, LimitNOFILE=)",
        )
    return ok("open files", f"up to {'any number' if hard == resource.RLIM_INFINITY else hard}")


def check_cache_folder(base: Path, cache_size_bytes: int) -> Iterator[Finding]:
    """Whether the cache's folder can be used, on which kind of file system, with how much room."""
    folder = next(path for path in (base, *base.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        yield failed(
            "cache folder",
            f"{folder} cannot be written: {error.strerror}",
            "name another with --cache-dir, or change its owner",
        )
        return
    yield check_file_system(base)
    disk = os.statvfs(folder)
    total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    share = free / total if total else 0.0
    text = f"{_gib(free)} of {_gib(total)} free"
    advice = "free some space there, or name another folder with --cache-dir"
    if share <= FREE_SHARE:
        yield failed(
            "cache space",
            f"{text}: a mount leaves {FREE_SHARE:.0%} alone, so nothing could be written",
            advice,
        )
    elif share < LITTLE_SHARE or free < cache_size_bytes // 10:
        yield warning("cache space", f"{text}: little for a cache of {_gib(cache_size_bytes)}", advice)
    else:
        yield ok("cache space", text)


def check_file_system(folder: Path) -> Finding:
    """Whether what is written to a folder, which may still have to be made, outlives a power loss."""
    kind = mounts.file_system_of(folder)
    text = f"{folder} on {kind}" + ("" if os.path.exists(folder) else ", to be made")
    if kind == "":
        return skipped("cache folder", f"the kind of file system of {folder} is not told")
    if kind.startswith("fuse") or kind in _NETWORK_TYPES:
        return failed(
            "cache folder",
            f"{text}: what programs were told is safe would not be",
            "name a folder on a local disk with --cache-dir",
        )
    if kind in ("tmpfs", "ramfs"):
        return warning(
            "cache folder",
            f"{text}: changes that wait for their upload are lost when the power fails",
            "name a folder on a local disk with --cache-dir",
        )
    return ok("cache folder", text)


def _gib(count: int) -> str:
    return f"{count / 1024**3:,.1f} GiB"
