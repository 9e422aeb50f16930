"""What the cache directory, the journal and staged files do so that a power loss takes nothing synced."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from objfs_cache import journal as journals
from objfs_cache.directory import CacheFormatError, open_cache_directory
from objfs_cache.journal import JournalError, Record, open_journal, peek_journal
from objfs_cache.staged import StagedContent, StagedState
from objfs_cache.staging import Staging, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs_cache.journal import Journal


@contextmanager
def staging_of(path: Path, journal: Journal) -> Iterator[Staging]:
    folder = path / "staging"
    folder.mkdir(exist_ok=True)
    referenced = [row.staged.file_id for row in journal.load() if row.staged is not None]
    with open_staging(
        folder, budget_bytes=10**6, floor_fraction=0.0, referenced=referenced, journal=journal
    ) as staging:
        yield staging


def put(seq: int, staged: StagedState) -> Record:
    return Record(seq=seq, kind="put", path="a", source="", details="{}", staged=staged)


def test_what_is_written_after_a_sync_does_not_take_what_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("first\n")
    monkeypatch.setattr(journals, "BOOT_ID_PATH", boot_id)
    with open_journal(tmp_path / "j") as journal, staging_of(tmp_path, journal) as staging:
        staged = staging.create()
        staged.write(0, b"synced")
        then = staged.moment()
        staged.sync_data()
        assert staged.mark_synced(then)
        assert staged.state().fsynced
        staged.write(6, b" and more")
        assert not staged.state().fsynced
        journal.write(put(1, staged.state()))
    boot_id.write_text("second\n")
    kept = StagedState(file_id=1, length=6, base_limit=0, extents=((0, 6),), fsynced=True, reverted=True)
    assert peek_journal(tmp_path / "j") == [put(1, kept)]
    for _ in range(2):  # and for good
        with open_journal(tmp_path / "j") as journal, staging_of(tmp_path, journal) as staging:
            assert journal.load() == [put(1, kept)]
            assert staging.reopen(kept).read(0, 99)[:6] == b"synced"


def test_a_sync_that_a_write_overtook_counts_for_what_was_there_before(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j") as journal, staging_of(tmp_path, journal) as staging:
        staged = staging.create()
        staged.write(0, b"before")
        then = staged.moment()
        staged.write(6, b"meanwhile")
        assert staged.mark_synced(then)
        assert not staged.synced
        assert staged.state().durable == StagedContent(length=6, base_limit=0, extents=((0, 6),))
        then = staged.moment()
        staged.truncate(3)
        assert not staged.mark_synced(then)
        assert staged.state().durable == StagedContent(length=3, base_limit=0, extents=((0, 3),))


def test_a_staged_file_is_deleted_after_the_journal_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    with open_journal(tmp_path / "j") as journal, staging_of(tmp_path, journal) as staging:
        staged = staging.create()
        staged.write(0, b"bytes")
        journal.write(put(1, staged.state()))
        journal.remove(1)
        staged.discard()
        fdatasync = os.fdatasync

        def watched(descriptor: int) -> None:
            events.append("there" if staged.path.exists() else "gone")
            fdatasync(descriptor)

        monkeypatch.setattr(os, "fdatasync", watched)
        staging.sweep()
    assert events == ["there"]
    assert not staged.path.exists()


def test_a_staged_file_stays_while_the_journal_cannot_be_made_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(5, "broken")

    with open_journal(tmp_path / "j") as journal, staging_of(tmp_path, journal) as staging:
        staged = staging.create()
        journal.write(put(1, staged.state()))
        staged.discard()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuse)
            staging.sweep()
            assert staged.path.exists()
            with pytest.raises(JournalError, match="durable"):
                journal.sync()
        assert not journal.is_durable
    assert not staged.path.exists()


def test_a_journal_of_the_first_format_is_upgraded(tmp_path: Path) -> None:
    staged = StagedState(file_id=7, length=10, base_limit=4, extents=((0, 2), (5, 10)))
    with open_journal(tmp_path / "j") as journal:
        journal.write(put(1, staged))
    connection = sqlite3.connect(tmp_path / "j")
    connection.execute("ALTER TABLE operation DROP COLUMN durable")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    assert peek_journal(tmp_path / "j") == [put(1, staged)]
    with open_journal(tmp_path / "j") as journal:
        assert journal.load() == [put(1, staged)]
        journal.write(put(1, staged))
        assert journal.load() == [put(1, staged)]


@pytest.mark.parametrize("left", [b"", b"\0\0"])
def test_a_format_that_the_power_loss_emptied_is_made_anew(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "format").write_bytes(left)
    with open_cache_directory(tmp_path / "cache"):
        assert (tmp_path / "cache" / "format").read_text() == "1\n"
    (tmp_path / "cache" / "format").write_text("2\n")
    with pytest.raises(CacheFormatError), open_cache_directory(tmp_path / "cache"):
        pass
