"""Uploads of what an earlier mount left in its journal, without a mount."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from objfs.app.local import as_mount_errors, open_changes
from objfs.app.stores import UPLOAD_POLICY, open_driver, upload_settings
from objfs.control.remount import rates_of
from objfs.control.values import DrainProgress, drain_progress
from objfs.read.reader import open_reader
from objfs.read.salvage import salvage
from objfs.read.values import Source, object_name
from objfs.store.limit import LimitingStore, PacingStore
from objfs.store.pace import Traffic
from objfs.store.retry import RetryingStore
from objfs.store.threads import ThreadedStore
from objfs.upload.observer import NoObserver
from objfs.upload.uploader import load_operations, open_uploader
from objfs_cache.blocks_peek import peek_block_cache
from objfs_cache.directory import open_cache_directory
from objfs_cache.metadata import open_metadata_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.config import MountSettings
    from objfs.read.reader import Reader
    from objfs.upload.operations import Operation
    from objfs.upload.uploader import Uploader

PROGRESS_INTERVAL_S = 0.25  # smooth to the eye, nothing to the processor
NOTHING_WAITS = DrainProgress(
    waiting_files=0, waiting_bytes=0, waiting_changes=0, uploaded_files=0, uploaded_bytes=0, parked_count=0
)


class FromCache(NoObserver):
    """Has what a mount would have of a version that somebody replaced: the cached blocks."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def salvage(self, operation: Operation) -> None:
        """See `Observer`."""
        base, staged = operation.base.version, operation.staged
        if base is None or staged is None:
            return
        source = Source(object_id=object_name(operation.key, base), key=operation.key, version=base)
        stream = self._reader.new_stream()

        async def read_below(start: int, stop: int) -> bytes:
            return await self._reader.read(source, start, stop - start, stream)

        await salvage(staged, self._reader.block_bytes, read_below)


def run_flush(settings: MountSettings, *, on_progress: Callable[[DrainProgress], None]) -> DrainProgress:
    """Upload what an earlier mount left in the journal, without a mount; returns what is left.

    What the store had refused is tried once more, as by a new mount.

    Raises:
        MountError: the cache is in use, or the store cannot be used.
        UsageError: the URL or an option is wrong.
    """
    return trio.run(_flush, settings, on_progress)


async def _flush(settings: MountSettings, on_progress: Callable[[DrainProgress], None]) -> DrainProgress:
    async with AsyncExitStack() as stack:
        stack.enter_context(as_mount_errors())
        directory = stack.enter_context(open_cache_directory(settings.cache_path))
        journal, staging = stack.enter_context(open_changes(directory, settings))
        if not journal.load() and not journal.notes():
            return NOTHING_WAITS
        traffic = Traffic(rates_of(settings))
        driver = await stack.enter_async_context(open_driver(settings, directory, traffic))
        limited = PacingStore(LimitingStore(driver, max_requests=settings.max_requests), traffic)
        store = ThreadedStore(RetryingStore(limited, UPLOAD_POLICY))
        uploads = await upload_settings(settings, driver, delay_s=0.0)
        blocks = stack.enter_context(peek_block_cache(directory.blocks_path))
        metadata = stack.enter_context(open_metadata_cache(directory.metadata_path))
        async with (
            open_reader(store, blocks, memory_limit_bytes=settings.memory_limit_bytes) as reader,
            open_uploader(store, journal, uploads, metadata) as uploader,
        ):
            uploader.observer = FromCache(reader)
            uploader.ledger.restore(load_operations(journal, staging))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_report_progress, uploader, on_progress)
                await uploader.drain()
                nursery.cancel_scope.cancel()
            return drain_progress(uploader.status())


async def _report_progress(uploader: Uploader, on_progress: Callable[[DrainProgress], None]) -> None:
    while True:
        on_progress(drain_progress(uploader.status()))
        await trio.sleep(PROGRESS_INTERVAL_S)
