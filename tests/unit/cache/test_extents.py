"""Extents against a plain set of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from objfs_cache.extents import Extents

LIMIT = 60
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, LIMIT), st.integers(0, 12)),
        st.tuples(st.just("cut"), st.integers(0, LIMIT), st.just(0)),
    ),
    max_size=30,
)


@given(steps, st.integers(0, LIMIT), st.integers(0, LIMIT))
def test_extents_are_a_set_of_bytes(changes: list[tuple[str, int, int]], low: int, high: int) -> None:
    extents, wanted = Extents(), set[int]()
    for name, at, size in changes:
        if name == "add":
            new = set(range(at, at + size)) - wanted
            assert extents.add(at, at + size) == len(new)
            wanted |= new
        else:
            extents.cut(at)
            wanted = {one for one in wanted if one < at}
        assert {one for start, stop in extents for one in range(start, stop)} == wanted
        assert extents.total_bytes == len(wanted)
        ranges = list(extents)
        assert all(one[1] < two[0] for one, two in itertools.pairwise(ranges))
    assert extents.covers(low, high) == (set(range(low, high)) <= wanted)
    at = low
    for start, stop, is_in in extents.pieces(low, high):
        assert start == at < stop
        at = stop
        assert all((one in wanted) == is_in for one in range(start, stop))
    assert at == max(low, high) if low < high else at == low
    assert Extents(extents) == extents == extents.copy()
