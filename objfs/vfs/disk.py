"""One share of the local disk for dirty and clean data: clean data gives way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import trio

from objfs.store.threads import NoThreadError, in_thread
from objfs.store.values import MIB
from objfs_cache.staged import NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from objfs_cache.blocks import BlockCache
    from objfs_cache.staging import Staging

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY_S = 1.0
RELIEF_BYTES = 64 * MIB  # freed at once when a write finds no room


class DiskShare:
    """Keeps staged files and cached blocks together within the cache size."""

    def __init__(self, staging: Staging, blocks: BlockCache | None) -> None:
        self._staging = staging
        self._blocks = blocks

    async def run(self) -> None:
        """Delete staged files that have served, and clean blocks while all is too much, until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            try:
                await self._tidy()
            except NoThreadError as error:
                log.warning("what has served is deleted later: %s", error.strerror)

    async def _tidy(self) -> None:
        if self._staging.has_doomed:
            await in_thread(self._staging.sweep)
        if self._blocks is None:
            return
        clean_bytes = self._blocks.stats().bytes
        over_bytes = self._staging.used_bytes + clean_bytes - self._staging.budget_bytes
        if clean_bytes and over_bytes > 0:
            await in_thread(self._blocks.give_up, min(over_bytes, clean_bytes))

    async def with_room(self, need_bytes: int, step: Callable[[], Awaitable[T]]) -> T:
        """What a step returns, which is taken again from its beginning if room had to be made for it.

        Raises:
            NoSpaceError: there is none.
        """
        try:
            return await step()
        except NoSpaceError:
            if not await self.relieve(need_bytes):
                raise
            return await step()

    async def relieve(self, need_bytes: int) -> bool:
        """A write found no room: free some of the clean data; returns whether there was any."""
        if self._blocks is None or self._staging.used_bytes + need_bytes > self._staging.budget_bytes:
            return False
        wanted = max(need_bytes, RELIEF_BYTES)
        return await in_thread(self._blocks.give_up, wanted) > 0
