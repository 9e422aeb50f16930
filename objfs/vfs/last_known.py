"""What is known stands while the store does not answer."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

import trio

from objfs.errors import ObjectStoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

STALE_WAIT_S = 3.0  # how long a known entry waits for a sign of the store before it is shown as last known
AWAY_S = 5.0  # how often a store that did not answer is asked whether it does; meanwhile nobody waits for it

_waiting: ContextVar[tuple[trio.CancelScope, ...]] = ContextVar("waiting", default=())


class LastKnown:
    """Waits a little for the store, and then not at all until it answers again."""

    def __init__(self, nursery: trio.Nursery, ask: Callable[[], Awaitable[object]]) -> None:
        """`ask` is any question to the store; the nursery is for who goes on asking."""
        self._nursery = nursery
        self._ask = ask
        self.is_away = False
        """Whether nobody waits for it."""

    def heard(self) -> None:
        """The store answered one of several requests: whoever waits for all of them waits on."""
        for scope in _waiting.get():
            scope.deadline = trio.current_time() + STALE_WAIT_S

    async def or_stale(self, refresh: Callable[[], Awaitable[object]]) -> bool:
        """Refresh what is known; if the store does not answer, what is known stands.

        Returns:
            Whether the store answered.
        """
        if self.is_away:
            return False
        if await _is_answered(refresh):
            return True
        if not self.is_away:
            self.is_away = True
            self._nursery.start_soon(self._ask_until_answered)
        return False

    async def _ask_until_answered(self) -> None:
        while self.is_away:
            await trio.sleep(AWAY_S)
            self.is_away = not await _is_answered(self._ask)


async def _is_answered(ask: Callable[[], Awaitable[object]]) -> bool:
    with trio.move_on_after(STALE_WAIT_S) as scope:
        before = _waiting.set((*_waiting.get(), scope))
        try:
            await ask()
        except (ObjectStoreError, ExceptionGroup) as error:
            log.debug("shown as last known: %s", error)
        else:
            return True
        finally:
            _waiting.reset(before)
    return False
