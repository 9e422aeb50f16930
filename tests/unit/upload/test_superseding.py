"""A refused change does not block its name: what comes later takes its place, and other names never wait."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from objfs.upload.operations import NOTHING, Base, Kind, Operation, State
from tests.unit.upload.ledgers import PLAIN, V1, V2, Desk, desk_in, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OLD = Base(version=V1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as opened:
        yield opened


def tree(desk: Desk) -> Operation:
    operation = desk.ledger.rename_tree("d", "e", local=False)
    assert operation is not None
    return operation


def chmod(desk: Desk) -> Operation:
    return desk.ledger.set_attributes("d/f", base=OLD, options=PLAIN)


LATER: dict[str, tuple[Callable[[Desk], object], list[str]]] = {
    "overwritten": (lambda desk: desk.put("d/f", OLD), ["put d/f"]),
    "removed": (lambda desk: desk.ledger.delete("d/f", base=OLD), ["delete d/f"]),
    "renamed": (lambda desk: desk.rename("d/f", "g"), ["put g", "delete d/f"]),
    "replaced": (lambda desk: desk.rename("h", "d/f", Base(version=V2), OLD), ["rename h->d/f"]),
    "with new attributes": (chmod, ["put d/f"]),
    "moved": (tree, ["rename-tree d->e", "put e/f"]),
}


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("waiting", [True, False], ids=["queued before", "made after"])
def test_a_refused_put_makes_way(desk: Desk, later: str, waiting: bool) -> None:
    change, wanted = LATER[later]
    refused = desk.put("d/f", OLD)
    desk.send()
    if waiting:
        change(desk)
    desk.progress.park(refused, "403")
    if not waiting:
        change(desk)
    assert desk.finish_all(iter([V2, V2])) == wanted
    assert desk.rows() == []


@pytest.mark.parametrize("later", ["overwritten", "removed", "replaced", "with new attributes"])
def test_what_took_effect_all_the_same_is_known_as_ours(desk: Desk, later: str) -> None:
    refused = desk.put("d/f", OLD)
    desk.send()
    desk.progress.park(refused, "403")
    LATER[later][0](desk)
    (operation,) = desk.send()
    assert operation.base == replace(OLD, tokens=(refused.token,))
    assert operation.token != refused.token


AND_THEN: dict[str, tuple[Callable[[Desk], object], str]] = {
    "removed": (lambda desk: desk.ledger.delete("d/f", base=NOTHING), "delete d/f"),
    "renamed": (lambda desk: desk.rename("d/f", "g"), "delete d/f"),
    "replaced": (lambda desk: desk.rename("h", "d/f", Base(version=V2)), "rename h->d/f"),
}


@pytest.mark.parametrize("then", AND_THEN)
def test_it_is_still_known_after_one_more_change(desk: Desk, then: str) -> None:
    change, wanted = AND_THEN[then]
    refused = desk.put("d/f")
    desk.send()
    desk.progress.park(refused, "403")
    desk.put("d/f")
    change(desk)
    (operation,) = [one for one in desk.ledger if text(one) == wanted]
    assert operation.base == replace(NOTHING, tokens=(refused.token,))


def test_what_was_left_under_the_old_name_is_known_as_ours(desk: Desk) -> None:
    refused = desk.put("f", OLD)
    desk.send()
    desk.progress.park(refused, "403")
    desk.rename("f", "g")
    moved, removal = sorted(desk.ledger, key=lambda one: one.seq)
    assert (moved.kind, moved.staged, moved.base.tokens) == (Kind.PUT, refused.staged, ())
    assert removal.base == replace(OLD, tokens=(refused.token,))


def test_tokens_are_kept_over_several_refusals(desk: Desk) -> None:
    tokens = []
    for _ in range(3):
        refused = desk.put("f", OLD)
        tokens.append(refused.token)
        desk.send()
        desk.progress.park(refused, "403")
    desk.ledger.delete("f", base=OLD)
    (operation,) = desk.send()
    assert operation.base.tokens == tuple(tokens)


def test_a_change_in_the_middle_waits_for_the_rest_of_the_file(desk: Desk) -> None:
    refused = desk.put("f", OLD)
    desk.send()
    desk.progress.park(refused, "403")
    desk.patch("f")
    assert desk.sent() == []
    assert refused.state is State.PARKED


def test_a_refused_rename_makes_way_for_a_new_file(desk: Desk) -> None:
    refused = desk.rename("a", "b", OLD, Base(version=V2))
    desk.send()
    desk.progress.park(refused, "403")
    desk.put("b", Base(version=V2))
    assert desk.sent() == ["delete a", "put b"]


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_what_comes_later_finds_the_old_name_of_a_refused_rename_empty(
    desk: Desk, is_made_anew: bool
) -> None:
    """Neither is a new file of that name removed, nor does the old one go along with its directory."""
    refused = desk.rename("d/a", "b", OLD, Base(version=V2))
    desk.send()
    desk.put("b", Base(version=V2))
    later = ["put d/a"] if is_made_anew else []
    for _ in later:
        desk.put("d/a")
    tree(desk)
    desk.progress.park(refused, "403")
    assert desk.rows() == ["delete d/a", "put b", *later, "rename-tree d->e"]
    assert desk.sent() == ["delete d/a", "put b"]


def test_a_refused_rename_holds_its_old_name(desk: Desk) -> None:
    refused = desk.rename("a", "b", OLD, Base(version=V2))
    desk.send()
    desk.progress.park(refused, "403")
    desk.put("a")
    assert desk.sent() == []  # else the one copy of what is to be `b` were overwritten


def test_all_that_is_refused_in_a_renamed_directory_goes_along(desk: Desk) -> None:
    marker = desk.ledger.mkdir("d", options=PLAIN)
    refused = [marker, desk.put("d/f", OLD), desk.rename("d/a", "d/b", OLD)]
    desk.send()
    desk.progress.park(marker, "403")
    desk.progress.park(refused[1], "403")
    tree(desk)
    desk.put("e/g")
    desk.progress.park(refused[2], "403")
    assert desk.sent() == ["rename-tree d->e"]
    assert sorted(desk.rows()[1:]) == ["marker e", "put e/f", "put e/g", "rename e/a->e/b"]


def test_what_is_refused_stays_where_it_was_replaced_after_a_rename(desk: Desk) -> None:
    refused = desk.put("d/f", OLD)
    desk.send()
    tree(desk)
    desk.put("e/f")
    desk.progress.park(refused, "403")
    assert desk.rows() == ["put d/f", "rename-tree d->e", "put e/f"]


def test_a_refused_marker_makes_way(desk: Desk) -> None:
    refused = desk.ledger.mkdir("d", options=PLAIN)
    desk.send()
    desk.progress.park(refused, "403")
    desk.ledger.rmdir("d")
    assert desk.sent() == ["delete d"]


def test_a_refused_marker_of_a_new_directory_holds_nothing_back_below(desk: Desk) -> None:
    refused = desk.ledger.mkdir("d", options=PLAIN, made=True)
    removal = desk.ledger.delete("d/a", base=OLD)
    assert removal is not None
    assert desk.send() == [refused]
    desk.progress.park(refused, "403")
    assert not refused.made
    assert desk.send() == [removal]


def test_other_names_never_wait(desk: Desk) -> None:
    refused = desk.put("d/f", OLD)
    desk.send()
    desk.progress.park(refused, "403")
    desk.ledger.mkdir("d", options=PLAIN)
    desk.put("d/g")
    assert sorted(desk.sent()) == ["marker d", "put d/g"]
    desk.ledger.delete("e/h", base=OLD)
    desk.rename("e/i", "e/j", OLD)
    assert sorted(desk.sent()) == ["delete e/h", "rename e/i->e/j"]


def test_a_restart_remembers_what_was_superseded(desk: Desk) -> None:
    refused = desk.put("f", OLD)
    desk.send()
    desk.progress.park(refused, "403")
    desk.put("f", OLD)
    (record,) = desk.journal.load()
    assert refused.token in record.details
