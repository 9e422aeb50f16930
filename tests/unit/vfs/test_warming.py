"""Warming gives way to programs, fetches no block twice, and tells of what it could not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import trio
import trio.testing

from objfs.errors import StaleVersionError
from objfs.store.values import MIB, Version
from objfs.vfs.attributes import Defaults, default_attributes
from objfs.vfs.tree import Tree
from objfs.vfs.warming import PARALLEL_FETCHES, WarmCounts, Warmer
from objfs_cache.blocks import open_block_cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs.read.reader import Reader
    from objfs.read.values import Source
    from objfs.vfs.directories import Directories
    from objfs_cache.blocks import BlockCache

BLOCK = 256 * 1024
DEFAULTS = Defaults(uid=0, gid=0, umask=0, time_ns=0)


class SlowReader:
    """Takes a second for each request, and counts those under way."""

    block_bytes = BLOCK

    def __init__(self) -> None:
        self.is_busy = False
        self.under_way = self.most = self.requests = 0
        self.stale: set[str] = set()

    async def fetch_apart(self, source: Source, first: int, stop: int) -> bytes:
        if source.key in self.stale:
            raise StaleVersionError(f"{source.key} was replaced")
        self.requests += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await trio.sleep(1)
        self.under_way -= 1
        return bytes(min(stop * BLOCK, source.version.content_bytes) - first * BLOCK)


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[BlockCache]:
    with open_block_cache(tmp_path, limit_bytes=64 * MIB, floor_fraction=0) as cache:
        yield cache


def a_tree(sizes: dict[str, int]) -> Tree:
    tree = Tree(default_attributes(DEFAULTS, directory=True, modified_ns=0))
    for name, size in sizes.items():
        node = tree.new_file(name, default_attributes(DEFAULTS, directory=False, modified_ns=0))
        node.version = Version(etag=name, size_bytes=size)
        tree.attach(tree.root, name, node)
    return tree


def warm(tree: Tree, reader: SlowReader, blocks: BlockCache) -> WarmCounts:
    warmer = Warmer(tree, cast("Directories", None), cast("Reader", reader), blocks)
    counts = WarmCounts()

    async def run() -> None:
        await warmer.fetch(warmer.known_files(tree.root), counts)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.01))
    return counts


def test_programs_come_first(blocks: BlockCache) -> None:
    for is_busy in (False, True):
        reader = SlowReader()
        reader.is_busy = is_busy
        tree = a_tree({f"f{is_busy}{number}": 9 * MIB for number in range(2)})
        assert warm(tree, reader, blocks).done_files == 2
        assert reader.most == 1 if is_busy else 1 < reader.most <= PARALLEL_FETCHES


def test_what_is_here_is_not_fetched(blocks: BlockCache) -> None:
    reader, tree = SlowReader(), a_tree({"large": 5 * MIB + 1, "small": 10, "empty": 0})
    counts = warm(tree, reader, blocks)
    assert (counts.done_files, counts.fetched_bytes, counts.here_bytes) == (2, 5 * MIB + 11, 0)
    assert reader.requests == 3
    counts = warm(tree, reader, blocks)
    assert (counts.done_files, counts.fetched_bytes, counts.here_bytes) == (2, 0, 5 * MIB + 11)
    assert reader.requests == 3


def test_one_bad_file_spares_the_others(blocks: BlockCache) -> None:
    reader, tree = SlowReader(), a_tree({"a": 100, "b": 100, "c": 100})
    reader.stale = {"b"}
    counts = warm(tree, reader, blocks)
    assert counts.done_files == 2
    assert counts.failed == [("b", "b was replaced")]


def test_what_the_cache_cannot_keep_is_told(tmp_path: Path) -> None:
    with open_block_cache(tmp_path, limit_bytes=4 * MIB, floor_fraction=1.0) as full:
        counts = warm(a_tree({"a": 100}), SlowReader(), full)
    assert counts.done_files == 0
    assert counts.failed[0][0] == "a"
    assert "no room" in counts.failed[0][1]
