"""The control socket: a real server and the real client, with a mount that only pretends."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio

from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect, sockets_in, wait_for_end
from objfs.control.server import open_control_server
from objfs.control.values import (
    CacheStatus,
    DrainProgress,
    MountStatus,
    ParkedStatus,
    StoreStatus,
    UploadsStatus,
    status_from_json,
    status_to_json,
)
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATUS = MountStatus(
    url="memory://",
    mountpoint="/mnt/a\nb",
    state="serving",
    pid=1,
    version="0",
    started_s=5.0,
    read_only=False,
    write_mode="back",
    log_path="/log",
    store=StoreStatus(url="memory://", endpoint_url=None, reachable=True),
    uploads=UploadsStatus(parked_count=1, parked=(ParkedStatus(key="k", operation="put", error="403"),)),
    cache=CacheStatus(path="/cache", hits=3, misses=1),
)


class PretendedMount:
    """Drains in three steps; can be in use."""

    def __init__(self) -> None:
        self.left = 3
        self.in_use = False
        self.retried_parked = False
        self.unmounted: bool | None = None
        self.gone = trio.Event()

    async def status(self) -> MountStatus:
        return STATUS

    def progress(self) -> DrainProgress:
        return DrainProgress(
            waiting_files=self.left,
            waiting_bytes=self.left * 10,
            waiting_changes=0,
            uploaded_files=0,
            uploaded_bytes=0,
            parked_count=0,
        )

    async def drain(self, *, retry_parked: bool) -> None:
        self.retried_parked = retry_parked
        while self.left:
            await trio.sleep(0.01)
            self.left -= 1

    async def unmount(self, *, drain: bool) -> None:
        if self.in_use:
            raise MountError("it is in use.")
        self.unmounted = drain
        self.gone.set()


@contextmanager
def serving(path: Path) -> Iterator[PretendedMount]:
    """A control server in a thread of its own; leaves when the mount was unmounted."""
    mounts: list[PretendedMount] = []
    ready = threading.Event()

    async def serve() -> None:
        mounts.append(PretendedMount())
        async with open_control_server(path, mounts[0]):
            token.append(trio.lowlevel.current_trio_token())
            ready.set()
            await mounts[0].gone.wait()
            mounts[0].left = 7

    token: list[trio.lowlevel.TrioToken] = []
    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(5)
    try:
        yield mounts[0]
    finally:
        with suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(mounts[0].gone.set, trio_token=token[0])
        thread.join(5)
    assert not path.exists()


def test_status_survives_json() -> None:
    assert status_from_json(status_to_json(STATUS)) == STATUS
    assert status_to_json(STATUS)["cache"]["hit_rate"] == 0.75


def test_a_newer_status_is_understood() -> None:
    value = status_to_json(STATUS)
    value["invented"] = 1
    value["store"]["invented"] = 2
    assert status_from_json(value) == STATUS


def test_status_and_drain(tmp_path: Path) -> None:
    path = tmp_path / "run" / "a.sock"
    with serving(path), connect(path) as client:
        assert client.pid == os.getpid()
        assert client.status() == STATUS
        steps = list(client.drain())
        assert steps[0].waiting_files == 3
        assert steps[-1].waiting_files == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert sockets_in(path.parent) == [path]


def test_drain_can_retry_what_is_parked(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with serving(path) as mount, connect(path) as client:
        for retry in (True, False):
            list(client.drain(retry_parked=retry))
            assert mount.retried_parked is retry


def test_unmount_tells_the_last_progress(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with serving(path) as mount, connect(path) as client:
        mount.in_use = True
        with pytest.raises(MountError, match="in use"):
            client.unmount(drain=True)
        mount.in_use = False
        client.unmount(drain=False)
        assert [*client.progress_until_end()][-1].waiting_files == 7
        assert mount.unmounted is False


def test_a_path_longer_than_a_unix_address(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 100) / "a.sock"
    with serving(path), connect(path) as client:
        assert client.status() == STATUS


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[1]\n", b"x" * (protocol.MAX_REQUEST_BYTES + 1), b'{"command":"explode"}\n']
)
def test_bad_requests_do_no_harm(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with serving(path):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(5)
            raw.connect(str(path))
            raw.sendall(line)
            assert b"error" in raw.recv(1000)
        with connect(path) as client:
            assert client.status() == STATUS


def test_a_second_server_is_refused_and_a_stale_socket_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    with pytest.raises(NoAnswerError), connect(path):
        pass

    with serving(path), pytest.raises(MountError, match="another objfs"):
        trio.run(_open_and_close, path)


async def _open_and_close(path: Path) -> None:
    async with open_control_server(path, PretendedMount()):
        pass


def test_foreign_runtime_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(MountError, match="not a folder of yours"):
        protocol.ensure_private(tmp_path / "link")
    (tmp_path / "real").chmod(0o777)
    protocol.ensure_private(tmp_path / "real")
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o700


def test_runtime_folders_of_users(tmp_path: Path) -> None:
    assert str(protocol.runtime_dir({}, 0)) == "/run/objfs"
    assert str(protocol.runtime_dir({"XDG_RUNTIME_DIR": "/run/user/7"}, 7)) == "/run/user/7/objfs"
    assert str(protocol.runtime_dir({}, 7)) == "/tmp/objfs-7"
    assert protocol.runtime_dir({"OBJFS_RUNTIME_DIR": str(tmp_path)}, 0) == tmp_path


def test_waiting_for_a_process() -> None:
    assert not wait_for_end(os.getpid(), 0.01)
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert wait_for_end(child, 5)
    os.waitpid(child, 0)
    assert wait_for_end(child, 5)
