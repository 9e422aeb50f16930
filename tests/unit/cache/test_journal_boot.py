"""What the journal remembers of a machine that went down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs_cache import journal as journals
from objfs_cache.journal import Journal, Record, open_journal
from objfs_cache.staged import StagedState

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def _add(journal: Journal, file_id: int, *, fsynced: bool) -> None:
    staged = StagedState(file_id=file_id, length=1, base_limit=0, extents=((0, 1),), fsynced=fsynced)
    seq = journal.next_seq()
    journal.write(Record(seq=seq, kind="put", path=f"{file_id}", source="", details="{}", staged=staged))


def _torn(journal: Journal) -> list[bool]:
    return [record.staged is not None and record.staged.torn for record in journal.load()]


def test_what_was_not_durable_stays_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("first\n")
    monkeypatch.setattr(journals, "BOOT_ID_PATH", boot_id)
    with open_journal(tmp_path / "journal.db") as journal:
        _add(journal, 1, fsynced=True)
        _add(journal, 2, fsynced=False)
        assert not journal.rebooted
    with open_journal(tmp_path / "journal.db") as journal:
        assert _torn(journal) == [False, False]
    boot_id.write_text("second\n")
    with open_journal(tmp_path / "journal.db") as journal:
        assert journal.rebooted
        assert _torn(journal) == [False, True]
        for record in journal.load():
            journal.write(record)
        _add(journal, 3, fsynced=False)
    with open_journal(tmp_path / "journal.db") as journal:
        assert not journal.rebooted
        assert _torn(journal) == [False, True, False]
