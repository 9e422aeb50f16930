"""The kernel's table of mounts, and taking a mount away by force. Knows nothing of the rooms."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

FUSE_TYPE = "fuse.objfs"
TABLE = Path("/proc/self/mountinfo")  # proc(5)
_ESCAPE = re.compile(r"\\([0-7]{3})")  # proc(5): space, tab, newline and backslash as octal
_STAT_TIMEOUT_S = 3.0  # a dead mount answers at once; a live one may wait for its store
_UNMOUNT_TIMEOUT_S = 10.0  # `fusermount3 -uz` returns at once unless the kernel itself is stuck


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """One line of the table.

    Attributes:
        device: major:minor.
    """

    mountpoint: Path
    device: str
    fs_type: str
    source: str


def read_mounts() -> list[MountEntry]:
    """All mounts, in the order they were made."""
    lines = os.fsdecode(TABLE.read_bytes()).split("\n")  # what else Python ends lines at may be in a name
    return [_parse_line(line) for line in lines if " - " in line]


def find_mount(mountpoint: Path) -> MountEntry | None:
    """The topmost mount at exactly this path."""
    found = [entry for entry in read_mounts() if entry.mountpoint == mountpoint]
    return found[-1] if found else None


def file_system_of(folder: Path) -> str:
    """Kind of the file system that holds a folder, or would; "" if that is not told."""
    real = Path(os.path.realpath(folder))
    holding = [entry for entry in read_mounts() if real.is_relative_to(entry.mountpoint)]
    holding.sort(key=lambda entry: len(entry.mountpoint.parts))  # of two at one path, the later stays last
    return holding[-1].fs_type if holding else ""


def is_automount(mountpoint: Path) -> bool:
    """Whether whoever looks at the path waits until something is mounted there (systemd.automount(5)).

    All but the process group of the automounter, that is: its mount commands.
    """
    entry = find_mount(mountpoint)
    return entry is not None and entry.fs_type == "autofs"


def resolve_mountpoint(path: Path) -> Path:
    """The absolute path without symlinks; a mount at its end, which may hang or be dead, is not touched."""
    parent = Path(os.path.realpath(path.absolute().parent))
    direct = parent / path.name if path.name not in ("", ".", "..") else Path(os.path.realpath(path))
    return direct if find_mount(direct) else Path(os.path.realpath(path))


def is_dead(mountpoint: Path) -> bool:
    """Whether the program behind a FUSE mount is gone ("transport endpoint is not connected").

    One that is there and does not answer is not dead; it is not waited for.
    """
    answers: list[int | None] = []

    def ask() -> None:
        try:
            os.statvfs(mountpoint)  # never out of the memory of the kernel, as stat may be
        except OSError as error:
            answers.append(error.errno)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(_STAT_TIMEOUT_S)
    return bool({errno.ENOTCONN, errno.ECONNABORTED} & {*answers})


def detach_by_force(mountpoint: Path) -> bool:
    """Take a mount away even if it is dead or in use; returns whether it is gone."""
    fusermount = shutil.which("fusermount3") or shutil.which("fusermount")
    commands = [[fusermount, "-u", "-z", "--", str(mountpoint)]] if fusermount else []
    if os.geteuid() == 0:
        commands.append(["umount", "-l", "--", str(mountpoint)])
    before = _count(mountpoint)
    for command in commands:
        subprocess.run(  # noqa: S603  # fixed programs; the path comes after `--`
            command, check=False, capture_output=True, timeout=_UNMOUNT_TIMEOUT_S
        )
        if _count(mountpoint) < before:
            return True
    return before == 0


def _count(mountpoint: Path) -> int:
    return sum(entry.mountpoint == mountpoint for entry in read_mounts())


def _parse_line(line: str) -> MountEntry:
    before, after = line.split(" - ", 1)
    _id, _parent, device, _root, mountpoint = before.split(" ")[:5]
    fs_type, source = after.split(" ")[:2]
    return MountEntry(
        mountpoint=Path(_unescape(mountpoint)), device=device, fs_type=fs_type, source=_unescape(source)
    )


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
