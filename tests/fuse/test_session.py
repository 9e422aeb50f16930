"""What a session does to its mountpoint, shown with a plain file system in its place."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs.errors import MountError
from objfs.fuse.session import READ_AHEAD_KB, Session, _is_news
from tests.fuse.mounting import mounted
from tests.fuse.test_life import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuse.conftest import Bucket


def mount_tmpfs(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "objfs-test", folder], check=True)


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of its own."""
    folder = tmp_path / "with space"
    folder.mkdir()
    mount_tmpfs(folder)
    yield folder
    while os.path.ismount(folder):
        subprocess.run(["umount", "-l", folder], check=True)


def test_what_somebody_else_unmounted_is_unmounted(mountpoint: Path) -> None:
    session = Session(mountpoint)
    subprocess.run(["umount", mountpoint], check=True)
    session.detach(lazy=False)
    session.detach(lazy=True)


def test_another_file_system_is_left_where_it_is(mountpoint: Path) -> None:
    session = Session(mountpoint)
    mount_tmpfs(mountpoint)
    session.detach(lazy=True)
    assert os.path.ismount(mountpoint)


def test_what_is_in_use_is_told(mountpoint: Path) -> None:
    session = Session(mountpoint)
    with (mountpoint / "f").open("w"), pytest.raises(MountError, match="close the programs"):
        session.detach(lazy=False)
    session.detach(lazy=False)
    assert not os.path.ismount(mountpoint)


def test_a_mountpoint_right_below_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    session, commands = Session(Path("/proc")), list[list[str]]()

    def run(command: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    session.detach(lazy=False)
    assert [command[-1] for command in commands] == ["/proc"]


@pytest.mark.parametrize(("number", "is_news"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_name_that_is_to_be_forgotten_after_the_end(number: int, is_news: bool) -> None:
    try:
        raise OSError(number, "fuse_lowlevel_notify_inval_entry returned: …")
    except OSError:
        message = "Failed to submit invalidate_entry request for parent inode %d, name %s"
        record = logging.LogRecord("pyfuse3", logging.ERROR, "", 0, message, (1, b"a"), sys.exc_info())
    assert _is_news(record) == is_news


def is_tuned(device: int) -> bool:
    limit = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    return int(limit.read_text()) == READ_AHEAD_KB


def test_the_kernel_reads_ahead_as_much_as_it_was_told_to(file_bucket: Bucket) -> None:
    for _ in range(5):
        with mounted(file_bucket.url) as mount:
            wait_until(partial(is_tuned, mount.path.stat().st_dev))
