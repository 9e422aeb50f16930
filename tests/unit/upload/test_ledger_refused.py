"""A journal that cannot be written leaves the ledger as it was."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING

import pytest

from objfs.store.values import PutOptions, Version
from objfs.upload.book import Book
from objfs.upload.ledger import Ledger
from objfs.upload.operations import NOTHING, Base, Kind, Operation, State
from objfs.upload.progress import Progress
from objfs_cache.journal import Journal, JournalError, open_journal
from tests.unit.upload.ledgers import desk_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KNOWN = Base(version=Version(etag="e1", size_bytes=1))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "journal.db") as opened:
        yield opened


@pytest.fixture
def book(journal: Journal) -> Book:
    return Book(journal, clock=lambda: 0.0, delay_s=1.0)


@pytest.fixture
def ledger(book: Book) -> Ledger:
    return Ledger(book)


@pytest.fixture
def progress(book: Book) -> Progress:
    return Progress(book)


def refuse_commits(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = journal._execute

    def full(sql: str, *values: object) -> list[tuple[object, ...]]:
        if sql == "COMMIT":
            raise JournalError("The disk is full.") from sqlite3.OperationalError("full")
        return execute(sql, *values)

    monkeypatch.setattr(journal, "_execute", full)


def shape(ledger: Ledger) -> list[tuple[str, str, str, Base]]:
    return [(one.kind, one.path, one.source, one.base) for one in sorted(ledger, key=lambda one: one.seq)]


def put(ledger: Ledger, path: str) -> Operation:
    return ledger.put(path, options=PutOptions(), base=KNOWN, body=b"x")


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: put(ledger, "new"),
        lambda ledger: ledger.delete("a", base=KNOWN),
        lambda ledger: ledger.rename("a", "b", source_base=KNOWN, base=NOTHING, options=PutOptions()),
        lambda ledger: ledger.rename("b", "a", source_base=KNOWN, base=KNOWN, options=PutOptions()),
        lambda ledger: ledger.mkdir("d/e", options=PutOptions()),
        lambda ledger: ledger.rmdir("d"),
        lambda ledger: ledger.rename_tree("d", "f", local=True),
        lambda ledger: ledger.rename_tree("d", "f", local=False),
        lambda ledger: ledger.set_attributes("c", base=KNOWN, options=PutOptions()),
    ],
)
def test_refused_change_leaves_everything_as_it_was(
    ledger: Ledger,
    progress: Progress,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Ledger], object],
) -> None:
    ledger.mkdir("d", options=PutOptions(), base=NOTHING)
    put(ledger, "a")
    ledger.put("d/x", options=PutOptions(), base=NOTHING, body=b"y")
    before, rows, states = shape(ledger), journal.load(), {one: one.state for one in ledger}

    with monkeypatch.context() as patched:
        refuse_commits(journal, patched)
        with pytest.raises(JournalError):
            change(ledger)

    assert shape(ledger) == before
    assert journal.load() == rows
    assert {one: one.state for one in ledger} == states
    assert len(progress.take_ready(10, deletes=10, impatient=True)) == 3


def test_finish_that_cannot_be_noted_keeps_the_operation(
    ledger: Ledger, progress: Progress, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ledger, "a")
    (operation,) = progress.take_ready(10, deletes=10, impatient=True)
    with monkeypatch.context() as patched:
        refuse_commits(journal, patched)
        with pytest.raises(JournalError):
            progress.finish(operation, KNOWN)
    assert list(ledger) == [operation]
    assert [record.path for record in journal.load()] == ["a"]
    progress.finish(operation, KNOWN)
    assert not list(ledger)
    assert not journal.load()


def test_full_disk_is_told_as_enospc(journal: Journal, ledger: Ledger) -> None:
    journal._connection.execute("PRAGMA max_page_count = 1")

    def fill() -> None:
        for number in range(1000):
            put(ledger, f"{number}" * 50)

    with pytest.raises(JournalError, match="full") as told:
        fill()
    assert told.value.errno == errno.ENOSPC
    assert all(operation.kind is Kind.PUT for operation in ledger)
    assert len(ledger) == len(journal.load())


def test_what_was_told_to_wait_for_one_that_went_behind_it_does_not(book: Book) -> None:
    put, removal = Operation(kind=Kind.PUT, path="a"), Operation(kind=Kind.DELETE, path="b")
    with book.step():
        book.append(put)
        book.append(removal, after=[put])
    with book.step():
        book.revoke(put)
        put.state = State.WAITING
        book.append(put)
    with pytest.raises(OSError, match="full"), book.step():
        raise OSError("full")
    assert book.order.predecessors(removal) == []
    assert list(book.order) == [removal, put]


def test_what_the_store_refused_stays_so(
    ledger: Ledger, progress: Progress, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have taken effect all the same: who removes it later has to tell the store."""
    refused = ledger.put("a", options=PutOptions(), base=NOTHING, body=b"x")
    assert progress.take_ready(10, deletes=10, impatient=True) == [refused]
    progress.park(refused, "403")
    with monkeypatch.context() as patched:
        refuse_commits(journal, patched)
        with pytest.raises(JournalError):
            ledger.delete("a", base=NOTHING)
    assert refused.state is State.PARKED
    assert progress.take_ready(10, deletes=10, impatient=True) == []
    removal = ledger.delete("a", base=NOTHING)
    assert removal is not None
    assert removal.base.tokens == (refused.token,)


def test_a_refused_file_whose_new_name_is_not_noted_is_written_to_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be sent while it is written to."""
    (tmp_path / "desk").mkdir()
    with desk_in(tmp_path / "desk") as desk:
        refused = desk.put("a")
        desk.send()
        desk.progress.park(refused, "403")
        with monkeypatch.context() as patched:
            refuse_commits(desk.journal, patched)
            with pytest.raises(JournalError):
                desk.rename("a", "b")
        assert list(desk.ledger) == [refused]
        assert refused.state is State.PARKED
        assert refused.staged is not None
        assert refused.staged.sealed
        desk.rename("a", "b")
        assert desk.sent() == ["put b"]
