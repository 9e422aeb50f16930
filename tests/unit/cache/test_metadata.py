"""The metadata cache: what is forgotten stays so, and nothing that goes wrong with it is told to anybody."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING
from unittest import mock

import pytest

import objfs_cache.journal
from objfs_cache.metadata import MetadataCache, MetadataRow, open_metadata_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def row(key: str, body: bytes = b"body", *, whole: bool = True) -> MetadataRow:
    return MetadataRow(key=key, body=body, whole=whole)


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Path]:
    """The file that tells the boots of the machine from each other."""
    path = tmp_path / "boot_id"
    path.write_text("first\n")
    with mock.patch.object(objfs_cache.journal, "BOOT_ID_PATH", path):
        yield path


def test_rows_outlive_the_process(tmp_path: Path) -> None:
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.begin()
        cache.write([row(""), row("a/", b"a"), row("a/b/", b"b", whole=False)])
    with open_metadata_cache(tmp_path / "m") as cache:
        assert cache.read("a/") == row("a/", b"a")
        assert cache.read("a/b/") == row("a/b/", b"b", whole=False)
        assert cache.has("")
        assert not cache.has("b/")
        assert cache.read("b/") is None


def test_a_part_takes_no_whole_directorys_place(tmp_path: Path) -> None:
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.write([row("a/", b"part", whole=False)])
        cache.write([row("a/", b"whole")])
        cache.write([row("a/", b"part again", whole=False)])
        assert cache.read("a/") == row("a/", b"whole")
        cache.write([row("a/", b"newer")])
        assert cache.read("a/") == row("a/", b"newer")


def test_what_is_below_a_directory_is_forgotten_with_it(tmp_path: Path) -> None:
    keys = ["", "a/", "a/b/", "a/\U0010ffff/", "a.b/", "a0/", "b/"]
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.write([row(key) for key in keys])
        cache.forget("a/", below=True)
        assert [key for key in keys if cache.has(key)] == ["", "a.b/", "a0/", "b/"]
        cache.forget("")
        assert [key for key in keys if cache.has(key)] == ["a.b/", "a0/", "b/"]


def test_what_is_forgotten_while_it_is_written_stays_forgotten(tmp_path: Path) -> None:
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.begin()
        cache.forget("a/")
        cache.forget("b/", below=True)
        cache.write([row("a/"), row("a/x/"), row("b/"), row("b/x/")])
        assert [key for key in ("a/", "a/x/", "b/", "b/x/") if cache.has(key)] == ["a/x/"]
        cache.begin()
        cache.write([row("a/"), row("b/")])
        assert cache.has("a/")
        assert cache.has("b/")


def test_the_oldest_rows_make_room(tmp_path: Path) -> None:
    cache = MetadataCache(tmp_path / "m", limit_bytes=200_000)
    for number in range(60):
        cache.write([row(f"{number}/", bytes(10_000))])
    kept = [number for number in range(60) if cache.has(f"{number}/")]
    assert kept == list(range(kept[0], 60))
    assert 5 < len(kept) < 20
    cache.close()


def test_another_start_of_the_machine_believes_what_was_closed(tmp_path: Path, boot: Path) -> None:
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.write([row("a/")])
    boot.write_text("second\n")
    with open_metadata_cache(tmp_path / "m") as cache:
        assert cache.has("a/")


def test_a_power_loss_empties_it(tmp_path: Path, boot: Path) -> None:
    cache = MetadataCache(tmp_path / "m")
    cache.write([row("a/")])
    with open_metadata_cache(tmp_path / "m") as after_a_kill:
        assert after_a_kill.has("a/")
        boot.write_text("second\n")
        with open_metadata_cache(tmp_path / "m") as after_a_power_loss:
            assert not after_a_power_loss.has("a/")
            after_a_power_loss.write([row("b/")])
            assert after_a_power_loss.has("b/")
    cache.close()


@pytest.mark.parametrize("damage", [b"garbage " * 4096, b""], ids=["garbage", "nothing"])
def test_a_damaged_database_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.write([row("a/")])
    (tmp_path / "m" / "metadata.db").write_bytes(damage)
    with open_metadata_cache(tmp_path / "m") as cache:
        assert not cache.has("a/")
        cache.begin()
        cache.write([row("a/")])
        assert cache.has("a/")


def test_a_database_that_fails_is_begun_anew(tmp_path: Path) -> None:
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.write([row("a/")])
        assert cache._connection is not None
        cache._connection.execute("DROP TABLE directory")
        assert not cache.has("a/")
        cache.begin()
        cache.write([row("b/")])
        assert cache.has("b/")


def test_what_cannot_be_removed_is_not_believed_later(tmp_path: Path) -> None:
    """A full disk takes neither the removal of a row nor, on some file systems, that of a file."""
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.write([row("a/")])
        assert cache._connection is not None
        cache._connection.execute("PRAGMA query_only = 1")
        with mock.patch.object(type(tmp_path), "unlink", side_effect=OSError(errno.ENOSPC, "full")):
            cache.forget("a/")
            cache.begin()
            assert not cache.has("a/")
        cache.begin()
        assert not cache.has("a/")
        cache.write([row("b/")])
        assert cache.has("b/")


def test_a_damaged_note_is_no_hindrance(tmp_path: Path) -> None:
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.write([row("a/")])
    (tmp_path / "m" / "boot").write_bytes(b"\xff\xfe")
    with open_metadata_cache(tmp_path / "m") as cache:
        assert not cache.has("a/")


def test_without_a_place_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("no folder")
    with open_metadata_cache(tmp_path / "m") as cache:
        cache.begin()
        cache.write([row("a/")])
        cache.forget("a/")
        assert not cache.has("a/")
