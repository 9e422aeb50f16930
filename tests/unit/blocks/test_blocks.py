"""The block cache: verified, bounded, never in the way, never a crash."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs_cache.blocks import CacheFormatError, open_block_cache

if TYPE_CHECKING:
    from objfs_cache.blocks import BlockCache

KIB = 1024
MIB = 1024 * KIB
LIMIT = 64 * MIB


def block(number: int, size: int = 64 * KIB) -> bytes:
    return number.to_bytes(4, "little") * (size // 4)


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("??/*") if path.is_file())


def fill(cache: BlockCache, object_id: str, count: int) -> None:
    assert cache.put_many(object_id, [(number, block(number)) for number in range(count)])


def test_get_returns_what_was_put(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 3)
        assert cache.put_many("a", [(3, memoryview(block(9))[:100]), (4, b"")])
        assert cache.get_many("a", range(6)) == [block(0), block(1), block(2), block(9)[:100], b"", None]
        assert cache.get("b", 0) is None
        stats = cache.stats()
    assert (stats.hits, stats.misses, stats.blocks, stats.bad_blocks) == (5, 2, 5, 0)
    assert 3 * 64 * KIB < stats.bytes < LIMIT == stats.limit_bytes


@pytest.mark.parametrize("object_id", ["", "a:1", "ü\n\x00", "\udc80", "x" * 5000])
def test_object_ids_are_opaque(tmp_path: Path, object_id: str) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 2)
        fill(cache, object_id, 2)
        assert cache.get(object_id, 1) == block(1)
        assert cache.may_hold(object_id)
        cache.drop(object_id)
        assert cache.get(object_id, 1) is None
        assert not cache.may_hold(object_id)
        assert cache.get("a", 1) == block(1)


def test_replaced_blocks_leave_no_files(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 4)
        fill(cache, "a", 4)
        assert len(files(tmp_path)) == 4
        cache.clear()
        assert files(tmp_path) == []
        assert cache.stats().blocks == 0


def test_survives_reopening(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 4)
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        assert cache.get_many("a", range(4)) == [block(number) for number in range(4)]


def test_modes_are_private(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "cache"
    with open_block_cache(directory, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 1)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert files(directory)[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("harm", ["flip", "shorten", "lengthen"])
def test_bad_block_is_a_miss_and_dropped(tmp_path: Path, harm: str) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 1)
        (path,) = files(tmp_path)
        data = path.read_bytes()
        changed = {"flip": b"x" + data[1:], "shorten": data[:-1], "lengthen": data + b"x"}
        path.write_bytes(changed[harm])
        assert cache.get("a", 0) is None
        assert not path.exists()
        stats = cache.stats()
        assert (stats.bad_blocks, stats.blocks) == (1, 0)
        fill(cache, "a", 1)
        assert cache.get("a", 0) == block(0)


def test_lost_file_is_a_miss_but_not_bad(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 1)
        files(tmp_path)[0].unlink()
        assert cache.get("a", 0) is None
        stats = cache.stats()
        assert (stats.bad_blocks, stats.blocks) == (0, 0)


def test_verify_finds_bad_blocks(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 5)
        files(tmp_path)[2].write_bytes(b"?")
        found = cache.verify()
        assert (found.checked_blocks, found.bad_blocks) == (5, 1)
        assert cache.verify().bad_blocks == 0


def test_oldest_blocks_go_at_the_limit(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=2 * MIB) as cache:
        for number in range(100):
            assert cache.put_many("a", [(number, block(number))])
            assert cache.stats().bytes <= 2 * MIB
        assert cache.get("a", 99) == block(99)
        assert cache.get("a", 0) is None
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 2 * MIB
        assert len(files(tmp_path)) == cache.stats().blocks > 10


def test_batch_that_would_empty_the_cache_is_dropped(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=MIB) as cache:
        fill(cache, "a", 2)
        assert not cache.put_many("b", [(0, bytes(MIB))])
        assert cache.get("a", 1) == block(1)
        assert cache.stats().dropped_inserts == 1


def test_below_the_floor_blocks_go_and_inserts_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [100 * MIB]

    class FakeStat:
        f_blocks, f_frsize = 1000 * MIB, 1

        @property
        def f_bavail(self) -> int:
            return free[0]

    with open_block_cache(tmp_path, limit_bytes=LIMIT, floor_fraction=0.05) as cache:
        monkeypatch.setattr(os, "statvfs", lambda _path: FakeStat())
        fill(cache, "a", 4)
        free[0] = 50 * MIB
        assert not cache.put_many("b", [(0, block(0))])
        assert cache.stats().dropped_inserts == 1
        assert cache.stats().blocks < 4  # it gave up what it could


def test_full_disk_drops_the_insert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 1)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", refuse)
            assert not cache.put_many("b", [(0, block(0)), (1, block(1))])
        assert len(files(tmp_path)) == 1
        assert cache.stats().dropped_inserts == 2


def test_give_up_frees_what_is_asked(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 32)
        assert 512 * KIB <= cache.give_up(512 * KIB) <= 2 * MIB
        assert cache.get("a", 31) == block(31)
        cache.give_up(1 << 40)
        assert files(tmp_path) == []
        assert cache.give_up(1) == 0


def test_newer_format_is_refused_untouched(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 1)
    (tmp_path / "FORMAT").write_text("objfs-blocks 2\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CacheFormatError, match="newer"), open_block_cache(tmp_path, limit_bytes=LIMIT):
        pass
    assert sorted(tmp_path.iterdir()) == before


def test_older_format_begins_anew(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 1)
    (tmp_path / "FORMAT").write_text("objfs-blocks 0\n")
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        assert cache.get("a", 0) is None
        assert (tmp_path / "FORMAT").read_text() == "objfs-blocks 1\n"


@pytest.mark.parametrize("name", ["notes.txt", "FORMAT"])
def test_foreign_directory_is_refused_untouched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("dear diary")
    with (
        pytest.raises(CacheFormatError, match="no block cache"),
        open_block_cache(tmp_path, limit_bytes=LIMIT),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError, match="link"), open_block_cache(tmp_path / "link", limit_bytes=LIMIT):
        pass


@pytest.mark.parametrize("garbage", [b"", b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_corrupt_database_begins_anew(tmp_path: Path, garbage: bytes) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 3)
    (tmp_path / "cache.db").write_bytes(garbage)
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        assert cache.get("a", 0) is None
        fill(cache, "a", 3)
        assert cache.get("a", 2) == block(2)


def test_database_that_breaks_while_open_begins_anew(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 3)
        with contextlib.closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
            connection.execute("DROP TABLE Cache")
            connection.commit()
        assert cache.get("a", 0) is None
        fill(cache, "a", 3)
        assert cache.get("a", 2) == block(2)


def test_closed_cache_misses_and_drops(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 1)
    assert cache.get("a", 0) is None
    assert not cache.put_many("a", [(0, block(0))])


def test_orphans_are_swept_after_an_unclean_end(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 4)
    (tmp_path / "CLEAN").unlink()
    lost = files(tmp_path)[0]
    lost.unlink()
    orphan = tmp_path / "7f" / "0123456789ab-7f"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left behind")
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        cache.sweep(threading.Event())
        assert not orphan.exists()
        assert cache.stats().blocks == 3 == len(files(tmp_path))
        fill(cache, "b", 2)
        cache.sweep(threading.Event())
        assert cache.stats().blocks == 5 == len(files(tmp_path))


def test_unsound_database_is_noticed_by_the_sweep(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        cache.put_many("a", [(number, b"%d" % number) for number in range(2000)])
    path = tmp_path / "cache.db"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = os.urandom(8192)
    path.write_bytes(data)
    (tmp_path / "CLEAN").unlink()
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        cache.sweep(threading.Event())
        fill(cache, "b", 2)
        assert cache.get("b", 1) == block(1)
        cache.verify()


KILLED = """
import sys
from pathlib import Path
from objfs_cache.blocks import open_block_cache
with open_block_cache(Path(sys.argv[1]), limit_bytes=4 << 20) as cache:
    number = 0
    while True:
        cache.put_many("a", [(number + k, (number + k).to_bytes(4, "little") * 4096) for k in range(8)])
        number += 8
        print(number, flush=True)
