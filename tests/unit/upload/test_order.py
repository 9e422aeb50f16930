"""Which operations wait for which: the examples of the design, and the rule itself at random."""

from __future__ import annotations

import itertools
import random

import pytest

from objfs.upload.operations import Kind, Operation
from objfs.upload.order import Order

ADDITIVE = {Kind.PUT, Kind.MARKER, Kind.SET}


def operation(kind: Kind, path: str, source: str = "", *, made: bool = False) -> Operation:
    directory = kind in (Kind.MARKER, Kind.RENAME_TREE)
    return Operation(kind=kind, path=path, source=source, directory=directory, made=made)


def waits(*operations: Operation) -> list[bool]:
    """For each but the first, whether it waits for any before it."""
    order = Order()
    return [not order.add(one) for one in operations][1:]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (operation(Kind.PUT, "a"), operation(Kind.PUT, "b"), False),
        (operation(Kind.PUT, "a"), operation(Kind.PUT, "a"), True),
        (operation(Kind.PUT, "a"), operation(Kind.PUT, "ab"), False),
        (operation(Kind.MARKER, ""), operation(Kind.DELETE, "a"), False),
        (operation(Kind.RENAME_TREE, "b", "a"), operation(Kind.MARKER, ""), False),
        (operation(Kind.MARKER, ""), operation(Kind.MARKER, ""), True),
        (operation(Kind.MARKER, "d"), operation(Kind.PUT, "d/x"), False),
        (operation(Kind.PUT, "d/x"), operation(Kind.MARKER, "d"), False),
        (operation(Kind.PUT, "d/x"), operation(Kind.DELETE, "d"), True),
        (operation(Kind.DELETE, "d/x"), operation(Kind.MARKER, "d", made=True), True),
        (operation(Kind.DELETE, "d/x"), operation(Kind.MARKER, "d"), False),
        (operation(Kind.MARKER, "d", made=True), operation(Kind.RENAME, "d/y", "d/x"), True),
        (operation(Kind.MARKER, "d"), operation(Kind.RENAME, "d/y", "d/x"), False),
        (operation(Kind.MARKER, "d"), operation(Kind.RENAME_TREE, "d/y", "d/x"), False),
        (operation(Kind.MARKER, "d"), operation(Kind.RENAME_TREE, "e", "d"), True),
        (operation(Kind.MARKER, "d/e"), operation(Kind.RENAME_TREE, "f", "d"), True),
        (operation(Kind.MARKER, "d"), operation(Kind.DELETE, "d"), True),
        (operation(Kind.MARKER, "d/e"), operation(Kind.DELETE, "d"), True),
        (operation(Kind.MARKER, "d/e"), operation(Kind.RENAME, "d", "f"), True),
        (operation(Kind.DELETE, "d/x"), operation(Kind.DELETE, "d/y"), False),
        (operation(Kind.DELETE, "d/x"), operation(Kind.DELETE, "d"), True),
        (operation(Kind.RENAME, "b", "a"), operation(Kind.PUT, "a"), True),
        (operation(Kind.RENAME, "b", "a"), operation(Kind.PUT, "b"), True),
        (operation(Kind.RENAME_TREE, "e", "d"), operation(Kind.PUT, "d/x"), True),
        (operation(Kind.RENAME_TREE, "e", "d"), operation(Kind.PUT, "e/x/y"), True),
        (operation(Kind.PUT, "d/x/y"), operation(Kind.RENAME_TREE, "e", "d"), True),
        (operation(Kind.RENAME_TREE, "e", "d"), operation(Kind.PUT, "f"), False),
    ],
)
def test_the_second_waits(first: Operation, second: Operation, expected: bool) -> None:
    assert waits(first, second) == [expected]


def test_three_renames_that_exchange_two_files_go_one_by_one() -> None:
    chain = [
        operation(Kind.RENAME, "t", "a"),
        operation(Kind.RENAME, "a", "b"),
        operation(Kind.RENAME, "b", "t"),
    ]
    assert waits(*chain) == [True, True]


def test_random_operations_obey_the_rule() -> None:
    dice = random.Random(1)
    for _ in range(200):
        order, unfinished = Order(), list[Operation]()
        wanted: dict[Operation, set[Operation]] = {}
        for _ in range(30):
            if unfinished and dice.random() < 0.4:
                gone = dice.choice(unfinished)
                unfinished.remove(gone)
                freed = order.remove(gone)
                expected = {one for one in unfinished if gone in wanted[one] and wanted[one] == {gone}}
                for one in unfinished:
                    wanted[one].discard(gone)
                assert set(freed) == expected
                continue
            new = random_operation(dice)
            wanted[new] = {old for old in unfinished if must_wait(new, old)}
            assert order.add(new) == (not wanted[new])
            unfinished.append(new)
        assert set(order) == set(unfinished)


def random_operation(dice: random.Random) -> Operation:
    def path() -> str:
        return "/".join(dice.choice("abc") for _ in range(dice.randint(1, 3)))

    kind = dice.choice(list(Kind))
    source = path() if kind in (Kind.RENAME, Kind.RENAME_TREE) else ""
    return operation(kind, path(), source, made=kind is Kind.MARKER and dice.random() < 0.5)


def must_wait(new: Operation, old: Operation) -> bool:
    for marker, one in ((new, old), (old, new)):
        is_old = marker.kind is Kind.MARKER and not marker.made
        if is_old and all(not f"{marker.path}/".startswith(f"{path}/") for path in places(one)):
            return False
    for mine, other in itertools.product(places(new), places(old)):
        same = mine == other
        related = same or mine.startswith(f"{other}/") or other.startswith(f"{mine}/")
        if related and not ({new.kind, old.kind} <= ADDITIVE and not same):
            return True
    return False


def test_what_is_below_a_directory_need_not_wait_for_its_marker_any_more() -> None:
    order = Order()
    marker = operation(Kind.MARKER, "d", made=True)
    below, other = operation(Kind.DELETE, "d/x"), operation(Kind.DELETE, "d")
    order.add(marker)
    assert not order.add(below)
    assert not order.add(other)
    marker.made = False
    assert order.loosen(marker) == [below]
    assert order.followers(marker) == [other]
    assert order.remove(marker) == []
    assert order.remove(below) == [other]


def places(one: Operation) -> list[str]:
    return [one.path, one.source] if one.source else [one.path]
