"""Nothing waits for ever for a file that stays open, or for what the store refuses."""

from __future__ import annotations

import errno
import itertools
import os
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from objfs.errors import PermissionDeniedError
from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import Caches, Disk, MountOptions, mounted, run
from tests.sim.store import SimulatedStore, Weather

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

OBJECTS = {"d/": b"", "d/old": b"O", "f": b"F"}

SCENES: dict[str, tuple[Sequence[Op], dict[str, bytes]]] = {
    "made": (
        (Op("create", "g", slot=1),),
        {**OBJECTS, "g": b""},
    ),
    "made in a directory that is renamed then": (
        (Op("create", "d/g", slot=1), Op("rename", "d", "e")),
        {"e/": b"", "e/old": b"O", "e/g": b"", "f": b"F"},
    ),
    "emptied": (
        (Op("open", "f", slot=1, flags=os.O_RDWR | os.O_TRUNC),),
        {**OBJECTS, "f": b""},
    ),
    "written and renamed": (
        (
            Op("create", "g", slot=1),
            Op("write", slot=1, data=b"G"),
            Op("rename", "g", "h"),
        ),
        {**OBJECTS, "h": b"G"},
    ),
    "written in a directory that is renamed then": (
        (
            Op("create", "d/g", slot=1),
            Op("write", slot=1, data=b"G"),
            Op("rename", "d", "e"),
        ),
        {"e/": b"", "e/old": b"O", "e/g": b"G", "f": b"F"},
    ),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("flushed", [False, True])
def test_what_an_open_file_was_given_is_stored(tmp_path: Path, scene: str, flushed: bool) -> None:
    operations, wanted = SCENES[scene]

    async def main() -> None:
        store = _store()
        async with mounted(store, Caches(tmp_path).path, MountOptions(delay_s=1.0)) as mount:
            client = Client(mount.filesystem)
            for operation in operations:
                await client.apply(operation)
            if flushed:
                await mount.filesystem.commit_everything()
                await mount.uploader.drain()
            else:
                await trio.sleep(60.0)
            assert store.objects() == wanted
            await client.apply(Op("close", slot=1))

    run(1, main)


@pytest.mark.parametrize("scene", SCENES)
def test_nobody_waits_for_who_has_a_file_open(tmp_path: Path, scene: str) -> None:
    operations, wanted = SCENES[scene]

    async def main() -> None:
        store = _store()
        async with mounted(store, Caches(tmp_path).path, MountOptions(through=True)) as mount:
            client = Client(mount.filesystem)
            with trio.fail_after(60.0):
                for operation in operations:
                    await client.apply(operation)
                await client.apply(Op("close", slot=1))
            await mount.uploader.drain()
            assert store.objects() == wanted

    run(1, main)


WAITING: dict[str, tuple[MountOptions, Sequence[Op]]] = {
    "renamed": (MountOptions(through=True), [Op("rename", "f", "g")]),
    "its directory renamed": (MountOptions(through=True), [Op("rename", "d", "e")]),
    "synced": (MountOptions(fsync="remote"), [Op("fsync", slot=1)]),
    "renamed and its directory synced": (
        MountOptions(fsync="remote"),
        [Op("rename", "f", "g"), Op("fsyncdir")],
    ),
}


@pytest.mark.parametrize("what", WAITING)
def test_nobody_waits_for_who_goes_on_writing(tmp_path: Path, what: str) -> None:
    options, operations = WAITING[what]

    async def main() -> None:
        store = _store()
        async with mounted(store, Caches(tmp_path).path, options) as mount:
            client = Client(mount.filesystem)
            await client.apply(Op("open", "d/old" if "directory renamed" in what else "f", slot=1, flags=2))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_write_on, client)
                await trio.sleep(1.0)
                with trio.fail_after(10.0):
                    for operation in operations:
                        await client.apply(operation)
                assert b"1" in b"".join(store.objects().values())
                await trio.sleep(1.0)
                nursery.cancel_scope.cancel()
            wanted = await client.apply(Op("read", slot=1, length=10_000))
            await client.apply(Op("close", slot=1))
            await mount.uploader.drain()
            assert wanted in store.objects().values()

    run(1, main)


def test_a_drain_sends_what_was_closed_before_it(tmp_path: Path) -> None:
    """Also if a program goes on writing to the file before its turn has come."""

    async def main() -> None:
        store = _store()
        store.weather = Weather(latency_s=(1.0, 1.0))
        options = MountOptions(parallel_operations=1)
        async with mounted(store, Caches(tmp_path).path, options) as mount, trio.open_nursery() as nursery:
            client = Client(mount.filesystem)
            for name in "ghi":
                await client.apply(Op("create", name, slot=1))
                await client.apply(Op("write", slot=1, data=b"closed"))
                await client.apply(Op("close", slot=1))
            nursery.start_soon(_begin_to_write, client, "i")
            await mount.uploader.drain()
            assert "i" in store.objects()
            nursery.cancel_scope.cancel()

    run(1, main)


