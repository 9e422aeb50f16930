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

STALE_WAIT_S = 3.0  # how long a known entry waits for a sign of the store before it is shown as last known
AWAY_S = 5.0  # how long known entries are shown without asking a store that did not answer


class LastKnown:
    """Waits a little for the store, and then not at all for a while."""

    def __init__(self) -> None:
        self._away_until = NEVER
        self._waiting: set[trio.CancelScope] = set()

    def heard(self) -> None:
        """The store answered one of several requests: whoever waits for all of them waits on."""
        for scope in self._waiting:
            scope.deadline = trio.current_time() + STALE_WAIT_S

    async def or_stale(self, refresh: Callable[[], Awaitable[None]]) -> bool:
        """Refresh what is known; if the store does not answer, what is known stands.

        Returns:
            Whether the store answered.
        """
        if trio.current_time() < self._away_until:
            return False
        with trio.move_on_after(STALE_WAIT_S) as scope:
            self._waiting.add(scope)
            try:
                await refresh()
            except (ObjectStoreError, ExceptionGroup) as error:
                log.debug("shown as last known: %s", error)
            else:
                return True
            finally:
                self._waiting.discard(scope)
        self._away_until = trio.current_time() + AWAY_S
        return False
