"""The journal: rows, transactions, reloads, formats."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import objfs_cache.journal
from objfs_cache.directory import CacheFormatError
from objfs_cache.journal import (
    SCHEMA_VERSION,
    Journal,
    JournalError,
    Record,
    open_journal,
    peek_journal,
    peek_notes,
)
from objfs_cache.staged import StagedState

if TYPE_CHECKING:
    from pathlib import Path


def row(seq: int, path: str = "a", body: bytes | None = None, staged: StagedState | None = None) -> Record:
    return Record(seq=seq, kind="put", path=path, source="", details="{}", body=body, staged=staged)


def fail_midway(journal: Journal) -> None:
    with journal.transaction():
        journal.write(row(1))
        with journal.transaction():
            journal.write(row(2))
        raise KeyError


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    staged = StagedState(file_id=7, length=10, base_limit=4, extents=((0, 2), (5, 10)), fsynced=True)
    with open_journal(tmp_path / "j") as journal:
        for path in ("b", "a", "c"):
            journal.write(row(journal.next_seq(), path))
        journal.write(row(journal.next_seq(), "ü\n", b"target", staged))
        journal.remove(2)
        journal.write(row(1, "changed"))
    with open_journal(tmp_path / "j") as journal:
        assert journal.load() == [row(1, "changed"), row(3, "c"), row(4, "ü\n", b"target", staged)]
        assert journal.next_seq() == 5
        assert not journal.rebooted


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j") as journal:
        with pytest.raises(KeyError):
            fail_midway(journal)
        assert journal.load() == []
        with journal.transaction(), journal.transaction():
            journal.write(row(1))
        assert len(journal.load()) == 1


def test_what_is_committed_survives_a_kill(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with open_journal(tmp_path / "j") as journal:
        journal.write(row(1))
        with journal.transaction():
            journal.write(row(2))
        for name in ("j", "j-wal"):
            shutil.copy(tmp_path / name, tmp_path / "new")
    with open_journal(tmp_path / "new" / "j") as journal:
        assert [one.seq for one in journal.load()] == [1, 2]


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "j")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(CacheFormatError, match="newer objfs"), open_journal(tmp_path / "j"):
        pass
    assert (tmp_path / "j").read_bytes() == before


def test_a_reboot_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_journal(tmp_path / "j"):
        pass
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(objfs_cache.journal, "BOOT_ID_PATH", tmp_path / "boot_id")
    with open_journal(tmp_path / "j") as journal:
        assert journal.rebooted
    with open_journal(tmp_path / "j") as journal:
        assert not journal.rebooted


def test_a_disk_that_did_not_take_rows_once_is_asked_to_take_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, answers = os.fdatasync, iter([OSError(errno.EIO, "Input/output error")])

    def fail_once(descriptor: int) -> None:
        for error in answers:  # Linux tells of what it could not write back once, and does not try again
            raise error
        sync(descriptor)

    with open_journal(tmp_path / "j") as journal:
        journal.write(row(journal.next_seq()))
        monkeypatch.setattr(os, "fdatasync", fail_once)
        with pytest.raises(JournalError, match="made durable"):
            journal.sync()
        assert not journal.is_durable
        journal.sync()
        assert journal.is_durable
        (tmp_path / "copy").mkdir()
        shutil.copy(tmp_path / "j", tmp_path / "copy" / "j")  # without what the disk never got
        journal.write(row(journal.next_seq()))
        journal.sync()
    with open_journal(tmp_path / "copy" / "j") as journal:
        assert [record.seq for record in journal.load()] == [1]
    with open_journal(tmp_path / "j") as journal:
        assert [record.seq for record in journal.load()] == [1, 2]


def test_rows_that_cannot_be_written_again_now_are_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with open_journal(tmp_path / "j") as journal:
        journal.write(row(journal.next_seq()))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(JournalError):
                journal.sync()
        with closing(sqlite3.connect(tmp_path / "j")) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM operation").fetchone() == (1,)
            journal.write(row(journal.next_seq()))
            monkeypatch.setattr(objfs_cache.journal, "BUSY_S", 0.1)
            with pytest.raises(JournalError):
                journal.sync()
        assert not journal.is_durable
        journal.sync()
        assert journal.is_durable


class OnAFullDisk(sqlite3.Connection):
    """Cannot make the file that readers of a log share."""

    def execute(self, *_sql: object) -> sqlite3.Cursor:
        """See `Connection`."""
        raise sqlite3.OperationalError("disk I/O error")


def test_read_where_no_file_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full or read-only; a log that is there is never left out."""
    ended, killed = tmp_path / "ended", tmp_path / "killed"
    ended.mkdir()
    with open_journal(ended / "j") as journal:
        journal.write(row(journal.next_seq()))
        shutil.copytree(ended, killed)
    connect = sqlite3.connect

    def hindered(name: str, *, uri: bool, check_same_thread: bool) -> sqlite3.Connection:
        factory = sqlite3.Connection if "immutable=1" in name else OnAFullDisk
        return connect(name, uri=uri, check_same_thread=check_same_thread, factory=factory)

    monkeypatch.setattr(sqlite3, "connect", hindered)
    assert peek_journal(ended / "j") == [row(1)]
    assert peek_notes(ended / "j") == []
    with pytest.raises(JournalError):
        peek_journal(killed / "j")
