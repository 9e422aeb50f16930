"""Programs that are hard on a file system, on a real mount, beside a plain file or a plain folder."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.fuse import proxy as faults
from tests.fuse.mounting import mounted
from tests.fuse.proxy import Proxy
from tests.fuse.test_tools import facts, make_tree, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fuse.conftest import Bucket
    from tests.servers import Server

SOAK = bool(os.environ.get("OBJFS_SOAK"))
STEPS = 4000 if SOAK else 400
LONGEST_BYTES = 2_000_000

# -- fsx: random changes of one file, checked against a plain one -------------------------------------


class Exerciser:
    """The same random operations on two files; after each read both must agree."""

    def __init__(self, tried: Path, plain: Path, seed: int) -> None:
        self._chance = random.Random(seed)
        self._files = (tried, plain)
        self._open()
        self.history: list[str] = []

    def _open(self) -> None:
        self._fds = [os.open(file, os.O_RDWR | os.O_CREAT) for file in self._files]

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def step(self) -> None:
        """One operation on both."""
        steps = (self._write, self._write, self._read, self._read, self._truncate, self._map, self._append)
        rare = (self._reopen, self._sync, self._rename)
        self._chance.choice(steps if self._chance.random() < 0.95 else rare)()

    def _range(self) -> tuple[int, int]:
        start = self._chance.randrange(LONGEST_BYTES)
        return start, self._chance.choice((1, 100, 4096, 10_000, 131_072, 300_000))

    def _write(self) -> None:
        start, length = self._range()
        data = self._chance.randbytes(length)
        self.history.append(f"write {start}+{length}")
        for fd in self._fds:
            assert os.pwrite(fd, data, start) == length

    def _append(self) -> None:
        data = self._chance.randbytes(self._chance.choice((1, 5000)))
        self.history.append(f"append {len(data)}")
        for file in self._files:
            with file.open("ab") as opened:
                opened.write(data)

    def _read(self) -> None:
        start, length = self._range()
        self.history.append(f"read {start}+{length}")
        tried, plain = (os.pread(fd, length, start) for fd in self._fds)
        assert tried == plain, self.history[-30:]

    def _truncate(self) -> None:
        length = self._chance.randrange(LONGEST_BYTES)
        self.history.append(f"truncate {length}")
        for fd in self._fds:
            os.ftruncate(fd, length)

    def _map(self) -> None:
        size = os.fstat(self._fds[1]).st_size
        if not size:
            return
        start = self._chance.randrange(size)
        data = self._chance.randbytes(min(size - start, 10_000))
        self.history.append(f"map {start}+{len(data)}")
        for fd in self._fds:
            with mmap.mmap(fd, size) as mapped:
                mapped[start : start + len(data)] = data
                mapped.flush()

    def _reopen(self) -> None:
        self.history.append("reopen")
        self.close()
        self._open()
        self.compare()

    def _sync(self) -> None:
        self.history.append("sync")
        os.fsync(self._fds[0])

    def _rename(self) -> None:
        self.history.append("rename")
        tried = self._files[0].with_name(f"r{self._chance.randrange(5)}")
        self._files[0].rename(tried)
        self._files = (tried, self._files[1])

    def compare(self) -> None:
        """Both are the same."""
        tried, plain = (file.read_bytes() for file in self._files)
        assert len(tried) == len(plain), self.history[-30:]
        assert tried == plain, self.history[-30:]


@pytest.mark.parametrize("delay", ["0s", "1h"])
def test_random_changes_of_a_file(delay: str, minio_bucket: Bucket, tmp_path: Path) -> None:
    seed = int(os.environ.get("OBJFS_TEST_SEED") or random.randrange(1 << 32))
    with mounted(minio_bucket.url, environment=minio_bucket.environment, upload_delay=delay) as mount:
        exerciser = Exerciser(mount.path / "f", tmp_path / "plain", seed)
        for number in range(STEPS):
            exerciser.step()
            if number % 100 == 99:
                exerciser.compare()
        exerciser.close()
        exerciser.compare()
        mount.umount()
        found = minio_bucket.contents()
        assert list(found.values()) == [(tmp_path / "plain").read_bytes()], f"OBJFS_TEST_SEED={seed}"


def test_fio_verifies(minio_bucket: Bucket) -> None:
    with mounted(minio_bucket.url, environment=minio_bucket.environment, upload_delay="0s") as mount:
        for pattern in ("write", "randwrite"):
            run("fio", "--name=job", f"--directory={mount.path}", f"--rw={pattern}", "--bs=16k", "--size=8M",
                "--numjobs=2", "--verify=crc32c", "--verify_fatal=1", "--ioengine=psync", "--end_fsync=1",
                "--fallocate=none", "--output=/dev/null", f"--aux-path={mount.place.folder}")  # fmt: skip


# -- databases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_sqlite_with_two_writers_that_are_killed(mode: str, file_bucket: Bucket) -> None:
    program = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=30)
number = 0
while True:
    with database:
        database.execute("INSERT INTO t VALUES (?, ?, ?)", (int(sys.argv[2]), number, bytes(3000)))
    number += 1
    print(number, flush=True)
    time.sleep(0.01)  # SQLite's locks are not fair
"""
    with mounted(file_bucket.url) as mount:
        path = mount.path / "db"
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA journal_mode={mode}")
            database.execute("CREATE TABLE t (who INTEGER, number INTEGER, data BLOB)")
            database.commit()
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", program, path, str(who)], stdout=subprocess.PIPE, text=True
            )
            for who in range(2)
        ]
        told = [0, 0]

        def follow(who: int) -> None:
            output = writers[who].stdout
            assert output is not None
            for line in output:
                told[who] = int(line)
                if told[who] >= 20:
                    break

        threads = [threading.Thread(target=follow, args=(who,)) for who in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for writer in writers:
            writer.kill()
            writer.communicate()
        mount.kill()
        mount.mount_again()
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            for who in range(2):
                found = database.execute("SELECT count(*) FROM t WHERE who = ?", (who,)).fetchone()[0]
                assert found >= told[who] >= 20


# -- trees ------------------------------------------------------------------------------------------


def test_git_and_a_build_while_some_requests_fail(
    minio_bucket: Bucket, minio: Server, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    make_tree(origin)
    (origin / "empty").rmdir()
    build = origin / "build"
    build.mkdir()
    names = [f"m{number}" for number in range(12)]
    for name in names:
        (build / f"{name}.c").write_text(f'#include "all.h"\nint {name}(void) {{ return {name[1:]}; }}\n')
    (build / "all.h").write_text("".join(f"int {name}(void);\n" for name in names))
    total = " + ".join(f"{name}()" for name in names)
    (build / "main.c").write_text(f'#include "all.h"\nint main(void) {{ return {total}; }}\n')
    objects = " ".join(f"{name}.o" for name in ["main", *names])
    (build / "Makefile").write_text(f"prog: {objects}\n\tcc -o $@ $^\n%.o: %.c all.h\n\tcc -c -o $@ $<\n")
    run("git", "init", "-q", "-b", "main", cwd=origin)
    run("git", "add", "-A", cwd=origin)
    run("git", "commit", "-q", "-m", "first", cwd=origin)
    kinds = (
        faults.status(500, "InternalError"),
        faults.status(503, "SlowDown"),
        faults.reset,
        faults.lose_answer,
        faults.stall(1.0),
        faults.truncated,
        faults.corrupted,
        faults.stall_in_body(1.0),
    )
    of_bodies = kinds[-3:]
    with Proxy(minio.host, seed=5) as proxy:
        for action in kinds:
            chosen = frozenset({"get"}) if action in of_bodies else faults.ANY
            proxy.rule(chosen, action, chance=0.06 * (1 + kinds.index(action)) / len(kinds))
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(
            url, environment=minio_bucket.environment, upload_delay="0s", metadata_ttl="1s"
        ) as mount:
            clone = mount.path / "clone"
            run("git", "clone", "-q", "--no-hardlinks", origin, clone)
            run("make", "-j4", "-s", cwd=clone / "build")
            assert subprocess.run([clone / "build" / "prog"], check=False).returncode == sum(range(12))
            assert run("make", "-s", cwd=clone / "build") == ""
            run("git", "add", "-A", cwd=clone)
            run("git", "commit", "-q", "-m", "built", cwd=clone)
            run("git", "gc", "-q", cwd=clone)
            run("git", "fsck", "--strict", cwd=clone)
            mount.drain()
            assert mount.status().uploads.conflicts == 0
            assert mount.status().uploads.parked_count == 0
            assert sum(proxy.struck.values()) > 2
            expected = facts(clone)
        proxy.heal()
        with mounted(url, environment=minio_bucket.environment) as mount:
            assert facts(mount.path / "clone") == expected
            assert run("git", "status", "--porcelain", cwd=mount.path / "clone") == ""


def test_a_virtual_environment(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        venv = mount.path / "venv"
        run(sys.executable, "-m", "venv", "--without-pip", "--copies", venv)
        assert run(venv / "bin" / "python", "-c", "import json; print(json.dumps(1))").strip() == "1"


def test_rsync_with_extended_attributes(file_bucket: Bucket, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    make_tree(tree)
    with mounted(file_bucket.url, xattrs=True) as mount:
        copy = mount.path / "copy"
        run("cp", "-a", tree, mount.path / "source")
        assert facts(mount.path / "source") == facts(tree)
        for number, path in enumerate(sorted((mount.path / "source").rglob("*.bin"))):
            os.setxattr(path, "user.number", b"%d" % number)
        run("rsync", "-aX", f"{mount.path}/source/", f"{copy}/")
        assert run("rsync", "-aX", "--itemize-changes", f"{mount.path}/source/", f"{copy}/") == ""
        for number, path in enumerate(sorted(copy.rglob("*.bin"))):
            assert os.getxattr(path, "user.number") == b"%d" % number
    with mounted(file_bucket.url, xattrs=True) as mount:
        copy = mount.path / "copy"
        assert run("rsync", "-aX", "--itemize-changes", f"{mount.path}/source/", f"{copy}/") == ""
        assert facts(copy) == facts(tree)


# -- processes --------------------------------------------------------------------------------------


def test_locks_between_processes(file_bucket: Bucket) -> None:
    program = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    lock = fcntl.flock if sys.argv[2] == "flock" else fcntl.lockf
    try:
        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(7)
"""
    with mounted(file_bucket.url) as mount:
        path = mount.path / "f"
        path.write_bytes(b"x")
        for name, lock in (("flock", fcntl.flock), ("fcntl", fcntl.lockf)):
            command: list[str | Path] = [sys.executable, "-c", program, path, name]
            with path.open("r+") as file:
                lock(file, fcntl.LOCK_EX)
                assert subprocess.run(command, check=False).returncode == 7, name
                lock(file, fcntl.LOCK_UN)
                assert subprocess.run(command, check=False).returncode == 0, name


def test_counting_by_several_processes(file_bucket: Bucket) -> None:
    """Read, add one, replace: under a lock nothing is lost."""
    program = """
import fcntl, os, sys
folder = sys.argv[1]
for _ in range(25):
    with open(f"{folder}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        number = int(open(f"{folder}/count").read())
        with open(f"{folder}/count.tmp", "w") as file:
            file.write(str(number + 1))
        os.rename(f"{folder}/count.tmp", f"{folder}/count")
    with open(f"{folder}/log", "a") as log:
        log.write("line\\n")
"""
    with mounted(file_bucket.url, upload_delay="0s") as mount:
        (mount.path / "count").write_text("0")
        workers = [subprocess.Popen([sys.executable, "-c", program, mount.path]) for _ in range(4)]
        assert [worker.wait(60) for worker in workers] == [0] * 4
        assert (mount.path / "count").read_text() == "100"
        assert (mount.path / "log").read_text() == "line\n" * 100
    assert file_bucket.contents()["count"] == b"100"


# -- open files -------------------------------------------------------------------------------------


def test_open_files_outlive_their_names(bucket: Bucket) -> None:
    for name in ("unlinked", "replaced", "below/moved", "overwritten"):
        bucket.store.put(name, name.encode() * 100_000)
    with mounted(bucket.url, environment=bucket.environment, upload_delay="0s", cache_size="16M") as mount:
        opened = {name: (mount.path / name).open("rb", buffering=0) for name in ("unlinked", "replaced")}
        moved = (mount.path / "below" / "moved").open("r+b", buffering=0)
        (mount.path / "unlinked").unlink()
        (mount.path / "new").write_bytes(b"new")
        (mount.path / "new").rename(mount.path / "replaced")
        (mount.path / "below").rename(mount.path / "above")
        mount.drain()
        for name, file in opened.items():
            assert file.read() == name.encode() * 100_000, name
            assert os.fstat(file.fileno()).st_size == len(name) * 100_000
            file.close()
        moved.seek(5)
        moved.write(b"CHANGED")
        moved.close()
        expected = b"below/moved" * 100_000
        expected = expected[:5] + b"CHANGED" + expected[12:]
        assert (mount.path / "above" / "moved").read_bytes() == expected
        with (mount.path / "gone").open("w+b") as nameless:
            (mount.path / "gone").unlink()
            nameless.write(b"nobody sees it")
            nameless.seek(0)
            assert nameless.read() == b"nobody sees it"
    found = bucket.contents()
    assert found["above/moved"] == expected
    assert found["replaced"] == b"new"
    assert not found.keys() & {"unlinked", "gone", "below/moved"}


def test_a_map_written_after_close(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="0s") as mount:
        path = mount.path / "f"
        path.write_bytes(bytes(100_000))
        fd = os.open(path, os.O_RDWR)
        mapped = mmap.mmap(fd, 100_000)
        os.close(fd)
        mount.drain()
        mapped[50_000:50_005] = b"later"
        mapped.flush()
        mapped.close()
        mount.umount()
        assert bucket.contents()["f"] == bytes(50_000) + b"later" + bytes(49_995)


# -- errors of a disk -------------------------------------------------------------------------------


def test_the_errors_of_a_disk(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        root = mount.path
        (root / "d" / "e").mkdir(parents=True)
        (root / "d" / "f").write_bytes(b"x")
        (root / "f").write_bytes(b"y")
        (root / "empty").mkdir()
        (root / "l").symlink_to("nowhere")
        cases: list[tuple[int, Callable[[], object]]] = [
            (errno.ENOTEMPTY, lambda: (root / "d").rmdir()),
            (errno.ENOTDIR, lambda: (root / "f").rmdir()),
            (errno.EISDIR, lambda: (root / "d").unlink()),
            (errno.ENOENT, lambda: (root / "none").unlink()),
            (errno.EEXIST, lambda: (root / "d").mkdir()),
            (errno.EEXIST, lambda: (root / "l").mkdir()),
            (errno.ENOENT, lambda: (root / "none" / "d").mkdir()),
            (errno.ENOTDIR, lambda: (root / "f" / "d").mkdir()),
            (errno.ENOTEMPTY, lambda: (root / "empty").rename(root / "d")),
            (errno.EISDIR, lambda: (root / "f").rename(root / "d")),
            (errno.ENOTDIR, lambda: (root / "d").rename(root / "f")),
            (errno.EINVAL, lambda: (root / "d").rename(root / "d" / "e" / "x")),
            (errno.ENAMETOOLONG, lambda: (root / ("n" * 256)).touch()),
            (errno.ENAMETOOLONG, lambda: (root / ("n" * 256)).stat()),
            (errno.EPERM, lambda: os.link(root / "f", root / "hard")),
            (errno.EINVAL, lambda: os.readlink(root / "f")),
            (errno.ENOENT, lambda: (root / "l").read_bytes()),
            (errno.ENAMETOOLONG, lambda: os.symlink("t" * 4096, root / "long")),
        ]
        for number, (wanted, attempt) in enumerate(cases):
            with pytest.raises(OSError, match=r".") as caught:
                attempt()
            assert caught.value.errno == wanted, (number, caught.value)
        (root / "d").rename(root / "empty")
        assert (root / "empty" / "f").read_bytes() == b"x"
        (root / "empty" / "f").rename(root / "f")
        assert (root / "f").read_bytes() == b"x"
        space = os.statvfs(root)
        assert space.f_bavail * space.f_frsize > 1 << 40
        assert space.f_namemax == 255


# -- limits of a store ------------------------------------------------------------------------------


def test_a_directory_whose_name_is_too_long_for_minio(minio_bucket: Bucket) -> None:
    with mounted(minio_bucket.url, environment=minio_bucket.environment, allow_errors=True) as mount:
        name = "d" * 247
        (mount.path / "parent" / name).mkdir(parents=True)
        (mount.path / "parent" / name / "f").write_bytes(b"f")
        (mount.path / "parent" / ("e" * 246)).mkdir()
        mount.drain()
        (parked,) = mount.status().uploads.parked
        assert parked.key == f"parent/{name}"
        assert minio_bucket.contents()[f"parent/{name}/f"] == b"f"
        assert f"parent/{'e' * 246}/" in minio_bucket.contents()
        (mount.path / "parent" / name).rename(mount.path / "parent" / "short")
        mount.drain()
        assert mount.status().uploads.parked_count == 0
        mount.umount()
    found = minio_bucket.contents()
    assert found.pop("parent/short/f") == b"f"
    assert set(found) == {"parent/", "parent/short/", f"parent/{'e' * 246}/"}
