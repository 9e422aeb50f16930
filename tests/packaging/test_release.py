"""What is released: sdist and wheel hold what they must and nothing else, and work in a clean environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).parents[2]
TIMEOUT_S = 600.0
SHARED = (
    "share/man/man1/objfs.1",
    "share/bash-completion/completions/objfs",
    "share/zsh/site-functions/_objfs",
    "share/fish/vendor_completions.d/objfs.fish",
    "share/objfs/systemd/install",
)

pytestmark = pytest.mark.skipif(
    not (os.environ.get("OBJFS_TEST_RELEASE") or os.environ.get("OBJFS_SOAK")),
    reason="builds and installs from the package index, some minutes: make release-check",
)


def run(*argv: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program that must succeed; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in argv],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def tracked(*folders: str) -> set[str]:
    """Files of the checkout below folders, without what is made while it is used."""
    return {
        str(path.relative_to(CHECKOUT))
        for folder in folders
        for path in (CHECKOUT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, which is built from the sdist."""
    return next(sdist.parent.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean virtual environment with the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    return folder


def test_the_version_is_in_one_place(wheel: Path, sdist: Path) -> None:
    assert wheel.name == f"objfs-{__version__}-py3-none-any.whl"
    assert sdist.name == f"objfs-{__version__}.tar.gz"
    said = [
        path
        for path in sorted(tracked("objfs", "cache", "systemd", ".ci") | {"pyproject.toml", "Makefile"})
        if re.search(rf"\b{re.escape(__version__)}\b", (CHECKOUT / path).read_text())
    ]
    assert said == ["objfs/__init__.py"]


def test_the_index_would_take_them(wheel: Path, sdist: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)


def test_the_wheel_holds_the_packages_and_what_a_system_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        installer = archive.getinfo(f"objfs-{__version__}.data/data/share/objfs/systemd/install")
    packages = tracked("objfs") | {
        name.removeprefix("cache/") for name in tracked("cache") if name.startswith("cache/objfs_cache/")
    }
    data = f"objfs-{__version__}.data/data/"
    shared = {name.removeprefix(data) for name in names if name.startswith(data)}
    assert shared == {*SHARED, *(f"share/objfs/{name}" for name in tracked("systemd"))}
    rest = {name for name in names if ".data/" not in name and ".dist-info/" not in name}
    assert rest == packages
    assert installer.external_attr >> 16 & 0o111


def test_the_sdist_holds_what_its_tests_and_units_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    wanted = tracked("objfs", "cache", "systemd", "tests", ".ci")
    assert wanted <= names
    assert tops == {
        *(
            ".ci",
            ".gitignore",
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            "LICENSE",
            "Makefile",
            "PKG-INFO",
            "README.md",
        ),
        *("cache", "objfs", "pyproject.toml", "systemd", "tests"),
    }


def test_it_runs_where_only_the_wheel_is(installed: Path, tmp_path: Path) -> None:
    objfs = installed / "bin" / "objfs"
    assert run(objfs, "--version").startswith(f"objfs {__version__}\n")
    for name in SHARED:
        assert (installed / name).exists(), name
    for name in ("objects", "mnt"):
        (tmp_path / name).mkdir()
    here = {"OBJFS_RUNTIME_DIR": str(tmp_path / "run"), "OBJFS_CACHE_DIR": str(tmp_path / "cache")}
    here |= {"OBJFS_LOG_FILE": str(tmp_path / "log"), "PYTHONPATH": ""}
    run(objfs, "mount", f"file://{tmp_path}/objects", tmp_path / "mnt", environment=here)
    try:
        (tmp_path / "mnt" / "a").write_text("hello")
        assert (tmp_path / "mnt" / "a").read_text() == "hello"
    finally:
        run(objfs, "umount", tmp_path / "mnt", environment=here)
    assert (tmp_path / "objects" / "a").read_text() == "hello"
    assert run(installed / "bin" / "python", "-m", "pip", "check") == "No broken requirements found.\n"


def test_units_can_be_installed_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    objfs = installed / "bin" / "objfs"
    run(installed / "share/objfs/systemd/install", objfs, environment={"DESTDIR": str(tmp_path)})
    unit = (tmp_path / "etc/systemd/system/objfs@.service").read_text()
    assert f"ExecStart={objfs} mount --foreground %i" in unit
    assert (tmp_path / "usr/sbin/mount.objfs").readlink() == installed / "bin" / "mount.objfs"
    assert (tmp_path / "usr/local/share/man/man1/objfs.1").readlink() == installed / "share/man/man1/objfs.1"
    run(installed / "share/objfs/systemd/install", "--remove", environment={"DESTDIR": str(tmp_path)})
    assert [path for path in tmp_path.rglob("*") if not path.is_dir() or path.is_symlink()] == []
