"""Ordinary programs on a real mount, then the same bytes through a fresh mount with an empty cache."""

from __future__ import annotations

import filecmp
import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuse.conftest import Bucket


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """The output of a program that must succeed."""
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{
            f"GIT_{who}_{what}": "t@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def make_tree(folder: Path, files: int = 60) -> None:
    """Files of many sizes, empty folders, symlinks, modes, old times."""
    chance = random.Random(7)
    for number in range(files):
        path = folder / f"d{number % 7}" / f"sub {number % 3}" / f"file-{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.choice([0, 1, 100, 4096, 70_000, 300_000])))
        os.utime(path, (1_500_000_000 + number, 1_600_000_000 + number))
        path.chmod(chance.choice([0o644, 0o600, 0o755]))
    (folder / "ünïcode ✓").write_text("x")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("d0/sub 0")
    (folder / "dangling").symlink_to("no/such/file")


def facts(folder: Path) -> dict[str, tuple[object, ...]]:
    """Type, mode, time and content of everything below a folder."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        stat = path.lstat()
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("directory", stat.st_mode)
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = ("file", stat.st_mode, int(stat.st_mtime), stat.st_size, digest)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    make_tree(folder)
    return folder


def test_copy_move_find_remove(bucket: Bucket, tree: Path) -> None:
    expected = facts(tree)
    with mounted(bucket.url, environment=bucket.environment) as mount:
        run("cp", "-a", tree, mount.path / "copy")
        assert facts(mount.path / "copy") == expected
        run("diff", "-r", "--no-dereference", tree, mount.path / "copy")
        run("mv", mount.path / "copy", mount.path / "moved")
        assert facts(mount.path / "moved") == expected
        found = run("find", ".", "-type", "f", "-size", "+50k", cwd=mount.path / "moved")
        assert sorted(found.split("\n")) == sorted(
            run("find", ".", "-type", "f", "-size", "+50k", cwd=tree).split("\n")
        )
        run("cp", "-a", mount.path / "moved" / "d1", mount.path / "d1")
        run("rm", "-r", mount.path / "moved" / "d1")
        assert not (mount.path / "moved" / "d1").exists()
    with mounted(bucket.url, environment=bucket.environment) as mount:
        moved = facts(mount.path / "moved")
        assert moved == {name: value for name, value in expected.items() if name.split("/")[0] != "d1"}
        assert facts(mount.path / "d1") == facts(tree / "d1")
        run("rm", "-rf", mount.path / "moved", mount.path / "d1")
        assert list(mount.path.iterdir()) == []
    assert bucket.contents() == {}


def test_tar_and_rsync(bucket: Bucket, tree: Path) -> None:
    expected = facts(tree)
    with mounted(bucket.url, environment=bucket.environment) as mount:
        run("tar", "cf", mount.path / "tree.tar", "-C", tree, ".")
        (mount.path / "out").mkdir()
        run("tar", "xpf", mount.path / "tree.tar", "-C", mount.path / "out")
        assert facts(mount.path / "out") == expected
        run("rsync", "-a", f"{tree}/", mount.path / "synced/")
        assert run("rsync", "-a", "--itemize-changes", f"{tree}/", mount.path / "synced/") == ""
    with mounted(bucket.url, environment=bucket.environment) as mount:
        assert facts(mount.path / "out") == expected
        assert run("rsync", "-a", "--itemize-changes", f"{tree}/", mount.path / "synced/") == ""
        assert run("rsync", "-a", "--checksum", "--itemize-changes", f"{tree}/", mount.path / "synced/") == ""


def test_dd_patches_a_file(bucket: Bucket, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(random.Random(1).randbytes(12 * 1024 * 1024 + 17))
    patch = tmp_path / "patch"
    patch.write_bytes(random.Random(2).randbytes(100_000))
    with mounted(bucket.url, environment=bucket.environment) as mount:
        file = mount.path / "file"
        shutil.copyfile(plain, file)
        mount.drain()
        assert filecmp.cmp(plain, file, shallow=False)
    with mounted(bucket.url, environment=bucket.environment) as mount:
        file = mount.path / "file"
        for offset in (3, 5_000_000, 12 * 1024 * 1024):
            for target in (plain, file):
                run("dd", f"if={patch}", f"of={target}", "bs=50000", f"seek={offset}",
                    "oflag=seek_bytes", "conv=notrunc", "status=none")  # fmt: skip
        assert filecmp.cmp(plain, file, shallow=False)
        for target in (plain, file):
            os.truncate(target, 9_000_001)
            run("dd", f"if={patch}", f"of={target}", "bs=1M", "oflag=append", "conv=notrunc", "status=none")
        assert filecmp.cmp(plain, file, shallow=False)
    with mounted(bucket.url, environment=bucket.environment) as mount:
        assert filecmp.cmp(plain, mount.path / "file", shallow=False)
        with (mount.path / "file").open("rb") as opened:
            opened.seek(7_654_321)
            assert opened.read(1000) == plain.read_bytes()[7_654_321:7_655_321]


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE"])
def test_sqlite(mode: str, bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment) as mount:
        with closing(sqlite3.connect(mount.path / "db")) as database:
            database.execute(f"PRAGMA journal_mode={mode}")
            database.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
            for number in range(30):
                with database:
                    database.execute("INSERT INTO t (b) VALUES (?)", (bytes([number]) * 5000,))
            database.execute("DELETE FROM t")
            database.rollback()
        assert run("sqlite3", mount.path / "db", "PRAGMA integrity_check").strip() == "ok"
    with mounted(bucket.url, environment=bucket.environment) as mount:
        count = "SELECT count(*), sum(length(b)) FROM t"
        assert run("sqlite3", mount.path / "db", count).strip() == "30|150000"


def test_git(bucket: Bucket, tmp_path: Path, tree: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    run("cp", "-a", f"{tree}/.", origin)
    (origin / "empty").rmdir()  # git keeps none
    run("git", "init", "-q", "-b", "main", cwd=origin)
    run("git", "add", "-A", cwd=origin)
    run("git", "commit", "-q", "-m", "first", cwd=origin)
    with mounted(bucket.url, environment=bucket.environment) as mount:
        clone = mount.path / "clone"
        run("git", "clone", "-q", "--no-hardlinks", origin, clone)
        run("git", "fsck", "--strict", cwd=clone)
        assert run("git", "status", "--porcelain", cwd=clone) == ""
        (clone / "new.txt").write_text("new\n")
        run("git", "add", "new.txt", cwd=clone)
        run("git", "commit", "-q", "-m", "second", cwd=clone)
        run("git", "gc", "-q", cwd=clone)
        run("git", "push", "-q", "origin", "main:pushed", cwd=clone)
        run("diff", "-r", "--no-dereference", "--exclude=.git", "--exclude=new.txt", origin, clone)
    with mounted(bucket.url, environment=bucket.environment) as mount:
        clone = mount.path / "clone"
        run("git", "fsck", "--strict", cwd=clone)
        assert run("git", "status", "--porcelain", cwd=clone) == ""
        assert run("git", "log", "--format=%s", cwd=clone).split() == ["second", "first"]


def test_everything_is_a_plain_object(bucket: Bucket, tree: Path) -> None:
    with mounted(bucket.url, environment=bucket.environment) as mount:
        run("cp", "-r", "--no-dereference", tree, mount.path / "tree")
    contents = bucket.contents()
    for path in tree.rglob("*"):
        key = f"tree/{path.relative_to(tree)}"
        if path.is_symlink():
            assert contents.pop(key) == os.fsencode(os.readlink(path))
        elif path.is_dir():
            assert contents.pop(f"{key}/") == b""
        else:
            assert contents.pop(key) == path.read_bytes()
    contents.pop("tree/")
    assert contents == {}
