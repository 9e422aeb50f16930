"""Request slots: who has stalled gives its slot away, who moves keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from objfs.read.budget import RequestSlots
from objfs.store.stalls import LOOK_S, MAX_STALLED, STALL_S, Pulse
from tests.unit.read.simulated import run

SLOTS = 4


@dataclass(eq=False)
class AFetch:
    object_id: str
    is_wanted: bool = True
    pulse: Pulse = field(default_factory=Pulse)


async def filled(slots: RequestSlots) -> list[AFetch]:
    """Fetches in all slots."""
    fetches = [AFetch(str(number)) for number in range(SLOTS)]
    for fetch in fetches:
        await slots.acquire(fetch)
    return fetches


def test_a_stalled_request_gives_its_slot_to_the_next() -> None:
    async def body() -> None:
        slots = RequestSlots(SLOTS)
        await filled(slots)
        began = trio.current_time()
        for number in range(SLOTS):
            await slots.acquire(AFetch(f"more{number}"))
        assert STALL_S <= trio.current_time() - began <= STALL_S + LOOK_S
        assert slots.running == 2 * SLOTS

    run(body)


def test_a_request_that_moves_keeps_its_slot() -> None:
    async def body() -> None:
        slots = RequestSlots(SLOTS)
        fetches = await filled(slots)

        async def move() -> None:
            for _ in range(20):
                await trio.sleep(STALL_S / 2)
                for fetch in fetches:
                    fetch.pulse.beat()
            slots.release(fetches[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(move)
            began = trio.current_time()
            await slots.acquire(AFetch("more"))
            assert trio.current_time() - began >= 10 * STALL_S

    run(body)


def test_not_any_number_may_stall() -> None:
    async def body() -> None:
        slots = RequestSlots(SLOTS)
        async with trio.open_nursery() as nursery:
            for number in range(SLOTS + MAX_STALLED + 10):
                nursery.start_soon(slots.acquire, AFetch(str(number)))
            await trio.sleep(1000 * STALL_S)
            assert slots.running == SLOTS + MAX_STALLED
            nursery.cancel_scope.cancel()

    run(body)
