"""Checks before a mount, the table of mounts, going to the background."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs import mounts
from objfs.cli.mounting import checks
from objfs.cli.mounting.background import Outcome, run_in_background
from objfs.cli.settings import read_settings
from objfs.errors import MountError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/with\040space rw,nosuid,nodev shared:9 master:2 - fuse.objfs s3://b rw,user_id=0
31 22 0:41 / /mnt/back\134slash rw - fuse.rclone remote rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Read in place of the kernel's."""
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    monkeypatch.setattr(mounts, "TABLE", path)
    return path


@pytest.mark.usefixtures("table")
def test_table_of_mounts() -> None:
    entries = mounts.read_mounts()
    assert [entry.fs_type for entry in entries] == ["ext4", "fuse.objfs", "fuse.rclone"]
    assert entries[1].mountpoint == Path("/mnt/with space")
    assert entries[1].device == "0:40"
    assert entries[1].source == "s3://b"
    assert entries[2].mountpoint == Path("/mnt/back\\slash")


@pytest.mark.parametrize("name", ["a b", "a\tb", "a\nb", "a\\b", "a\\040b", "a\rb\fc\x85\u2028d", "a\udcffb"])
def test_mountpoints_of_any_name(table: Path, name: str) -> None:
    told = "".join(f"\\{ord(one):03o}" if one in " \t\n\\" else one for one in name)
    table.write_bytes(
        os.fsencode(f"{TABLE}32 22 0:42 / /{told} rw - tmpfs none rw\n33 22 0:43 / /z rw - xfs z rw\n")
    )
    assert [str(entry.mountpoint) for entry in mounts.read_mounts()][3:] == [f"/{name}", "/z"]
    entry = mounts.find_mount(Path(f"/{name}"))
    assert entry is not None
    assert entry.device == "0:42"
    assert mounts.file_system_of(Path(f"/{name}/below")) == "tmpfs"


def test_what_was_mounted_last_is_on_top(table: Path) -> None:
    with table.open("a") as file:
        file.write("32 30 0:42 / /mnt rw - tmpfs none rw\n33 32 0:43 / /mnt rw - xfs /dev/sdb1 rw\n")
    assert mounts.file_system_of(Path("/mnt/with")) == "xfs"
    assert mounts.file_system_of(Path("/mnt/with space")) == "fuse.objfs"
    assert mounts.file_system_of(Path("/opt")) == "ext4"
    table.write_text("")
    assert mounts.file_system_of(Path("/opt")) == ""


def test_the_kernels_table_is_read() -> None:
    assert mounts.find_mount(Path("/proc")) is not None
    assert not mounts.is_dead(Path("/proc"))


def test_mountpoints_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert mounts.resolve_mountpoint(Path("link/")) == tmp_path / "real"
    assert mounts.resolve_mountpoint(Path(".")) == tmp_path
    assert mounts.resolve_mountpoint(Path("absent/deep")) == tmp_path / "absent" / "deep"


def test_mountpoints_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(MountError, match="does not exist; create it with mkdir"):
        checks.check_mountpoint(tmp_path / "none", nonempty=False)
    with pytest.raises(MountError, match="is not a directory"):
        checks.check_mountpoint(file, nonempty=True)
    with pytest.raises(MountError, match=r"is not empty; .*-o nonempty"):
        checks.check_mountpoint(tmp_path, nonempty=False)
    checks.check_mountpoint(tmp_path, nonempty=True)


def test_fuse_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MountError, match="is missing, so nothing can be mounted"):
        checks.check_fuse(tmp_path / "fuse")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(MountError, match="install the package fuse3"):
        checks.check_fuse(Path("/dev/null"))


