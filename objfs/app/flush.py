"""Uploads of what an earlier mount left in its journal, without a mount."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import trio

from objfs.app.local import as_mount_errors, open_changes
from objfs.app.stores import UPLOAD_POLICY, open_driver, upload_settings
from objfs.control.remount import rates_of
from objfs.control.values import DrainProgress, drain_progress
from objfs.store.limit import LimitingStore, PacingStore
from objfs.store.pace import Traffic
from objfs.store.retry import RetryingStore
from objfs.store.threads import ThreadedStore
from objfs.upload.uploader import load_operations, open_uploader
from objfs_cache.directory import open_cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.config import MountSettings
    from objfs.upload.uploader import Uploader

PROGRESS_INTERVAL_S = 0.25  # smooth to the eye, nothing to the processor
NOTHING_WAITS = DrainProgress(
    waiting_files=0, waiting_bytes=0, waiting_changes=0, uploaded_files=0, uploaded_bytes=0, parked_count=0
)


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
        async with open_uploader(store, journal, uploads) as uploader:
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
