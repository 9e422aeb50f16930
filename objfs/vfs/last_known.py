"""What is known stands while the store does not answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from objfs.errors import ObjectStoreError
from objfs.vfs.nodes import NEVER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

STALE_WAIT_S = 3.0  # how long a known entry waits for the store before it is shown as last known
AWAY_S = 5.0  # how long known entries are shown without asking a store that did not answer


class LastKnown:
    """Waits a little for the store, and then not at all for a while."""

    def __init__(self) -> None:
        self._away_until = NEVER

    async def or_stale(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Refresh what is known; if the store does not answer, what is known stands."""
        if trio.current_time() < self._away_until:
            return
        with trio.move_on_after(STALE_WAIT_S):
            try:
                await refresh()
            except (ObjectStoreError, ExceptionGroup) as error:
                log.debug("shown as last known: %s", error)
            else:
                return
        self._away_until = trio.current_time() + AWAY_S