def test_allow_other_needs_the_administrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "fuse.conf"
    config.write_text("# user_allow_other\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MountError, match="'user_allow_other' in"):
        checks.check_allow_other(config)
    config.write_text("mount_max = 5\n user_allow_other \n")
    checks.check_allow_other(config)


def test_where_the_cache_may_lie(table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table.write_text(
        TABLE + "32 22 0:42 / /mnt/memory rw - tmpfs tmpfs rw\n33 22 0:43 / /mnt/nfs rw - nfs4 h:/ rw\n"
    )
    with pytest.raises(MountError, match="lie in a mount of objfs; name a folder on a local disk"):
        checks.check_cache(Path("/mnt/with space/cache"))
    for folder, told in {
        "/mnt/memory": "power fails",
        "/mnt/nfs": "safe would not be",
        "/mnt/disk": "",
    }.items():
        checks.check_cache(Path(folder))
        caplog.clear()
        checks.warn_of_cache(read_settings("memory://", tmp_path, {"cache_dir": folder}, []))
        assert told in caplog.text
        assert bool(told) == bool(caplog.records)
    caplog.clear()
    checks.warn_of_cache(read_settings("memory://", tmp_path, {"cache_dir": "/mnt/memory"}, ["ro"]))
    assert not caplog.records  # nothing waits


def test_flags_outrank_options_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJFS_UMASK", "011")
    monkeypatch.setenv("OBJFS_UID", "11")
    settings = read_settings("memory://", tmp_path, {"umask": "077"}, ["umask=000,ro"])
    assert (settings.umask, settings.read_only, settings.uid) == (0o077, True, 11)


def test_the_cache_belongs_to_url_and_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(**flags: str) -> str:
        return read_settings("s3://bucket/p/", tmp_path, flags, []).mount_id

    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    aws, other = identity(), identity(endpoint_url="http://127.0.0.1:9000")
    assert aws != other
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert identity() == other


@pytest.mark.parametrize(("store", "mountpoint"), [("a", "a/b"), ("a/b", "a"), ("a", "a")])
def test_store_and_mountpoint_are_apart(store: str, mountpoint: str, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(UsageError, match="contain one another"):
        read_settings(f"file://{tmp_path}/{store}", tmp_path / mountpoint, {}, [])


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"cache_dir": "mnt/cache"}, "mountpoint .* and the cache .* contain one another"),
        ({"cache_dir": "link/cache"}, "mountpoint .* and the cache .* contain one another"),
        ({"cache_dir": "store/.cache"}, "cache .* and the store .* contain one another"),
        ({"log_file": "link/log"}, "the log .* is below the mountpoint"),
    ],
)
def test_a_mount_keeps_nothing_in_itself(flags: dict[str, str], text: str, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("mnt")
    flags = {"cache_dir": f"{tmp_path}/cache"} | {name: f"{tmp_path}/{path}" for name, path in flags.items()}
    with pytest.raises(UsageError, match=text):
        read_settings(f"file://{tmp_path}/store", tmp_path / "mnt", flags, [])


def test_stores_and_mounts_may_be_beside_the_cache(tmp_path: Path) -> None:
    read_settings(f"file://{tmp_path}/c/store", tmp_path / "c" / "mnt", {"cache_dir": f"{tmp_path}/c"}, [])


def test_background_reports(tmp_path: Path) -> None:
    marker = tmp_path / "pid"

    def body(report: Callable[[Outcome], None]) -> int:
        marker.write_text(f"{os.getpid()} {os.getsid(0)} {os.readlink('/proc/self/fd/1')}")
        report(Outcome(status=0))
        report(Outcome(status=1, sentence="too late"))
        time.sleep(60)
        return 0

    assert run_in_background(body) == Outcome(status=0)
    pid, session, stdout = marker.read_text().split()
    assert pid == session != str(os.getpid())
    assert stdout == os.devnull
    os.kill(int(pid), signal.SIGKILL)
    os.waitpid(int(pid), 0)


def test_a_session_of_its_own_from_the_report_on(tmp_path: Path) -> None:
    marker = tmp_path / "sessions"

    def body(report: Callable[[Outcome], None]) -> int:
        before = os.getsid(0)
        report(Outcome(status=0))
        marker.write_text(f"{before} {os.getsid(0)} {os.getpid()}")
        time.sleep(60)
        return 0

    assert run_in_background(body, session_at_once=False) == Outcome(status=0)
    while not marker.exists() or not marker.read_text():
        time.sleep(0.01)
    before, after, pid = map(int, marker.read_text().split())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert before == os.getsid(0)
    assert after == pid


def test_background_failures() -> None:
    def refuse(report: Callable[[Outcome], None]) -> int:
        report(Outcome(status=2, sentence="no: 'ü'."))
        return 2

    def crash(_report: Callable[[Outcome], None]) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert run_in_background(refuse) == Outcome(status=2, sentence="no: 'ü'.")
    assert run_in_background(crash).status == 1
