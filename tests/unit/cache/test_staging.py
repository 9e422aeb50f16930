"""Staged files: budget, extents, what a crash leaves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from objfs_cache.staged import NoSpaceError, StagedState
from objfs_cache.staging import Staging, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def staging_in(
    path: Path, *, budget: int = 1000, floor: float = 0.0, keep: list[int] | None = None
) -> Iterator[Staging]:
    with open_staging(path, budget_bytes=budget, floor_fraction=floor, referenced=keep or []) as staging:
        yield staging


def test_the_budget_counts_bytes_once(tmp_path: Path) -> None:
    with staging_in(tmp_path, budget=100) as staging:
        staged = staging.create()
        staged.write(0, bytes(60))
        staged.write(30, bytes(40))
        assert staging.used_bytes == 70
        with pytest.raises(NoSpaceError):
            staged.write(70, bytes(31))
        assert (staged.length, staging.used_bytes) == (70, 70)
        staged.truncate(10)
        assert staging.used_bytes == 10
        staged.write(10, bytes(90))
        staged.discard()
        assert staging.used_bytes == 0
        staging.sweep()
        assert list(tmp_path.iterdir()) == []


def test_the_floor_of_free_disk_is_kept(tmp_path: Path) -> None:
    with staging_in(tmp_path, floor=1.0) as staging, pytest.raises(NoSpaceError):
        staging.create().write(0, b"x")


def test_reopened_as_it_was_journaled(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        staged = staging.create()
        staged.write(0, b"aaaa")
        staged.write(8, b"cccc")
        state = staged.state()
        staged.write(2, b"zz")  # within what was journaled: as on any disk, either may be there
        staged.write(5, b"garbage")
        staged.write(40, b"garbage")
    with staging_in(tmp_path, keep=[state.file_id]) as staging:
        again = staging.reopen(state)
        assert again.read(0, 12) == b"aazz\0\0\0\0" + b"bage"
        assert again.path.stat().st_size == 12
        again.truncate(60)
        assert again.read(12, 48) == bytes(48)
        assert staging.used_bytes == 8


def test_a_shorter_file_is_not_believed(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        staged = staging.create()
        staged.write(0, b"abcd")
        state = staged.state()
    staged.path.write_bytes(b"ab")
    with staging_in(tmp_path, keep=[state.file_id]) as staging, pytest.raises(OSError, match="shorter"):
        staging.reopen(state)


def test_what_no_row_refers_to_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "000000000000000a").write_bytes(b"x")
    (tmp_path / "000000000000000b").write_bytes(b"x")
    (tmp_path / "notes.txt").write_bytes(b"x")
    with staging_in(tmp_path, keep=[10]) as staging:
        assert {path.name for path in tmp_path.iterdir()} == {"000000000000000a", "notes.txt"}
        assert staging.create().file_id == 11


def test_zeros_between_and_beyond(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        staged = staging.create()
        staged.base_limit = 10
        staged.truncate(10)
        assert not staged.complete
        staged.write(0, b"0123456789")
        assert staged.complete
        staged.truncate(4)
        staged.truncate(8)
        assert staged.read(0, 8) == b"0123\0\0\0\0"
        assert staged.complete
        assert staged.base_limit == 4


def test_a_pinned_file_outlives_its_end(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        staged = staging.create()
        staged.write(0, b"read me")
        with staged.pinned():
            staged.close()
            staged.discard()
            assert staged.read(0, 7) == b"read me"
        staging.sweep()
        assert not staged.path.exists()
        assert staging.used_bytes == 0


def test_states_are_values(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        staged = staging.create()
        staged.write(3, b"x")
        assert staged.state() == StagedState(file_id=1, length=4, base_limit=0, extents=((3, 4),))
