"""Real mounts for tests: the command `objfs mount` with folders of its own, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.control.client import connect, wait_for_end
from objfs.control.protocol import socket_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from objfs.control.values import MountStatus

COMMAND_TIMEOUT_S = 60.0
END_TIMEOUT_S = 20.0
_SHOWN_LOG_CHARS = 8000
_BAD_LINE = re.compile(r"^\S+ (ERROR|CRITICAL) |^  \| Traceback", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Folders of one mount; a cache may be used by several mounts, one after the other."""

    folder: Path
    cache: Path
    environment: dict[str, str]

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mnt"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run `objfs` with these arguments."""
        return subprocess.run(
            [sys.executable, "-m", "objfs", *argv],
            env={**self.environment},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def mount(self, url: str, **options: str | bool) -> subprocess.CompletedProcess[str]:
        """`objfs mount`; options are flags with `_` for `-`."""
        flags: list[str] = ["--cache-dir", str(self.cache), "--log-file", str(self.log)]
        for name, value in options.items():
            flag = "-o" if name == "o" else f"--{name.replace('_', '-')}"
            flags += [flag] if value is True else [flag, str(value)]
        return self.run("mount", url, str(self.mountpoint), *flags)

    def processes(self) -> list[int]:
        """All processes of this place, found by their environment."""
        mark = f"OBJFS_RUNTIME_DIR={self.environment['OBJFS_RUNTIME_DIR']}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


class Mount:
    """A mount that answers."""

    def __init__(self, place: Place, url: str, options: Mapping[str, str | bool]) -> None:
        self.place = place
        self.url = url
        self.options = options

    @property
    def path(self) -> Path:
        return self.place.mountpoint

    @property
    def log(self) -> Path:
        return self.place.log

    @property
    def socket(self) -> Path:
        return Path(self.place.environment["OBJFS_RUNTIME_DIR"]) / socket_name(self.path)

    @property
    def pid(self) -> int:
        with connect(self.socket) as client:
            return client.pid

    def status(self) -> MountStatus:
        with connect(self.socket) as client:
            return client.status()

    def drain(self) -> None:
        """Return once everything is in the store."""
        with connect(self.socket) as client:
            for _step in client.drain():
                pass

    def umount(self, *flags: str) -> None:
        """`objfs umount`, which must succeed."""
        done = self.place.run("umount", *flags, str(self.path))
        assert done.returncode == 0, done.stderr + self.place.log_text()

    def kill(self) -> None:
        """`kill -9` the daemon, and wait until it has gone."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        assert wait_for_end(pid, END_TIMEOUT_S)

    def mount_again(self) -> None:
        """The same mount once more, with the same cache."""
        done = self.place.mount(self.url, **self.options)
        assert done.returncode == 0, done.stderr + self.place.log_text()


@contextmanager
def a_place(cache: Path | None = None, environment: Mapping[str, str] | None = None) -> Iterator[Place]:
    """Folders for one mount, that are free and gone afterwards, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix="objfs-mount-"))
    runtime = folder / "run"
    place = Place(
        folder=folder,
        cache=cache or folder / "cache",
        environment={
            **os.environ,
            "OBJFS_RUNTIME_DIR": str(runtime),
            "PYTHONWARNINGS": "default",
            **(environment or {}),
        },
    )
    place.mountpoint.mkdir()
    try:
        yield place
    finally:
        _clean_up(place)


@contextmanager
def mounted(
    url: str,
    *,
    cache: Path | None = None,
    environment: Mapping[str, str] | None = None,
    allow_errors: bool = False,
    **options: str | bool,
) -> Iterator[Mount]:
    """A real mount of `url`; drained and unmounted at the end if it still runs.

    The log must then be free of errors, unless they are allowed.
    """
    with a_place(cache, environment) as place:
        mount = Mount(place, url, options)
        mount.mount_again()
        try:
            yield mount
        except BaseException:
            sys.stderr.write(place.log_text()[-_SHOWN_LOG_CHARS:])  # pytest shows it beside the failure
            raise
        if mounts.find_mount(mount.path) is not None and not mounts.is_dead(mount.path):
            mount.umount()
        bad = _BAD_LINE.search(place.log_text())
        assert allow_errors or bad is None, place.log_text()


def _clean_up(place: Place) -> None:
    for pid in place.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for_end(pid, END_TIMEOUT_S)
    while mounts.find_mount(place.mountpoint) is not None:
        assert mounts.detach_by_force(place.mountpoint), f"{place.mountpoint} stays mounted"
    shutil.rmtree(place.folder)
    assert not place.processes()
