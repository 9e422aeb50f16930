"""Every command in the README is run, in order, as a newcomer would; S3 and MinIO are a local MinIO."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from objfs import mounts
from objfs.config import split_mount_options
from tests import servers
from tests.fuse.mounting import Place, a_place
from tests.readme import CHECKOUT, README, Block, readme_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT_TIMEOUT_S = 180.0


def blocks(language: str) -> list[Block]:
    """Fenced blocks of a language."""
    return [block for block in readme_blocks() if block.language == language]


@contextmanager
def a_checkout() -> Iterator[Place]:
    """A copy of the checkout, with the virtual environment that runs the tests, and a home of its own."""
    if not (Path(sys.prefix) / "bin" / "objfs").exists():
        pytest.skip("objfs is not installed in the environment that runs the tests")
    with a_place() as place:
        copy = place.folder / "checkout"
        copy.mkdir()
        for name in ("objfs", "tests", ".ci", "systemd"):
            shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Makefile", "README.md", "pyproject.toml"):
            shutil.copy2(CHECKOUT / name, copy / name)
        (copy / ".venv").symlink_to(sys.prefix)
        (copy / ".make").mkdir()
        for level in ("run", "test", "check"):
            (copy / ".make" / level).touch()
        try:
            yield place
        finally:
            for entry in mounts.read_mounts():
                if place.folder in entry.mountpoint.parents:
                    mounts.detach_by_force(entry.mountpoint)


def run_script(place: Place, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in the checkout, with a home of its own."""
    unwanted = ("AWS_", "OBJFS_", "MAKE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment |= {
        "HOME": str(place.folder),
        "OBJFS_RUNTIME_DIR": place.environment["OBJFS_RUNTIME_DIR"],
        "OBJFS_CACHE_DIR": f"{place.folder}/.cache/objfs",  # as for an ordinary user; tests may run as root
        "OBJFS_LOG_FILE": f"{place.folder}/.local/state/objfs/log",
        **variables,
    }
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=place.folder / "checkout",
        env=environment,
        capture_output=True,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
        check=False,
    )


def test_demo_says_three_lines_and_can_be_repeated() -> None:
    with a_checkout() as place:
        demo = place.folder / "checkout" / "demo"
        first = run_script(place, "make demo")
        assert first.returncode == 0, first.stderr
        assert first.stderr == ""
        assert len(first.stdout.splitlines()) == 3
        (demo / "mnt" / "a").write_text("a")
        assert run_script(place, "make demo").stdout == first.stdout
        stopped = run_script(place, "make demo-stop")
        assert stopped.returncode == 0, stopped.stderr
        assert (demo / "objects").exists()
        assert mounts.find_mount(demo / "mnt") is None
        assert not place.processes()


def test_no_block_is_left_out() -> None:
    """Blocks of `sh` run below, `console` in the test that is named; `text` shows no other command."""
    assert {block.language for block in readme_blocks()} == {"sh", "console", "toml", "text"}
    assert README.count("```") == 2 * len(readme_blocks())
    for block in blocks("console"):
        assert "readme_commands(" in (CHECKOUT / block.test).read_text(), block.test
        assert all(line.startswith(("# ", "$ ")) for line in block.text.splitlines())
    picture, fstab = (block.text for block in blocks("text"))
    run_elsewhere = ("objfs mount s3://", "cp -r", "objfs status", "objfs umount", "aws s3 ls")
    shown = [line[2:] for line in picture.splitlines() if line.startswith("$ ")]
    assert all(line.startswith(run_elsewhere) for line in shown)
    source, _place, kind, options, *_ = fstab.split()
    assert (source.partition("://")[0], kind) == ("s3", "objfs")
    assert split_mount_options([options])["credentials_file"] == "/etc/objfs/key"


def test_the_configuration_of_the_readme() -> None:
    with a_place() as place:
        text = "\n".join(block.text for block in blocks("toml"))
        key = place.folder / "key"
        key.touch(0o600)
        config = place.folder / "config.toml"
        config.write_text(text.replace("/etc/objfs/photos.credentials", str(key)))
        done = place.run("config", "check")
        checked = subprocess.run(
            [sys.executable, "-m", "objfs", "config", "check"],
            env={**place.environment, "OBJFS_CONFIG": str(config)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, checked.returncode, checked.stderr) == (0, 0, "")
        shown = subprocess.run(
            [sys.executable, "-m", "objfs", "config", "show", "photos"],
            env={**place.environment, "OBJFS_CONFIG": str(config)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "50GiB" in shown.stdout


def test_all_commands_of_the_readme(minio: servers.Server) -> None:
    script = "\n".join(block.text for block in blocks("sh"))
    for name, value in {
        "your-key-id": servers.ACCESS_KEY,
        "your-secret-key": servers.SECRET_KEY,
        "https://s3.example.org": minio.endpoint,
        "minio.example.org:9000": minio.host,
        "make test": "make --dry-run test",  # this is it
    }.items():
        assert name in script
        script = script.replace(name, value)
    assert "example.org" not in script
    with a_checkout() as place:
        client = boto3.client(
            "s3",
            endpoint_url=minio.endpoint,
            region_name="us-east-1",
            aws_access_key_id=servers.ACCESS_KEY,
            aws_secret_access_key=servers.SECRET_KEY,
        )
        client.create_bucket(Bucket="bucket")
        done = run_script(
            place,
            script,
            AWS_ENDPOINT_URL=minio.endpoint,
            AWS_DEFAULT_REGION="us-east-1",
            PS4="",
            PATH=os.environ["PATH"],
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        assert (place.folder / "checkout" / "demo" / "objects" / "README.md").exists()
        assert not place.processes()
        client.close()