"""


@pytest.mark.parametrize("batches", [1, 30, 60])
def test_killed_owner_leaves_a_usable_cache(tmp_path: Path, batches: int) -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[3] / "cache")}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        last = [int(child.stdout.readline()) for _ in range(batches)][-1]
        child.send_signal(signal.SIGKILL)
    with open_block_cache(tmp_path, limit_bytes=4 * MIB) as cache:
        cache.sweep(threading.Event())
        assert len(files(tmp_path)) == cache.stats().blocks
        assert cache.get("a", last - 1) == block(last - 1, 16 * KIB)
        assert cache.verify().bad_blocks == 0
        assert cache.stats().bytes <= 4 * MIB


def test_many_threads(tmp_path: Path) -> None:
    wrong: list[int] = []

    def work(cache: BlockCache, worker: int) -> None:
        for number in range(60):
            cache.put_many(f"o{number % 5}", [(number % 7, block(number % 7))])
            found = cache.get(f"o{number % 5}", (number + worker) % 7)
            if found is not None and found != block((number + worker) % 7):
                wrong.append(number)
            if number % 20 == worker:
                cache.drop(f"o{worker % 5}")

    with open_block_cache(tmp_path, limit_bytes=MIB) as cache:
        threads = [threading.Thread(target=work, args=(cache, worker)) for worker in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert cache.stats().bad_blocks == 0
        assert len(files(tmp_path)) == cache.stats().blocks
