"""The README's way to install, on a Debian with nothing but its base system."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs import __version__
from tests.readme import CHECKOUT, readme_commands
from tests.systemd.machine import FUSE, build_base, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_TIMEOUT_S = 900.0
AUTHORITIES = (
    "/opt/authorities.crt"  # where the host's own certificates are seen, for networks that have some
)
PATH = "/root/.local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PARTS = (".ci", "cache", "objfs", "systemd", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")

pytestmark = pytest.mark.skipif(
    not (os.environ.get("OBJFS_TEST_RELEASE") or os.environ.get("OBJFS_SOAK")),
    reason="installs a Debian and from the package index, some minutes: make release-check",
)


class Debian:
    """A root file system in which commands are run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, command: str) -> str:
        """Run a line of shell in the checkout, which must succeed; returns what it printed."""
        variables = [f"PATH={PATH}", "HOME=/root", "LC_ALL=C.UTF-8"]
        binds = [f"--bind={FUSE}"]
        if own := os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE"):
            binds.append(f"--bind-ro={own}:{AUTHORITIES}")
            variables += [f"{name}={AUTHORITIES}" for name in ("PIP_CERT", "SSL_CERT_FILE")]
        container = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no", "--keep-unit"]
        container += ["--resolv-conf=copy-host", "--console=pipe", "--chdir=/root/objfs", *binds]
        done = subprocess.run(
            [*container, "/usr/bin/env", "-i", *variables, "bash", "-euc", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def debian() -> Iterator[Debian]:
    """The base system with the checkout at /root/objfs."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="objfs-debian-"))
    root = folder / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(build_base()), str(root)], check=True)
    checkout = root / "root" / "objfs"
    checkout.mkdir()
    for part in PARTS:
        source = CHECKOUT / part
        if source.is_dir():
            shutil.copytree(source, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, checkout / part)
    yield Debian(root)
    shutil.rmtree(folder)


def test_pipx_as_the_readme_tells(debian: Debian) -> None:
    debian.run("apt-get update")
    commands = readme_commands("tests/packaging/test_debian.py")
    assert [command.split()[0] for _is_root, command in commands] == ["apt-get", "pipx", "pipx"]
    for _is_root, command in commands:
        debian.run(f"export DEBIAN_FRONTEND=noninteractive; {command}")
    assert debian.run("objfs --version").startswith(f"objfs {__version__}\n")
    assert list((debian.root / "root" / ".local").rglob("share/man/man1/objfs.1"))
    debian.run(
        "mkdir -p /srv/objects ~/mnt; objfs mount file:///srv/objects ~/mnt; "
        "echo hi >~/mnt/a; objfs umount ~/mnt"
    )
    assert (debian.root / "srv" / "objects" / "a").read_text() == "hi\n"
