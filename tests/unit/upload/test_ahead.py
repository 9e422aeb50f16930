"""Nothing is sent before the journal tells of it durably; what it does not depend on may come later."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio

from objfs.upload.operations import Base
from tests.unit.upload.ledgers import PLAIN, V1, V2, desk_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs.upload.operations import Operation
    from tests.unit.upload.ledgers import Desk


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as found:
        yield found


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Descriptors that were synced."""
    found: list[int] = []
    monkeypatch.setattr(os, "fdatasync", found.append)
    return found


def ahead(at: Desk, *batch: Operation) -> None:
    trio.run(at.progress.write_ahead, list(batch))


def test_one_sync_is_enough_for_all_that_are_in_the_journal(at: Desk, syncs: list[int]) -> None:
    first, second, third = (at.put(name) for name in ("a", "b", "c"))
    ahead(at, first)
    assert len(syncs) == 1
    at.progress.finish(first, Base(version=V1))
    ahead(at, second, third)
    assert len(syncs) == 1
    fourth = at.put("d")
    ahead(at, second, fourth)
    assert len(syncs) == 2
    assert at.journal.is_durable


def test_what_waited_needs_the_end_of_what_it_waited_for(at: Desk, syncs: list[int]) -> None:
    first = at.put("a", base=Base(version=V1))
    at.progress.take_ready(10, deletes=10, impatient=True)
    renamed = at.ledger.rename("a", "b", source_base=Base(version=V1), base=Base(absent=True), options=PLAIN)
    ahead(at, first, renamed)
    assert len(syncs) == 1
    at.progress.finish(first, Base(version=V2))
    ahead(at, renamed)
    assert len(syncs) == 2


def test_a_row_that_is_not_committed_is_not_durable(at: Desk, syncs: list[int]) -> None:
    """The sync is begun in a thread, perhaps in the middle of a step."""
    with at.ledger.step():
        operation = at.put("a")
        at.journal.sync()
        assert not at.journal.is_durable_to(operation.position)
        at.put("b")
        at.journal.sync()
        assert not at.journal.is_durable_to(operation.position)
    begun = len(syncs)
    ahead(at, operation)
    assert len(syncs) == begun + 1
    assert at.journal.is_durable_to(operation.position)
