"""A booted systemd in a container (systemd-nspawn), with the objfs of this checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT = Path(__file__).parents[2]
PACKAGES = (
    "systemd,systemd-sysv,dbus,libpam-systemd,dbus-user-session,python3,fuse3,libfuse3-3,ca-certificates,libssl3,libffi8,libsqlite3-0,"
    "libexpat1,zlib1g,libbz2-1.0,liblzma5,libreadline8,procps"
)
AUTOFS, FUSE = "/dev/autofs", "/dev/fuse"
BUILD_TIMEOUT_S = 900.0
BOOT_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 120.0
RESTART_TIMEOUT_S = 60.0


def missing() -> str | None:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    for tool in ("systemd-nspawn", "nsenter", "debootstrap"):
        if shutil.which(tool) is None and not (tool == "debootstrap" and _root().exists()):
            return f"{tool} is missing"
    return None if Path(FUSE).exists() else f"{FUSE} is missing"


def _root(packages: str = PACKAGES) -> Path:
    cache = os.environ.get("OBJFS_TEST_CACHE")
    folder = Path(cache) if cache else Path.home() / ".cache" / "objfs-tests"
    return folder / f"debian-{hashlib.sha256(packages.encode()).hexdigest()[:8]}"


def build_root() -> Path:
    """A small Debian with systemd and what objfs's Python needs, made once and kept outside the checkout."""
    return _build(PACKAGES)


def build_base() -> Path:
    """A Debian with nothing but its base system, kept likewise."""
    return _build("")


def _build(packages: str) -> Path:
    root = _root(packages)
    if not root.exists():
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        more = [f"--include={packages}"] if packages else []
        command = ["debootstrap", "--variant=minbase", *more, _suite(), str(part)]
        subprocess.run(command, check=True, capture_output=True, timeout=BUILD_TIMEOUT_S)
        part.rename(root)
    return root


def _suite() -> str:
    """The host's release of Debian: libfuse3 and Python's libraries are to be the same."""
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    return "stable"


class Machine:
    """One container: files below `root`, commands inside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def file(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the machine, booted or not."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def boot(self) -> None:
        """Boot, and wait until all units have started or failed."""
        seen = [sys.prefix, str(CHECKOUT)] + ([sys.base_prefix] if sys.base_prefix != "/usr" else [])
        binds = [f"--bind-ro={path}" for path in seen]
        binds += [f"--bind={self._make_fuse_device()}:{FUSE}"]
        binds += [f"--bind={AUTOFS}"] if Path(AUTOFS).exists() else []
        (self.root / "root").chmod(0o755)  # Python may be below it, and users run it, too
        command = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no", "--keep-unit"]
        with (self.root.parent / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [*command, *binds, "--console=pipe", "-b"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self.wait(self._find_leader, BOOT_TIMEOUT_S)
        self.wait(
            lambda: self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"),
            BOOT_TIMEOUT_S,
        )

    def _make_fuse_device(self) -> Path:
        """A device for everybody, as udev makes it; the mode of the host's own is none of ours."""
        device = self.root.parent / "fuse"
        os.mknod(device, stat.S_IFCHR, os.stat(FUSE).st_rdev)
        device.chmod(0o666)
        return device

    def power_off(self) -> None:
        """Shut down in order; by force if that takes too long."""
        if self._process is None:
            return
        if self._process.poll() is None and self._leader:
            self.try_run("systemctl", "poweroff", "--no-block")
        try:
            self._process.wait(COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def run(self, *argv: str) -> str:
        """Run a command inside, which must succeed; returns what it printed."""
        done = self.try_run(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}{self.journal()}"
        return done.stdout

    def try_run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        enter = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        clean = ["env", "-i", f"PATH={sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
        return subprocess.run(
            [*enter, *clean, *argv], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )

    def add_user(self, name: str) -> None:
        """An ordinary user, whose services may run without a login."""
        self.run("useradd", "--create-home", name)
        self.run("loginctl", "enable-linger", name)

    def try_as(self, user: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside as an ordinary user, in the user's home."""
        uid = self.run("id", "-u", user).strip()
        become = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--init-groups",
            "env",
            "-C",
            f"/home/{user}",
        ]
        return self.try_run(*become, f"HOME=/home/{user}", f"XDG_RUNTIME_DIR=/run/user/{uid}", *argv)

    def run_as(self, user: str, *argv: str) -> str:
        """Run a command inside as an ordinary user, which must succeed."""
        done = self.try_as(user, *argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def show(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", key, "--value", unit).strip()

    def journal(self, unit: str = "objfs@*") -> str:
        """The log of a unit."""
        return self.try_run("journalctl", "--no-pager", "--output=cat", "--unit", unit).stdout

    def wait(self, holds: Callable[[], bool], timeout_s: float = RESTART_TIMEOUT_S) -> None:
        """Wait until something holds; fails after the time."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, self.journal() if self._leader else "no systemd came up"
            time.sleep(0.1)

    def _find_leader(self) -> bool:
        """Look for the machine's init: the only child of systemd-nspawn."""
        assert self._process is not None
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            name = Path(f"/proc/{children[0]}/comm").read_text().strip() if children else ""
        except OSError:
            return False
        if name == "systemd":
            self._leader = int(children[0])
        return name == "systemd"


@contextmanager
def a_machine() -> Iterator[Machine]:
    """A machine that is not booted yet, with the units installed; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="objfs-machine-"))
    machine = Machine(folder / "root")
    subprocess.run(["cp", "-a", "--reflink=auto", str(build_root()), str(machine.root)], check=True)
    installer = [str(CHECKOUT / "systemd" / "install"), f"{sys.prefix}/bin/objfs"]
    environment = {**os.environ, "DESTDIR": str(machine.root)}
    subprocess.run(installer, check=True, capture_output=True, env=environment)
    try:
        yield machine
    finally:
        machine.power_off()
        shutil.rmtree(folder)
