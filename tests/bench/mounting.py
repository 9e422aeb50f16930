"""A mount with an empty cache, the commands timed on it, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objfs import mounts
from tests.bench.errors import BenchError
from tests.bench.tools import Spot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.tools import Tool

MOUNT_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 60.0
KILL_TIMEOUT_S = 10.0
_SHOWN_CHARS = 300
_ROOT = Path(__file__).parents[2]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a daemon has used since it started."""

    cpu_s: float
    peak_rss_bytes: int


class Mount:
    """A mount that answers."""

    def __init__(self, spot: Spot, daemon: subprocess.Popen[bytes], timeout_s: float) -> None:
        self._spot = spot
        self._daemon = daemon
        self.timeout_s = timeout_s

    @property
    def path(self) -> Path:
        return self._spot.mountpoint

    def run(self, *argv: str | Path) -> tuple[float, str]:
        """Seconds until the command ended, and its output.

        Raises:
            BenchError: it failed, or the time was over.
        """
        environment = {**os.environ, "LC_ALL": "C", "PYTHONPATH": str(_ROOT)}
        with tempfile.TemporaryFile() as output:
            begin_s = time.monotonic()
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                status = process.wait(self.timeout_s)
            except subprocess.TimeoutExpired as error:
                raise BenchError(f"{argv[0]} took longer than {self.timeout_s:.0f} s") from error
            finally:
                self._end(process)
            seconds = time.monotonic() - begin_s
            output.seek(0)
            text = output.read().decode(errors="replace")
        if status:
            raise BenchError(f"{argv[0]}: {text.strip()[-_SHOWN_CHARS:] or f'status {status}'}")
        return seconds, text

    def step(self, name: str, *argv: str | Path) -> dict[str, Any]:
        """What a function of `tests.bench.steps` returns, run in a process that can be killed."""
        _seconds, text = self.run(sys.executable, "-m", "tests.bench.steps", name, *argv)
        value: dict[str, Any] = json.loads(text)
        return value

    def usage(self) -> Usage:
        """What the daemon has used until now."""
        folder = Path("/proc") / str(self._daemon.pid)
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        user, system = int(fields[11]), int(fields[12])  # proc(5): utime, stime
        return Usage(
            cpu_s=(user + system) / _TICKS_PER_S,
            peak_rss_bytes=int(status["VmHWM"].split()[0]) * 1024,
        )

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """A program that waits for a file system cannot be killed before that one ends."""
        if process.poll() is not None:
            return
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
            return
        self._daemon.kill()
        mounts.detach_by_force(self.path)
        process.wait(KILL_TIMEOUT_S)


@contextmanager
def mounted(
    tool: Tool, endpoint: str, bucket: str, timeout_s: float, keep_log: Path | None
) -> Iterator[Mount]:
    """A fresh mount of the bucket; gone afterwards with its processes and folders, whatever happened."""
    folder = Path(tempfile.mkdtemp(prefix=f"objfs-bench-{tool.name}-"))
    spot = Spot(endpoint=endpoint, bucket=bucket, mountpoint=folder / "mnt", folder=folder)
    spot.mountpoint.mkdir()
    spot.cache.mkdir()
    (folder / "rclone.conf").touch(mode=0o600)
    output = folder / "output"
    command = tool.command(spot)
    with output.open("wb") as file:
        daemon = subprocess.Popen(
            command.argv,
            env=command.environment,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    mount = Mount(spot, daemon, timeout_s)
    try:
        _wait_until_mounted(spot, daemon, output)
        mount.run("stat", spot.mountpoint)
        yield mount
    finally:
        _leave(spot, daemon)
        if keep_log is not None:
            keep_log.parent.mkdir(parents=True, exist_ok=True)
            keep_log.write_bytes(b"".join(path.read_bytes() for path in (output, spot.log) if path.exists()))
        shutil.rmtree(folder)


def _wait_until_mounted(spot: Spot, daemon: subprocess.Popen[bytes], output: Path) -> None:
    deadline_s = time.monotonic() + MOUNT_TIMEOUT_S
    while mounts.find_mount(spot.mountpoint) is None:
        if daemon.poll() is not None:
            text = output.read_text(errors="replace").strip()
            raise BenchError(f"no mount: {text[-_SHOWN_CHARS:] or f'status {daemon.returncode}'}")
        if time.monotonic() > deadline_s:
            raise BenchError(f"no mount after {MOUNT_TIMEOUT_S:.0f} s")
        time.sleep(0.02)


def _leave(spot: Spot, daemon: subprocess.Popen[bytes]) -> None:
    """In order if it can be, by force if not."""
    try:
        if mounts.find_mount(spot.mountpoint) is not None and daemon.poll() is None:
            subprocess.run(
                ["fusermount3", "-u", spot.mountpoint],
                check=False,
                capture_output=True,
                timeout=LEAVE_TIMEOUT_S,
            )
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(LEAVE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if daemon.poll() is None:
            daemon.kill()
        while mounts.find_mount(spot.mountpoint) is not None:
            if not mounts.detach_by_force(spot.mountpoint):
                raise BenchError(f"{spot.mountpoint} stays mounted")
        daemon.wait(KILL_TIMEOUT_S)