async def _begin_to_write(client: Client, path: str) -> None:
    await trio.sleep(0.5)
    await client.apply(Op("open", path, slot=1, flags=os.O_RDWR))
    await _write_on(client)


async def _write_on(client: Client) -> None:
    for number in itertools.count(1):
        await client.apply(Op("write", slot=1, offset=4 * number, data=f"{number:4}".encode()))
        await trio.sleep(0.2)


def test_nobody_waits_for_what_the_store_refuses(tmp_path: Path) -> None:
    async def main() -> None:
        store = _store()
        store.before_request = _refuse_copies
        async with mounted(store, Caches(tmp_path).path, MountOptions(through=True)) as mount:
            client = Client(mount.filesystem)
            with trio.fail_after(60.0):
                for operation in (Op("rename", "d/old", "g"), Op("symlink", "d/old", data=b"x")):
                    with pytest.raises(OSError, match="No copies"):
                        await client.apply(operation)
            store.before_request = lambda _name, _key: None
            mount.uploader.ledger.unpark()
            await mount.uploader.drain()
        assert store.objects() == {"d/": b"", "d/old": b"x", "f": b"F", "g": b"O"}

    run(1, main)


@pytest.mark.parametrize("step", [1, 2, 3])  # begin, write, commit
def test_a_close_that_could_not_be_journaled_lets_nothing_go(tmp_path: Path, step: int) -> None:
    """The upload stays held back until the journal has what was written."""

    async def main() -> None:
        async with on_a_failing_disk(tmp_path) as (store, disk, client):
            await client.apply(Op("create", "g", slot=1))
            await client.apply(Op("write", slot=1, data=b"G"))
            disk.at = [step, 2 * step]  # of flush and of release
            with pytest.raises(OSError, match="journal cannot be written"):
                await client.apply(Op("close", slot=1))
            await trio.sleep(60.0)
            assert store.objects() == {**OBJECTS, "g": b"G"}

    run(1, main)


WHOLE = Op("write", slot=1, data=b"ours")
WRITTEN: dict[str, tuple[Sequence[Op], bytes]] = {
    "stored": ((), b"F"),
    "waiting": ((WHOLE,), b"ours"),
    "waiting, and closed": ((WHOLE, Op("close", slot=1)), b"ours"),
    "waiting, and durable": ((WHOLE, Op("fsync", slot=1)), b"ours"),
    "changed in part": ((Op("write", slot=1, offset=3, data=b"ours"),), b"F\0\0ours"),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("length", [0, 2, 9])
@pytest.mark.parametrize("step", [1, 2, 3])  # begin, write, commit
def test_a_length_that_could_not_be_journaled_was_never_set(
    tmp_path: Path, written: str, length: int, step: int
) -> None:
    """A full disk, for instance, must not empty the file that could not be emptied."""
    before, content = WRITTEN[written]

    async def main() -> None:
        async with on_a_failing_disk(tmp_path) as (store, disk, client):
            for op in (Op("open", "f", slot=1, flags=os.O_RDWR), *before):
                await client.apply(op)
            disk.at = [step]
            with pytest.raises(OSError, match=r"disk fails|journal cannot be written"):
                await client.apply(Op("truncate", "f", length=length))
            assert (await client.entry("f"))[2] == content
            await trio.sleep(60.0)
            assert store.objects() == {**OBJECTS, "f": content}
            await client.apply(Op("truncate", "f", length=length))
            await trio.sleep(60.0)
            assert store.objects()["f"] == content[:length] + bytes(length - len(content[:length]))

    run(1, main)


@dataclass
class DiskFailingTwice(Disk):
    """A disk of which some writes fail: those so many from now."""

    at: list[int] = field(default_factory=list)

    def write(self) -> None:
        """See `Disk`."""
        self.at = [count - 1 for count in self.at]
        if 0 in self.at:
            raise OSError(errno.EIO, "the disk fails")


@asynccontextmanager
async def on_a_failing_disk(
    tmp_path: Path,
) -> AsyncIterator[tuple[SimulatedStore, DiskFailingTwice, Client]]:
    """A mount whose cache is on a disk that fails as it is told."""
    store, disk = _store(), DiskFailingTwice(random.Random(1))
    with disk.failing():
        async with mounted(store, Caches(tmp_path).path, MountOptions(delay_s=1.0)) as mount:
            yield store, disk, Client(mount.filesystem)


def _refuse_copies(name: str, key: str) -> None:
    if name.startswith("COPY"):
        raise PermissionDeniedError("No copies.", key=key)


def _store() -> SimulatedStore:
    store = SimulatedStore(dice=random.Random(1))
    for key, data in OBJECTS.items():
        store.memory.put(key, data)
    return store
