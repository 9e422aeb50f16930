"""What must hold before a mount is tried; each check raises one sentence."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.doctor.machine import check_file_system
from objfs.errors import MountError

if TYPE_CHECKING:
    from objfs.config import MountSettings

log = logging.getLogger("objfs.cli")

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONFIG = Path("/etc/fuse.conf")


def check_before_mount(settings: MountSettings) -> None:
    """Raise MountError for what the user can put right."""
    check_fuse(FUSE_DEVICE)
    if settings.allow_other:
        check_allow_other(FUSE_CONFIG)
    check_mountpoint(settings.mountpoint, nonempty=settings.nonempty)
    check_cache(settings.cache_path)


def check_fuse(device: Path) -> None:
    """FUSE is there and this user may use it."""
    if not device.exists():
        raise MountError(
            f"{device} is missing, so nothing can be mounted; load the kernel module 'fuse' "
            f"or, in a container, pass the device with --device {device} --cap-add SYS_ADMIN."
        )
    if not os.access(device, os.R_OK | os.W_OK) and os.geteuid() != 0:
        raise MountError(f"this user may not use {device}; ask the administrator for access to it.")
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is missing; install the package fuse3.")


def check_allow_other(config: Path) -> None:
    """The administrator lets users open their mounts to others."""
    try:
        lines = config.read_text().splitlines()
    except OSError:
        lines = []
    if os.geteuid() != 0 and "user_allow_other" not in (line.strip() for line in lines):
        raise MountError(
            f"--allow-other needs the line 'user_allow_other' in {config}; "
            "ask the administrator to add it, or mount without --allow-other."
        )


def check_mountpoint(mountpoint: Path, *, nonempty: bool) -> None:
    """The mountpoint is a folder that is free, or what is left of an earlier mount."""
    if mounts.is_automount(mountpoint):
        return  # it waits for this very mount: to look at the folder might wait for ourselves
    if mounts.is_dead(mountpoint):
        return
    entry = mounts.find_mount(mountpoint)
    if entry is not None and entry.fs_type == mounts.FUSE_TYPE:
        raise MountError(
            f"{mountpoint} is already mounted ({entry.source}); run 'objfs umount {mountpoint}' first."
        )
    try:
        with os.scandir(mountpoint) as entries:
            occupied = next(entries, None) is not None
    except FileNotFoundError as error:
        raise MountError(f"the mountpoint {mountpoint} does not exist; create it with mkdir.") from error
    except NotADirectoryError as error:
        raise MountError(f"the mountpoint {mountpoint} is not a directory; choose one.") from error
    except OSError as error:
        raise MountError(f"the mountpoint {mountpoint} cannot be used: {error.strerror}.") from error
    if occupied and not nonempty:
        raise MountError(
            f"the mountpoint {mountpoint} is not empty; "
            "choose an empty folder, or hide what is there with -o nonempty."
        )
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise MountError(
            f"the mountpoint {mountpoint} is not writable for this user; choose one of your own."
        )


def check_cache(path: Path) -> None:
    """The cache is not in a mount of ours, which may go, or wait for its store, while this one needs it."""
    if mounts.file_system_of(path) == mounts.FUSE_TYPE:
        raise MountError(
            f"the cache {path} would lie in a mount of objfs; name a folder on a local disk with --cache-dir."
        )


def warn_of_cache(settings: MountSettings) -> None:
    """Say in the log what a power loss takes, where the cache is not on a local disk."""
    found = check_file_system(settings.cache_path)
    if found.advice and not settings.read_only:
        log.warning("the cache is in %s; %s", found.text, found.advice)


def free_mountpoint(mountpoint: Path, *, nonempty: bool) -> None:
    """Take away what is left of an earlier mount, whose program has gone."""
    if mounts.is_automount(mountpoint) or not mounts.is_dead(mountpoint):
        return
    if not mounts.detach_by_force(mountpoint):
        raise MountError(
            f"{mountpoint} is the rest of a mount whose program has gone, and it cannot be taken away; "
            f"ask the administrator to run 'umount -l {mountpoint}'."
        )
    check_mountpoint(mountpoint, nonempty=nonempty)
