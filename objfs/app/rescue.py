"""Copies of what could not be uploaded, out of the cache of a mount that is gone, or of one that answers."""

from __future__ import annotations

from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

import trio

from objfs.app.local import as_mount_errors
from objfs.app.stores import store_options
from objfs.control.rescue import Candidate, Rescued, base_id, find_candidates, read_mounted, rescue
from objfs.errors import MountError
from objfs.read.reader import open_reader
from objfs.read.values import Source
from objfs.store.registry import open_store
from objfs.store.retry import RetryingStore, RetryPolicy
from objfs.store.threads import ThreadedStore
from objfs.store.urls import StoreUrl
from objfs_cache.blocks_peek import peek_block_cache
from objfs_cache.directory import CacheDirectory, peek_cache_directory
from objfs_cache.journal import peek_journal

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.config import MountSettings

RESCUE_POLICY = RetryPolicy(max_attempts=1)  # a store that is away is not asked for long: there may be much


def run_rescue(settings: MountSettings, folder: Path, *, everything: bool) -> list[Rescued]:
    """Copy what could not be uploaded out of the cache of a mount that is gone.

    Raises:
        MountError: the cache is in use, or the folder cannot be used.
    """
    return trio.run(_rescue, settings, folder, everything)


async def _rescue(settings: MountSettings, folder: Path, everything: bool) -> list[Rescued]:
    async with AsyncExitStack() as stack:
        stack.enter_context(as_mount_errors())
        directory = stack.enter_context(peek_cache_directory(settings.cache_path))
        candidates = find_candidates(peek_journal(directory.journal_path), everything=everything)
        if not candidates:
            return []
        url = StoreUrl.parse(settings.url)
        driver = stack.enter_context(closing(open_store(url, store_options(settings))))
        blocks = stack.enter_context(peek_block_cache(directory.blocks_path))
        store = ThreadedStore(RetryingStore(driver, RESCUE_POLICY))
        reader = await stack.enter_async_context(
            open_reader(store, blocks, memory_limit_bytes=settings.memory_limit_bytes)
        )

        async def read_base(one: Candidate, start: int, stop: int) -> bytes:
            if one.base is None:
                raise MountError("the object below the change is not known")
            source = Source(object_id=base_id(one), key=one.base_key, version=one.base)
            return await reader.read(source, start, stop - start, reader.new_stream())

        return await rescue(candidates, directory.staging_path, folder, read_base)


def run_rescue_mounted(
    cache_path: Path, mountpoint: Path, folder: Path, *, everything: bool
) -> list[Rescued]:
    """Copy what could not be uploaded out of the cache of a mount that answers.

    Raises:
        MountError: the journal cannot be read, or the folder cannot be used.
    """

    async def read_base(one: Candidate, start: int, stop: int) -> bytes:
        return await trio.to_thread.run_sync(read_mounted, mountpoint / one.path, start, stop)

    directory = CacheDirectory(path=cache_path)
    with as_mount_errors():
        candidates = find_candidates(peek_journal(directory.journal_path), everything=everything)
        if not candidates:
            return []
        return trio.run(rescue, candidates, directory.staging_path, folder, read_base)
