"""Contract of conditional writes, as far as the store's capabilities promise them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from objfs.errors import NotFoundError, PreconditionFailedError
from objfs.store.values import ABSENT, Condition, PutOptions
from objfs.testing.samples import all_keys

if TYPE_CHECKING:
    from objfs.store.protocol import ObjectStore

RACERS = 8


class ConditionContract:
    """Tests of conditions of put and copy; those of complete are with multipart."""

    def test_put_if_absent(self, store: ObjectStore) -> None:
        _need_put_conditions(store)
        store.put("a", b"first", condition=ABSENT)
        with pytest.raises(PreconditionFailedError) as caught:
            store.put("a", b"second", condition=ABSENT)
        assert not caught.value.retryable
        assert not caught.value.after_retry
        assert store.get("a").data == b"first"
        store.delete(["a"])
        store.put("a", b"third", condition=ABSENT)

    def test_put_if_match(self, store: ObjectStore) -> None:
        _need_put_conditions(store)
        first = store.put("a", b"first")
        second = store.put("a", b"second", condition=Condition(if_match=first.etag))
        with pytest.raises(PreconditionFailedError):
            store.put("a", b"third", condition=Condition(if_match=first.etag))
        assert store.get("a").info.version == second

    def test_put_if_match_of_a_missing_key(self, store: ObjectStore) -> None:
        _need_put_conditions(store)
        gone = store.put("a", b"1")
        store.delete(["a"])
        with pytest.raises(PreconditionFailedError):
            store.put("a", b"2", condition=Condition(if_match=gone.etag))
        assert all_keys(store) == []

    def test_conditions_of_a_marker(self, store: ObjectStore) -> None:
        _need_put_conditions(store)
        store.put("dir/", b"", condition=ABSENT)
        with pytest.raises(PreconditionFailedError):
            store.put("dir/", b"", condition=ABSENT)

    def test_one_winner_of_a_race(self, store: ObjectStore) -> None:
        _need_put_conditions(store)

        def race(number: int) -> bytes | None:
            body = str(number).encode()
            try:
                store.put("a", body, condition=ABSENT)
            except PreconditionFailedError:
                return None
            return body

        with ThreadPoolExecutor(RACERS) as pool:
            winners = [body for body in pool.map(race, range(RACERS)) if body is not None]
        assert winners == [store.get("a").data]

    def test_one_winner_of_a_race_of_updates(self, store: ObjectStore) -> None:
        _need_put_conditions(store)
        base = store.put("a", b"base")

        def race(number: int) -> bytes | None:
            body = str(number).encode()
            try:
                store.put("a", body, condition=Condition(if_match=base.etag))
            except PreconditionFailedError:
                return None
            return body

        with ThreadPoolExecutor(RACERS) as pool:
            winners = [body for body in pool.map(race, range(RACERS)) if body is not None]
        assert winners == [store.get("a").data]

    def test_copy_conditions(self, store: ObjectStore) -> None:
        if not store.capabilities.copy_conditions:
            pytest.skip("the store does not promise this")
        store.put("a", b"a")
        there = store.put("b", b"b")
        with pytest.raises(PreconditionFailedError):
            store.copy("a", "b", condition=ABSENT)
        with pytest.raises(PreconditionFailedError):
            store.copy("a", "c", condition=Condition(if_match=there.etag))
        assert store.get("b").data == b"b"
        store.copy("a", "b", condition=Condition(if_match=there.etag))
        store.copy("a", "c", condition=ABSENT)
        assert store.get("b").data == store.get("c").data == b"a"
        with pytest.raises(NotFoundError):
            store.copy("missing", "d", options=PutOptions(), condition=ABSENT)


def _need_put_conditions(store: ObjectStore) -> None:
    if not store.capabilities.put_conditions:
        pytest.skip("the store does not promise this")
