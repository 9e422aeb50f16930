"""Which operations wait for which: the examples of the design, and the rule itself at random."""

from __future__ import annotations

import itertools
import random

import pytest

from objfs.upload.operations import Kind, Operation
from objfs.upload.order import Order

ADDITIVE = {Kind.PUT, Kind.MARKER, Kind.SET}


def operation(kind: Kind, path: str, source: str = "") -> Operation:
    directory = kind in (Kind.MARKER, Kind.RENAME_TREE)
    return Operation(kind=kind, path=path, source=source, directory=directory)


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
        (operation(Kind.DELETE, "d/x"), operation(Kind.MARKER, "d"), True),
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
    return operation(kind, path(), path() if kind in (Kind.RENAME, Kind.RENAME_TREE) else "")


def must_wait(new: Operation, old: Operation) -> bool:
    for mine, other in itertools.product(places(new), places(old)):
        same = mine == other
        related = same or mine.startswith(f"{other}/") or other.startswith(f"{mine}/")
        if related and not ({new.kind, old.kind} <= ADDITIVE and not same):
            return True
    return False


def places(one: Operation) -> list[str]:
    return [one.path, one.source] if one.source else [one.path]
