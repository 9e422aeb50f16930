"""A directory is renamed, and the process dies at each request in turn: nothing is lost or doubled."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import trio

from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import Caches, mounted, run
from tests.sim.store import Killed, KillSwitch, SimulatedStore

if TYPE_CHECKING:
    from pathlib import Path

WANTED = {"e/": b"", "e/a": b"A", "e/b": b"B", "e/s/c": b"C" * 3000, "e/new": b"N"}


def test_killed_at_each_request(tmp_path: Path) -> None:
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        folder.mkdir()
        if not run(step, lambda folder=folder, step=step: rename_and_die(folder, step)):  # type: ignore[misc]
            assert step > 12
            return


async def rename_and_die(folder: Path, step: int) -> bool:
    """One rename; returns whether it died on the way."""
    store = SimulatedStore(dice=random.Random(step), content_etags=bool(step % 2))
    for key, data in WANTED.items():
        if key != "e/new":
            store.memory.put("d" + key[1:], data)
    caches = Caches(folder)
    async with mounted(store, caches.path) as mount:
        client = Client(mount.filesystem)
        await client.apply(Op("rename", "d", "e"))
        await client.apply(Op("create", "e/new", slot=1))
        await client.apply(Op("write", slot=1, data=b"N"))
        await client.apply(Op("close", slot=1))
    store.switch = KillSwitch(at=step, on_kill=caches.take_picture)
    try:
        async with mounted(store, caches.path) as mount:
            await mount.uploader.drain()
    except BaseExceptionGroup as group:
        if group.split(Killed)[1] is not None:
            raise
    except Killed:
        pass
    died, store.switch = store.switch.dead, KillSwitch()
    assert {data for key, data in store.objects().items() if data} >= {b"A", b"B", b"C" * 3000}
    async with mounted(store, caches.path) as mount:
        client = Client(mount.filesystem)
        seen = await client.walk()
        assert {path: entry[2] for path, entry in seen.items() if entry[0] == "file"} == {
            key: data for key, data in WANTED.items() if data
        }, f"killed at {step}"
        await mount.uploader.drain()
        await trio.sleep(1.0)
        assert store.objects() == WANTED, f"killed at {step}"
    return died
