"""Files that are made in the store before anybody is told: `O_EXCL` in write-through mode."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import MountOptions, mounted, run
from tests.sim.store import FAIR, SimulatedStore, Weather

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OBJECTS = {"f": b"F", "p/d/": b"", "p/d/old": b"O"}
SLOW = Weather(latency_s=(3.0, 3.0))


def make(path: str) -> Sequence[Op]:
    """A program makes a file that nobody else may have made."""
    return (
        Op("create", path, slot=1, flags=os.O_EXCL | os.O_RDWR),
        Op("write", slot=1, data=b"ours"),
        Op("close", slot=1),
    )


def play(tmp_path: Path, slow: str, *programs: Sequence[Op]) -> dict[str, bytes]:
    """Programs that begin one after the other, while the store is slow with one request.

    Returns:
        What is in the store in the end.
    """

    async def main() -> dict[str, bytes]:
        store = SimulatedStore(dice=random.Random(1))
        store.capabilities = replace(store.capabilities, file_over_prefix=False)
        for key, data in OBJECTS.items():
            store.memory.put(key, data)

        def slow_down(name: str, key: str) -> None:
            store.weather = SLOW if f"{name} {key}" == slow else FAIR

        store.before_request = slow_down
        async with mounted(store, tmp_path / "cache", MountOptions(delay_s=0.0, through=True)) as mount:
            client = Client(mount.filesystem)
            await client.walk()

            async def go_on(number: int, operations: Sequence[Op]) -> None:
                await trio.sleep(float(number))
                for operation in operations:
                    await client.apply(operation)

            async with trio.open_nursery() as nursery:
                for number, operations in enumerate(programs):
                    nursery.start_soon(go_on, number, operations)
            await mount.uploader.drain()
            await trio.sleep(10.0)
            shown = {path: entry[2] for path, entry in (await client.walk()).items()}
            objects = store.objects()
            assert {key: data for key, data in shown.items() if data} == {
                key: data for key, data in objects.items() if data
            }
        assert store.violations == []
        return objects

    return run(1, main)


@pytest.mark.parametrize(("old", "new", "there"), [("p", "q", "q/d"), ("p/d", "e", "e")])
def test_a_directory_above_moves_meanwhile(tmp_path: Path, old: str, new: str, there: str) -> None:
    """It takes the file along, and nothing is left where it was."""
    found = play(tmp_path, "PUT p/d/x", make("p/d/x"), [Op("rename", old, new)])
    wanted = {"f": b"F", f"{there}/": b"", f"{there}/old": b"O", f"{there}/x": b"ours"}
    assert {key: data for key, data in found.items() if key != "p/"} == wanted


def test_a_file_was_in_the_place_of_its_directory(tmp_path: Path) -> None:
    """Which is gone from the store before something is put below its name."""
    found = play(tmp_path, "DELETE f", [Op("unlink", "f")], [Op("mkdir", "f")], make("f/x"))
    assert found == {"f/": b"", "f/x": b"ours", "p/d/": b"", "p/d/old": b"O"}
