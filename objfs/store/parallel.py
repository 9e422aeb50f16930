"""Many requests at a time, but not too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

T = TypeVar("T")


async def for_each(items: Iterable[T], act: Callable[[T], Awaitable[object]], *, at_once: int) -> None:
    """Act on every item, on at most `at_once` at a time; an error ends all, as in a nursery."""
    limit = trio.CapacityLimiter(at_once)

    async def act_in_turn(item: T) -> None:
        async with limit:
            await act(item)

    async with trio.open_nursery() as nursery:
        for item in items:
            nursery.start_soon(act_in_turn, item)
