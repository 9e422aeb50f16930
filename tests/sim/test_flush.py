"""What a killed mount left is uploaded without a mount, as the next mount would have done it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from objfs.app.flush import FromCache
from objfs.read.reader import open_reader
from objfs.store.values import KIB
from objfs.upload.uploader import UploadSettings, load_operations, open_uploader
from objfs_cache.blocks_peek import peek_block_cache
from objfs_cache.directory import open_cache_directory
from objfs_cache.journal import open_journal
from objfs_cache.staging import open_staging
from tests.sim.client import Client
from tests.sim.mounting import Caches, MountOptions, mounted, run
from tests.sim.store import SimulatedStore
from tests.sim.test_conflicts import Scene

if TYPE_CHECKING:
    from pathlib import Path

BIG = bytes(range(1, 256)) * 100
CACHED = MountOptions(delay_s=60.0, cache_bytes=1 << 24)


async def flush(store: SimulatedStore, cache: Path) -> None:
    """As `objfs flush` does it."""
    with (
        open_cache_directory(cache) as directory,
        open_journal(directory.journal_path) as journal,
        open_staging(
            directory.staging_path,
            budget_bytes=1 << 30,
            floor_fraction=0.0,
            referenced=[one.staged.file_id for one in journal.load() if one.staged is not None],
            journal=journal,
        ) as staging,
        peek_block_cache(directory.blocks_path) as blocks,
    ):
        async with (
            open_reader(store, blocks, memory_limit_bytes=1024 * KIB, block_bytes=4 * KIB) as reader,
            open_uploader(store, journal, UploadSettings(delay_s=0.0)) as uploader,
        ):
            uploader.observer = FromCache(reader)
            uploader.ledger.restore(load_operations(journal, staging))
            await uploader.drain()


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("theirs", [b"theirs", None])
def test_a_part_of_a_file_that_somebody_replaced(tmp_path: Path, flushed: bool, theirs: bytes | None) -> None:
    """What the cache has of the version that was changed is still ours to keep."""
    store, caches = SimulatedStore(dice=random.Random(1)), Caches(tmp_path)
    store.write_foreign("big", BIG)

    async def before() -> None:
        async with mounted(store, caches.path, CACHED) as mount:
            at = Scene(store, mount, Client(mount.filesystem))
            assert (await at.client.entry("big"))[2] == BIG
            await trio.sleep(1.0)
            await at.patch("big", 100, b"ours")
            caches.take_picture()

    async def after() -> None:
        async with mounted(store, caches.path, CACHED) as mount:
            ours = BIG[:100] + b"ours" + BIG[104:]
            wanted = {"big": ours} if theirs is None else {"big": theirs, "big.conflict": ours}
            assert await Scene(store, mount, Client(mount.filesystem)).settle() == wanted

    run(1, before)
    if theirs is None:
        store.delete_foreign("big")
    else:
        store.write_foreign("big", theirs)
    if flushed:
        run(1, lambda: flush(store, caches.path))
    run(1, after)
