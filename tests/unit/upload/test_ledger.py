"""What is coalesced, what never is, and which base follows from what."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from objfs.store.values import PutOptions
from objfs.upload.operations import NOTHING, Base, Kind, State
from objfs.upload.uploader import load_operations
from tests.unit.upload.ledgers import PLAIN, V1, V2, V3, Desk, desk_in, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = Base(version=V1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk


# -- coalescing --------------------------------------------------------------------------------------


def test_renamed_before_its_upload_it_is_uploaded_once(desk: Desk) -> None:
    desk.put("f.tmp")
    operation = desk.rename("f.tmp", "f", base=OLD)
    assert desk.rows() == ["put f"]
    assert operation.base == OLD


def test_deleted_before_its_upload_it_costs_nothing(desk: Desk) -> None:
    desk.put("f")
    assert desk.ledger.delete("f", base=NOTHING) is None
    assert desk.rows() == desk.sent() == []


def test_changed_before_its_upload_and_deleted_the_old_object_still_goes(desk: Desk) -> None:
    desk.put("f", OLD)
    desk.ledger.delete("f", base=OLD)
    assert desk.rows() == ["delete f"]


def test_attributes_ride_along(desk: Desk) -> None:
    operation = desk.put("f")
    other = PutOptions(metadata={"mode": "33261"})
    assert desk.ledger.set_attributes("f", base=NOTHING, options=other) is operation
    assert desk.rows() == ["put f"]
    assert operation.options == other


def test_unlinked_and_made_anew_it_replaces_the_old_object(desk: Desk) -> None:
    desk.ledger.delete("f", base=OLD)
    assert desk.put("f").base == OLD
    assert desk.rows() == ["put f"]


def test_replaced_target_is_not_uploaded(desk: Desk) -> None:
    desk.put("f", OLD)
    desk.put("g")
    assert desk.rename("g", "f").base == OLD
    assert desk.rows() == ["put f"]


def test_nothing_that_was_sent_is_changed(desk: Desk) -> None:
    first = desk.put("f")
    desk.send()
    second = desk.put("f")
    assert second is not first
    desk.ledger.delete("f", base=NOTHING)
    assert desk.rows() == ["put f", "delete f"]
    assert desk.sent() == []


def test_nothing_restored_is_changed(desk: Desk) -> None:
    desk.put("f")
    operations = load_operations(desk.journal, desk.staging)
    assert [text(one) for one in operations] == ["put f"]
    desk.ledger.restore(operations)
    assert operations[0].state is State.SENT
    desk.ledger.delete("f", base=NOTHING)
    assert desk.rows() == ["put f", "delete f"]


def test_there_and_back_again_leaves_the_object_alone(desk: Desk) -> None:
    desk.rename("a", "b", OLD)
    operation = desk.rename("b", "a", OLD)
    assert operation.kind is Kind.SET
    assert operation.base == OLD
    assert desk.rows() == ["set a"]


def test_renamed_twice_it_is_copied_once(desk: Desk) -> None:
    desk.rename("a", "b", OLD, Base(version=V2))
    desk.rename("b", "c", OLD)
    assert desk.rows() == ["rename a->c", "delete b"]


def test_a_rename_taken_back_by_unlink_deletes_both(desk: Desk) -> None:
    desk.rename("a", "b", OLD, Base(version=V2))
    desk.ledger.delete("b", base=OLD)
    assert sorted(desk.rows()) == ["delete a", "delete b"]


def test_a_new_directory_moves_with_its_files(desk: Desk) -> None:
    desk.ledger.mkdir("d", options=PLAIN, base=NOTHING)
    desk.put("d/x")
    assert desk.ledger.rename_tree("d", "e", local=True) is None
    assert desk.rows() == ["marker e", "put e/x"]


def test_a_new_directory_with_a_file_on_its_way_is_a_barrier(desk: Desk) -> None:
    desk.put("d/x")
    desk.send()
    desk.ledger.mkdir("d", options=PLAIN, base=NOTHING)
    assert desk.ledger.rename_tree("d", "e", local=True) is not None
    desk.put("e/y")
    assert desk.sent() == ["marker d"]


def test_what_another_move_takes_along_is_left_to_it(desk: Desk) -> None:
    desk.ledger.mkdir("d/c", options=PLAIN, base=NOTHING)
    desk.put("d/c/a")
    desk.ledger.rename_tree("d", "e", local=False)
    desk.ledger.mkdir("d/c", options=PLAIN, base=NOTHING)
    desk.ledger.rename_tree("d/c", "f", local=True)
    assert desk.rows()[:3] == ["marker d/c", "put d/c/a", "rename-tree d->e"]


def test_a_marker_that_was_never_sent_costs_nothing(desk: Desk) -> None:
    desk.ledger.mkdir("d", options=PLAIN, base=NOTHING)
    assert desk.ledger.rmdir("d") is None
    assert desk.rows() == []


def test_unlink_below_a_moving_directory_deletes_what_the_move_carries_along(desk: Desk) -> None:
    desk.put("d/x")
    desk.ledger.rename_tree("d", "e", local=False)
    assert desk.ledger.delete("e/x", base=NOTHING) is not None


# -- order and bases ---------------------------------------------------------------------------------


def test_exchanging_two_files_by_a_third_name(desk: Desk) -> None:
    desk.rename("a", "t", Base(version=V1))
    desk.rename("b", "a", Base(version=V2))
    last = desk.rename("t", "b", Base(version=V1))
    done = desk.finish_all(itertools.repeat(V3))
    assert done == ["rename a->t", "rename b->a", "rename t->b"]
    assert last.source_base == Base(version=V3)


def test_a_directory_renamed_and_made_anew(desk: Desk) -> None:
    desk.ledger.rename_tree("d", "e", local=False)
    desk.ledger.mkdir("d", options=PLAIN, base=NOTHING)
    desk.put("d/x")
    assert desk.sent() == ["rename-tree d->e"]


def test_a_marker_and_its_last_child(desk: Desk) -> None:
    desk.ledger.delete("d/x", base=OLD)
    desk.ledger.mkdir("d", options=PLAIN)
    assert desk.finish_all(itertools.repeat(V1)) == ["delete d/x", "marker d"]


def test_the_next_write_builds_on_our_own(desk: Desk) -> None:
    first = desk.put("f")
    desk.send()
    second = desk.put("f")
    desk.progress.finish(first, Base(version=V2))
    assert second.base == Base(version=V2)
    assert load_operations(desk.journal, desk.staging)[0].base == Base(version=V2)


def test_after_a_rename_its_source_is_free(desk: Desk) -> None:
    moved = desk.rename("a", "b", OLD)
    desk.send()
    anew = desk.put("a", OLD)
    desk.progress.finish(moved, Base(version=V2))
    assert anew.base == NOTHING


def test_a_write_through_the_move_of_its_directory(desk: Desk) -> None:
    first = desk.put("d/x")
    desk.send()
    tree = desk.ledger.rename_tree("d", "e", local=False)
    later = desk.put("e/x")
    assert tree is not None
    desk.progress.finish(first, Base(version=V1))
    assert later.base == Base(version=V1)
    desk.send()
    desk.progress.tree_copied(tree, {"e/x": (V1, V2)})
    assert later.base == Base(version=V2)
    restored = {text(one): one for one in load_operations(desk.journal, desk.staging)}
    assert restored["rename-tree d->e"].copied
    assert restored["put e/x"].base == Base(version=V2)


def test_what_somebody_else_replaced_before_the_move_stays_a_conflict(desk: Desk) -> None:
    tree = desk.ledger.rename_tree("d", "e", local=False)
    later = desk.put("e/x", Base(version=V1))
    assert tree is not None
    desk.send()
    desk.progress.tree_copied(tree, {"e/x": (V2, V3)})
    assert later.base == Base(version=V1)


def test_what_follows_a_conflict_follows_our_copy(desk: Desk) -> None:
    first = desk.put("f", OLD)
    desk.send()
    second = desk.put("f", OLD)
    third = desk.rename("f", "g", OLD)
    desk.progress.divert(first, "f.conflict")
    assert (first.path, first.base) == ("f.conflict", NOTHING)
    assert "f" not in {second.path, third.source}
    desk.progress.retry_later(first, 0.0, "")
    assert desk.sent() == ["put f.conflict"]


def test_an_older_version_of_a_renamed_file_goes_first(desk: Desk) -> None:
    first = desk.put("f")
    desk.send()
    desk.put("f")
    desk.rename("f", "g")
    assert desk.sent() == []
    desk.progress.finish(first, Base(version=V1))
    assert desk.sent() == ["put g"]
    assert desk.rows() == ["put g", "delete f"]


def test_what_a_move_brought_is_not_what_was_deleted_before(desk: Desk) -> None:
    desk.ledger.delete("c/a", base=Base(version=V2))
    desk.ledger.rename_tree("d", "c", local=False)
    later = desk.put("c/a", OLD)
    (gone,) = desk.send()
    desk.progress.finish(gone, NOTHING)
    assert later.base == OLD


# -- parking and holding -----------------------------------------------------------------------------


def test_parked_with_what_follows_it(desk: Desk) -> None:
    first = desk.put("f")
    desk.send()
    desk.patch("f")
    desk.progress.park(first, "403")
    assert desk.sent() == []
    assert load_operations(desk.journal, desk.staging)[0].state is State.PARKED
    assert desk.ledger.unpark() == 1
    assert desk.send() == [first]


def test_held_until_it_is_complete(desk: Desk) -> None:
    operation = desk.put("f", held=True)
    assert desk.sent() == []
    desk.ledger.commit(operation, PLAIN, held=False)
    assert desk.sent() == ["put f"]


def test_sealed_once_it_is_sent(desk: Desk) -> None:
    operation = desk.put("f")
    assert operation.staged is not None
    assert not operation.staged.sealed
    desk.send()
    assert operation.staged.sealed


def test_a_step_is_in_the_journal_whole_or_not_at_all(desk: Desk) -> None:
    desk.put("f", OLD)
    before = desk.journal.load()
    with pytest.raises(KeyError):
        fail_midway(desk)
    assert desk.journal.load() == before


def fail_midway(desk: Desk) -> None:
    with desk.journal.transaction():
        desk.rename("f", "g")
        raise KeyError


def test_a_base_stays_with_its_object_where_directories_take_turns(desk: Desk) -> None:
    moved, left = desk.put("a/x"), desk.put("b/x")
    desk.ledger.rename_tree("b", "a/old", local=False)
    desk.ledger.rename_tree("a", "b", local=False)
    desk.ledger.rename_tree("b", "c", local=False)
    removed = desk.ledger.delete("c/x", base=NOTHING)
    assert removed is not None
    assert set(desk.send()) == {moved, left}
    desk.progress.finish(moved, Base(version=V1))
    desk.progress.finish(left, Base(version=V2))
    assert removed.base == Base(version=V1)
