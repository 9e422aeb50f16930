"""Directories made anew where others are still to be moved away: empty, before and after a restart."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from objfs.errors import UnavailableError
from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import Caches, MountOptions, mounted, run
from tests.sim.store import FAIR, SimulatedStore, Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

OBJECTS = {"a/": b"", "a/b/": b"", "a/b/old": b"O", "q/": b"", "q/f": b"F"}
TTL_S = 2.0

SCENES: dict[str, tuple[Sequence[Op], set[str]]] = {
    "below a directory that took the place of another": (
        (Op("rename", "a", "x"), Op("rename", "q", "a"), Op("mkdir", "a/b")),
        {"a", "a/b", "a/f", "x", "x/b", "x/b/old"},
    ),
    "twice": (
        (Op("rename", "a", "x"), Op("mkdir", "a"), Op("rmdir", "a"), Op("mkdir", "a"), Op("mkdir", "a/b")),
        {"a", "a/b", "q", "q/f", "x", "x/b", "x/b/old"},
    ),
    "twice after a file was there": (
        (
            Op("rename", "a", "x"),
            Op("rename", "q", "a"),
            Op("unlink", "a/f"),
            Op("rmdir", "a"),
            Op("symlink", "a", data=b"a"),
            Op("unlink", "a"),
            Op("mkdir", "a"),
            Op("rmdir", "a"),
            Op("mkdir", "a"),
        ),
        {"a", "x", "x/b", "x/b/old"},
    ),
    "emptied": (
        (Op("unlink", "a/b/old"), Op("rmdir", "a/b"), Op("mkdir", "a/b")),
        {"a", "a/b", "q", "q/f"},
    ),
    "emptied below a directory that took the place of another": (
        (
            Op("rename", "a", "x"),
            Op("rename", "q", "a"),
            Op("rename", "x/b", "a/b"),
            Op("unlink", "a/b/old"),
            Op("rmdir", "a/b"),
            Op("mkdir", "a/b"),
        ),
        {"a", "a/b", "a/f", "x"},
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_is_empty_after_a_restart(tmp_path: Path, scene: str) -> None:
    operations, wanted = SCENES[scene]

    async def main() -> None:
        store = _stored()
        caches = Caches(tmp_path)
        async with mounted(store, caches.path, MountOptions(delay_s=3600.0)) as mount:
            client = Client(mount.filesystem)
            for operation in operations:
                await client.apply(operation)
            assert set(await client.walk()) == wanted
        store.before_request = _refuse_changes
        async with mounted(store, caches.path, MountOptions(metadata_ttl_s=TTL_S)) as mount:
            client = Client(mount.filesystem)
            for _ in range(3):
                assert set(await client.walk()) == wanted
                await trio.sleep(2 * TTL_S)
            store.before_request = _allow
            await mount.uploader.drain()
            await trio.sleep(2 * TTL_S)
            assert set(await client.walk()) == wanted
        assert {key.rstrip("/") for key in store.objects()} == wanted

    run(1, main)


def test_is_empty_although_a_file_in_it_was_stored_elsewhere(tmp_path: Path) -> None:
    wanted = {"a", "a/g", "q", "q/f", "x", "x/b", "x/b/old"}

    async def main() -> None:
        store = _stored(_refuse_copies)
        async with mounted(
            store, tmp_path / "cache", MountOptions(delay_s=0.0, metadata_ttl_s=TTL_S)
        ) as mount:
            client = Client(mount.filesystem)
            await client.walk()
            store.weather = Weather(latency_s=(5.0, 5.0))
            await client.apply(Op("create", "g", slot=1))
            await client.apply(Op("write", slot=1, data=b"G"))
            await client.apply(Op("close", slot=1))
            await trio.sleep(1.0)
            for operation in (Op("rename", "a", "x"), Op("mkdir", "a"), Op("rename", "g", "a/g")):
                await client.apply(operation)
            assert "g" not in store.objects()
            await trio.sleep(30.0)
            assert store.objects()["g"] == b"G"
            store.weather = FAIR
            assert set(await client.walk()) == wanted
            store.before_request = _allow
            await mount.uploader.drain()
        assert {key.rstrip("/") for key in store.objects()} == wanted

    run(1, main)


THERE_AND_BACK = (Op("rename", "a", "y"), Op("rename", "y", "a"))
LATER: dict[str, tuple[Sequence[Op], Op, set[str]]] = {
    "with something that moves": (
        (Op("mkdir", "a/new"), Op("rename", "q/f", "a/new/f")),
        Op("rename", "a/new", "z"),
        {"a", "a/b", "a/b/old", "q", "z", "z/f"},
    ),
    "with directories": (
        (Op("mkdir", "a/new"), Op("mkdir", "a/new/k"), Op("symlink", "a/new/k/s", data=b"s")),
        Op("rename", "a/new", "z"),
        {"a", "a/b", "a/b/old", "q", "q/f", "z", "z/k", "z/k/s"},
    ),
}


@pytest.mark.parametrize("gone", [False, True], ids=["before it went", "meanwhile"])
@pytest.mark.parametrize("scene", LATER)
def test_its_content_is_found_after_what_is_above_went_and_came_back(
    tmp_path: Path, scene: str, gone: bool
) -> None:
    made, moved, wanted = LATER[scene]

    async def main() -> None:
        store = _stored(_refuse_deletes)
        async with mounted(
            store, tmp_path / "cache", MountOptions(delay_s=0.0, metadata_ttl_s=TTL_S)
        ) as mount:
            client = Client(mount.filesystem)
            for operation in THERE_AND_BACK if gone else (*THERE_AND_BACK, *made):
                await client.apply(operation)
            await trio.sleep(30.0)
            assert "y/b/old" in store.objects()
            for operation in made if gone else ():
                await client.apply(operation)
            await client.apply(moved)
            assert set(await client.walk()) == wanted
            store.before_request = _allow
            await mount.uploader.drain()
            await trio.sleep(2 * TTL_S)
            assert set(await client.walk()) == wanted
            assert not mount.filesystem._tree.displaced
        assert {key.rstrip("/") for key in store.objects()} == wanted

    run(1, main)


def _allow(name: str, key: str) -> None:
    pass


def _stored(before_request: Callable[[str, str], None] = _allow) -> SimulatedStore:
    store = SimulatedStore(dice=random.Random(1), before_request=before_request)
    for key, data in OBJECTS.items():
        store.memory.put(key, data)
    return store


def _refuse_copies(name: str, key: str) -> None:
    if name.startswith("COPY"):
        raise UnavailableError("No copies now.", key=key)


def _refuse_deletes(name: str, key: str) -> None:
    if name.startswith("DELETE"):
        raise UnavailableError("No deletes now.", key=key)


def _refuse_changes(name: str, key: str) -> None:
    if not name.startswith(("HEAD", "GET", "LIST")):
        raise UnavailableError("No changes now.", key=key)
