"""Pinned blocks stay, whatever comes, until they are given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from objfs_cache.blocks import BlockCache, Verification, open_block_cache

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
BLOCK = bytes(range(256)) * 256  # 64 KiB
LIMIT = 4 * MIB


def fill(cache: BlockCache, object_id: str, count: int = 16) -> bool:
    return cache.put_many(object_id, [(number, BLOCK) for number in range(count)])


def count(cache: BlockCache, object_id: str) -> int:
    return len(cache.held(object_id))


def test_pinned_blocks_outlive_any_pressure_and_a_restart(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT, floor_fraction=0) as cache:
        assert fill(cache, "pinned")
        cache.pin(["pinned", "later"], keep_others=True)
        for number in range(20):
            fill(cache, f"other{number}")
        assert fill(cache, "later")
        assert cache.give_up(100 * MIB) > 0
        assert (count(cache, "pinned"), count(cache, "later")) == (16, 16)
        assert cache.pinned_bytes() == 32 * len(BLOCK)
    with open_block_cache(tmp_path, limit_bytes=LIMIT, floor_fraction=0) as cache:
        for number in range(20):
            fill(cache, f"more{number}")
        assert cache.give_up(100 * MIB) > 0
        assert cache.get("pinned", 3) == cache.get("later", 15) == BLOCK


def test_what_is_no_longer_pinned_goes_as_the_others_do(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT, floor_fraction=0) as cache:
        fill(cache, "old version")
        cache.pin(["old version"], keep_others=False)
        fill(cache, "new version")
        cache.pin(["new version"], keep_others=False)
        assert cache.is_pinned("new version")
        assert not cache.is_pinned("old version")
        cache.give_up(100 * MIB)
        assert (count(cache, "old version"), count(cache, "new version")) == (0, 16)
        cache.pin([], keep_others=False)
        cache.give_up(100 * MIB)
        assert count(cache, "new version") == 0


def test_pins_of_an_earlier_life_stay_until_they_are_replaced(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a")
        cache.pin(["a"], keep_others=True)
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        cache.pin(["b"], keep_others=True)
        cache.give_up(100 * MIB)
        assert count(cache, "a") == 16
        cache.pin(["b"], keep_others=False)
        cache.give_up(100 * MIB)
        assert count(cache, "a") == 0


def test_nothing_is_put_where_only_pinned_blocks_could_make_room(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT, floor_fraction=0) as cache:
        for name in ("pinned", "pinned too"):
            cache.pin([name], keep_others=True)
            assert fill(cache, name, 28)
        assert not fill(cache, "other", 16)
        assert (count(cache, "pinned"), count(cache, "pinned too")) == (28, 28)
        assert cache.stats().bytes <= LIMIT


def test_a_smaller_limit_holds_at_once(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "pinned")
        cache.pin(["pinned"], keep_others=True)
        fill(cache, "other", 30)
        cache.set_limit(2 * MIB)
        assert cache.stats().bytes <= 2 * MIB
        assert count(cache, "pinned") == 16
        assert cache.limit_bytes == cache.stats().limit_bytes == 2 * MIB


def test_what_is_touched_goes_last(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        for name in ("a", "b", "c"):
            fill(cache, name)
        cache.touch("a")
        cache.give_up(16 * len(BLOCK))
        assert (count(cache, "a"), count(cache, "b"), count(cache, "c")) == (16, 0, 16)


def test_what_is_held_is_told_without_reading(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        cache.put_many("a:1", [(0, BLOCK), (7, b"short")])
        cache.put_many("a", [(3, BLOCK)])
        assert cache.held("a:1") == {0: len(BLOCK), 7: 5}
        assert cache.held("nothing") == {}


def test_a_verification_tells_how_far_it_is_and_can_be_ended(tmp_path: Path) -> None:
    steps: list[Verification] = []
    with open_block_cache(tmp_path, limit_bytes=LIMIT) as cache:
        fill(cache, "a", 5)
        damaged = sorted(path for path in tmp_path.glob("??/*") if path.is_file())[2]
        damaged.write_bytes(BLOCK[:-1] + b"!")
        result = cache.verify(steps.append)
        assert (result.checked_blocks, result.bad_blocks) == (5, 1)
        assert result.checked_bytes == 5 * len(BLOCK)
        assert [step.checked_blocks for step in steps] == [1, 2, 3, 4, 5]
        assert count(cache, "a") == 4

        def stop(_done: Verification) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cache.verify(stop)
