"""What the service manager is told, at a socket like systemd's."""

from __future__ import annotations

import socket
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from objfs.control.service import Service, describe
from objfs.control.values import DrainProgress

if TYPE_CHECKING:
    from collections.abc import Iterator


def _progress(files: int = 0, *, parked: int = 0, error: str | None = None) -> DrainProgress:
    return DrainProgress(
        waiting_files=files,
        waiting_bytes=files * 10,
        waiting_changes=0,
        uploaded_files=0,
        uploaded_bytes=0,
        parked_count=parked,
        error=error,
    )


class Mount:
    """Two files wait."""

    leaving = False

    def progress(self) -> DrainProgress:
        return _progress(2)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def _told(listener: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


@contextmanager
def _open(mountpoint: Path) -> Iterator[Service]:
    environment = {"NOTIFY_SOCKET": "there", "WATCHDOG_USEC": "6000000"}
    with closing(Service(environment, mountpoint, drain_timeout_s=30.0)) as service:
        yield service


def _run(service: Service, mount: Mount, seconds: float) -> None:
    async def body() -> None:
        with trio.move_on_after(seconds):
            await service.run(mount)

    trio.run(body, clock=trio.testing.MockClock(autojump_threshold=0.05))


def test_the_watchdog_is_fed_while_the_mount_answers(manager: socket.socket) -> None:
    with _open(Path("/")) as service:
        service.ready()
        _run(service, Mount(), 3.0)
    told = _told(manager)
    assert told[0] == "READY=1"
    assert told[1:] == ["STATUS=2 files (20 bytes) to upload", "WATCHDOG=1"] * 2


def test_a_mount_that_does_not_answer_starves_it(manager: socket.socket, tmp_path: Path) -> None:
    with _open(tmp_path / "none") as service:
        _run(service, Mount(), 3.0)
    assert "WATCHDOG=1" not in _told(manager)


def test_a_mount_that_hangs_starves_it(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_arguments: object, **_options: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio.to_thread, "run_sync", hang)
    with _open(Path("/")) as service:
        _run(service, Mount(), 50.0)
    assert "WATCHDOG=1" not in _told(manager)


def test_stopping_asks_for_time(manager: socket.socket) -> None:
    mount = Mount()
    mount.leaving = True
    with _open(Path("/")) as service:
        _run(service, mount, 1.5)
        service.last_words(_progress(1, parked=1))
    told = _told(manager)
    assert told[1] == "STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000"
    assert told[-1] == "STATUS=unmounted; 1 files (10 bytes) left to upload; 1 refused by the store"


def test_without_a_service_manager_nothing_runs() -> None:
    _run(Service({}, Path("/"), drain_timeout_s=1.0), Mount(), 5.0)


def test_states_for_people() -> None:
    assert describe(_progress(), leaving=False) == "everything is in the store"
    assert describe(_progress(), leaving=True) == "unmounted; everything is in the store"
    assert describe(_progress(1, error="x"), leaving=False).startswith("the store does not answer; 1 files")
