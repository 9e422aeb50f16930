"""Who only looks into a block cache, or cannot for a moment, leaves it as it is."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from objfs_cache.blocks import open_block_cache
from objfs_cache.blocks_peek import peek_block_cache
from objfs_cache.blocks_rows import BlockRows
from objfs_cache.directory import CacheError

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
LIMIT = 64 * MIB
BLOCKS = [bytes([number]) * 65536 for number in range(4)]


def fill(directory: Path) -> None:
    with open_block_cache(directory, limit_bytes=LIMIT, floor_fraction=0.0) as cache:
        assert cache.put_many("a", list(enumerate(BLOCKS)))


def look(directory: Path) -> list[bytes | None]:
    with peek_block_cache(directory) as blocks:
        assert blocks is not None
        assert not blocks.put_batch([("b", 0, b"new")])
        return blocks.get_many("a", range(5))


def picture(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_changed(tmp_path: Path, killed: bool) -> None:
    fill(tmp_path)
    if killed:
        (tmp_path / "CLEAN").unlink()
    before = picture(tmp_path)
    assert look(tmp_path) == [*BLOCKS, None]
    assert before.items() <= picture(tmp_path).items()


def test_what_is_not_on_the_disk_otherwise_is_seen(tmp_path: Path) -> None:
    """A killed owner leaves a log."""
    with open_block_cache(tmp_path / "cache", limit_bytes=LIMIT, floor_fraction=0.0) as cache:
        assert cache.put_many("a", list(enumerate(BLOCKS)))
        copy = tmp_path / "copy"
        copy.mkdir()
        for path, data in picture(tmp_path / "cache").items():
            target = copy / path.relative_to(tmp_path / "cache")
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
    (copy / "cache.db-shm").unlink(missing_ok=True)
    assert look(copy) == [*BLOCKS, None]


def test_a_bad_block_is_a_miss(tmp_path: Path) -> None:
    fill(tmp_path)
    one, other, *_ = (path for path in tmp_path.glob("??/*") if path.is_file())
    one.write_bytes(b"?")
    other.unlink()
    assert look(tmp_path).count(None) == 3


@pytest.mark.parametrize("what", ["nothing", "garbage", "newer"])
def test_there_is_nothing_to_see(tmp_path: Path, what: str) -> None:
    if what != "nothing":
        fill(tmp_path)
        name, data = {"garbage": ("cache.db", "?" * 8192), "newer": ("FORMAT", "objfs-blocks 2\n")}[what]
        (tmp_path / name).write_text(data)
    before = picture(tmp_path)
    with peek_block_cache(tmp_path) as blocks:
        assert blocks is None
    assert picture(tmp_path) == before


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY])
def test_what_cannot_be_opened_now_is_kept(tmp_path: Path, code: int) -> None:
    """Too many open files, somebody else's lock: an empty cache would not be better off."""
    fill(tmp_path)
    error = sqlite3.OperationalError("Not now.")
    error.sqlite_errorcode = code
    with (
        mock.patch.object(BlockRows, "find", side_effect=error),
        pytest.raises(CacheError, match="Not now"),
        open_block_cache(tmp_path, limit_bytes=LIMIT),
    ):
        pass
    assert look(tmp_path) == [*BLOCKS, None]
