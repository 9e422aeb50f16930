"""The installer of the units: what it writes for programs in open and in private folders."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SOMEBODY = 12345


def install(program: Path, destination: Path) -> tuple[str, str]:
    """What the installer says, and the unit it writes."""
    done = subprocess.run(
        [CHECKOUT / "systemd" / "install", program],
        env={**os.environ, "DESTDIR": str(destination)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, (destination / "etc/systemd/system/objfs@.service").read_text()


def capabilities(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet=")]


def test_a_program_that_all_may_run(tmp_path: Path) -> None:
    said, unit = install(Path("/bin/true"), tmp_path / "root")
    assert capabilities(unit) == ["CapabilityBoundingSet=CAP_SYS_ADMIN"]
    assert "ExecStart=/bin/true mount --foreground %i" in unit
    assert len(said.splitlines()) == 1


def test_a_program_in_a_private_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = home / "venv" / "bin" / "objfs"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    home.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(home, SOMEBODY, SOMEBODY)
    said, unit = install(program, tmp_path / "root")
    assert capabilities(unit) == ["CapabilityBoundingSet=CAP_SYS_ADMIN CAP_DAC_OVERRIDE"]
    assert "closed to others" in said


def test_what_is_no_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [CHECKOUT / "systemd" / "install", tmp_path / "none"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"objfs: {tmp_path}/none is no program\n")
