"""Requests under way while directories move in the store: what they told is about another object."""

from __future__ import annotations

from objfs.vfs.attributes import Defaults, default_attributes
from objfs.vfs.tree import MOVES_REMEMBERED, Tree


def test_a_request_is_outdated_by_moves_there_and_back() -> None:
    tree = Tree(default_attributes(Defaults(uid=0, gid=0), directory=True, modified_ns=0))
    before = tree.moves
    tree.tree_moved("a/", "b/", epoch=1)
    tree.tree_moved("b/", "a/", epoch=2)
    assert tree.has_moved("a/x", since=before)
    assert tree.has_moved("b/", since=before)
    assert not tree.has_moved("c/x", since=before)
    assert not tree.has_moved("a/x", since=tree.moves)


def test_a_request_that_is_older_than_all_that_is_known_is_outdated() -> None:
    tree = Tree(default_attributes(Defaults(uid=0, gid=0), directory=True, modified_ns=0))
    before = tree.moves
    for number in range(MOVES_REMEMBERED + 1):
        tree.tree_moved(f"a{number}/", f"b{number}/", epoch=1)
    assert tree.has_moved("c/x", since=before)
    assert not tree.has_moved("c/x", since=before + 1)
