"""Multipart uploads: whatever is lost, and whoever dies, none is left over, and others' are left alone."""

from __future__ import annotations

import errno
import itertools
import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import trio

from objfs.errors import NotFoundError, PermissionDeniedError, UnavailableError
from objfs_cache.blocks import BlockCache
from objfs_cache.staged import StagedFile
from objfs_cache.staging import Staging
from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import Caches, MountOptions, mounted, run
from tests.sim.store import Killed, KillSwitch, SimulatedStore
from tests.sim.test_conflicts import Scene, play

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.store.values import Blob

LARGE = bytes(range(256)) * 400  # several parts, in the small world


class Once:
    """The first request of a name."""

    def __init__(self, name: str, times: int = 1) -> None:
        self._name = name
        self.left = times

    def __call__(self, name: str, _key: str) -> bool:
        if name != self._name or not self.left:
            return False
        self.left -= 1
        return True


@pytest.mark.parametrize("times", [1, 3, 7])
@pytest.mark.parametrize("name", ["CREATE", "PART", "COMPLETE", "UPLOADS"])
def test_a_lost_answer(tmp_path: Path, name: str, times: int) -> None:
    async def scene(at: Scene) -> None:
        at.store.lose = lost = Once(name, times)
        await at.write("g", LARGE, new=True)
        assert await at.settle() == {"f": b"theirs 0", "g": LARGE}
        assert lost.left < times  # a Complete is asked for once: then its object is found
        assert at.store.pending_uploads() == []
        assert at.mount.journal.notes() == {}

    play(tmp_path, scene)


@pytest.mark.parametrize("times", [1, 3, 7])
@pytest.mark.parametrize("how", ["answer lost", "refused for a while"])
def test_a_lost_abort(tmp_path: Path, how: str, times: int) -> None:
    async def scene(at: Scene) -> None:
        lost = Once("ABORT", times)

        def before(name: str, key: str) -> None:
            if name == "PART" and not parts:
                parts.append(key)
                raise PermissionDeniedError("Access denied.", key=key)
            if how != "answer lost" and lost(name, key):
                raise UnavailableError("Not now.", key=key)

        parts: list[str] = []
        at.store.before_request = before
        if how == "answer lost":
            at.store.lose = lost
        await at.write("g", LARGE, new=True)
        await at.mount.uploader.drain()
        assert [one.path for one in at.mount.uploader.status().parked] == ["g"]
        assert lost.left == 0
        assert at.store.pending_uploads() == []
        assert at.mount.journal.notes() == {}

    play(tmp_path, scene)


@pytest.mark.parametrize("lost", ["CREATE", "COMPLETE"])
def test_uploads_of_others_are_left_alone(tmp_path: Path, lost: str) -> None:
    async def scene(at: Scene) -> None:
        theirs = {at.store.memory.multipart.create(key) for key in ("g", "g2", "g/h")}
        at.store.lose = Once(lost)
        await at.write("g", LARGE, new=True)
        assert await at.settle() == {"f": b"theirs 0", "g": LARGE}
        assert {one.upload_id for one in at.store.pending_uploads()} == theirs

    play(tmp_path, scene)


def test_who_may_not_list_uploads_still_uploads(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        def before(name: str, key: str) -> None:
            if name == "UPLOADS":
                raise PermissionDeniedError("Access denied.", key=key)

        at.store.before_request = before
        await at.write("g", LARGE, new=True)
        assert await at.settle() == {"f": b"theirs 0", "g": LARGE}
        assert at.mount.journal.notes() == {}

    play(tmp_path, scene)


def test_a_404_in_place_of_the_list_of_uploads_tells_nothing(tmp_path: Path) -> None:
    """As a proxy gives it, whose server is away for a while."""

    async def scene(at: Scene) -> None:
        def before(name: str, key: str) -> None:
            if name == "UPLOADS" and at.store.pending_uploads() and answers:
                raise answers.pop()

        answers = [NotFoundError("Not found.")]
        at.store.before_request, at.store.lose = before, Once("CREATE")
        await at.write("g", LARGE, new=True)
        assert await at.settle() == {"f": b"theirs 0", "g": LARGE}
        assert not answers
        assert at.store.pending_uploads() == []

    play(tmp_path, scene)


@pytest.mark.parametrize("work", ["write", "copy", "copy on a condition"])
def test_killed_at_each_request(tmp_path: Path, work: str) -> None:
    died_with_upload = 0
    for step in itertools.count(1):
        folder = tmp_path / str(step)
        folder.mkdir()
        left, died = run(step, lambda folder=folder, step=step: _work_and_die(folder, step, work))  # type: ignore[misc]
        died_with_upload += left
        if not died:
            assert died_with_upload > 3
            return


async def _work_and_die(folder: Path, step: int, work: str) -> tuple[bool, bool]:
    """Returns whether an upload was under way at death, and whether it died at all."""
    store = SimulatedStore(dice=random.Random(step))
    if work == "copy on a condition":
        store.memory.put("f", LARGE)
        store.capabilities = replace(store.capabilities, copy_conditions=False)
    if work == "copy":
        store.memory.put("f", LARGE)
        store.copy_limit(50_000)
    caches = Caches(folder)
    async with mounted(store, caches.path) as mount:
        client = Client(mount.filesystem)
        await _do(client, work)
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
    left = bool(store.pending_uploads())
    async with mounted(store, caches.path) as mount:
        await mount.uploader.drain()
        await trio.sleep(1.0)
        assert store.objects() == {"g": LARGE}, f"killed at {step}"
        assert store.pending_uploads() == [], f"killed at {step}"
        assert mount.journal.notes() == {}
    return left, died


async def _do(client: Client, work: str) -> None:
    if work != "write":
        await client.apply(Op("rename", "f", "g"))
        return
    await client.apply(Op("create", "g", slot=1))
    await client.apply(Op("write", slot=1, data=LARGE))
    await client.apply(Op("close", slot=1))


def test_the_last_reader_closes_while_an_upload_fills_the_file(tmp_path: Path) -> None:
    """Bytes of the base go into the staged file, never into one that has its descriptor's number by then."""
    descriptor_of = StagedFile._descriptor

    def meanwhile(staged: StagedFile) -> int:
        descriptor = descriptor_of(staged)
        staged.close()  # by the event loop; then somebody opens another file
        others.append(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
        return descriptor

    async def scene(at: Scene) -> None:
        at.store.write_foreign("f", LARGE)
        await at.patch("f", 10, b"ours")
        with mock.patch.object(StagedFile, "_descriptor", meanwhile):
            await at.mount.uploader.drain()
        assert others
        assert [os.fstat(other).st_size for other in others] == [0] * len(others)
        assert at.store.objects()["f"] == LARGE[:10] + b"ours" + LARGE[14:]

    others: list[int] = []
    play(tmp_path, scene)
    for other in others:
        os.close(other)


def test_a_read_waits_while_the_file_is_made_shorter_and_stored(tmp_path: Path) -> None:
    """What lay behind the end does not move up to it."""
    length, at_least = len(LARGE), len(LARGE) // 4
    answered = trio.Event()
    waiting: list[str] = []

    async def scene(at: Scene) -> None:
        at.store.write_foreign("f", LARGE)
        get = at.store.get

        async def get_late(key: str, **wanted: Any) -> Blob:  # noqa: ANN401  # whatever is asked
            if not waiting:
                waiting.append(key)
                await answered.wait()
            return await get(key, **wanted)

        async def read() -> None:
            found = await at.client.apply(Op("read", slot=2, length=length))
            assert found == LARGE[:at_least]

        await at.client.apply(Op("open", "f", slot=2))
        await at.client.apply(Op("open", "f", slot=1, flags=os.O_RDWR))
        await at.client.apply(Op("write", slot=1, offset=length // 2, data=b"ours"))
        with mock.patch.object(at.store, "get", get_late):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.sleep(1.0)
                await at.client.apply(Op("flush", slot=1))
                await at.mount.uploader.drain()
                await at.client.apply(Op("truncate", "f", length=at_least))
                await at.client.apply(Op("close", slot=1))
                await at.mount.uploader.drain()
                answered.set()

    play(tmp_path, scene)


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    """What programs skip reads as zeros, here and in the store."""

    async def scene(at: Scene) -> None:
        await at.client.apply(Op("create", "g", slot=1))
        await at.client.apply(Op("write", slot=1, data=b"a" * 100))
        with (
            mock.patch("os.pwrite", FullDisk().pwrite),
            pytest.raises(OSError, match="no room"),
        ):
            await at.client.apply(Op("write", slot=1, offset=100, data=b"x" * 100))
        await at.client.apply(Op("write", slot=1, offset=200, data=b"b" * 100))
        await at.client.apply(Op("close", slot=1))
        wanted = b"a" * 100 + bytes(100) + b"b" * 100
        assert (await at.client.entry("g"))[2] == wanted
        assert (await at.settle())["g"] == wanted

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("write", b"g" + b"f" * 999),
        ("make shorter", b"f" * 500),
        ("make longer", b"f" * 1000 + bytes(1000)),
    ],
)
def test_what_is_cached_gives_way_to_a_change_of_what_is_sent(
    tmp_path: Path, change: str, wanted: bytes
) -> None:
    """A change of a small file that is being sent begins with a copy of it, which needs room, too."""
    given_up: list[int] = []
    give_up = BlockCache.give_up

    def counted(cache: BlockCache, count_bytes: int) -> int:
        given_up.append(give_up(cache, count_bytes))
        return given_up[-1]

    def room_bytes(_: Staging) -> int:
        return sum(given_up) - 1

    def refuse(name: str, key: str) -> None:
        if name == "PUT":
            raise UnavailableError("Away.", key=key)

    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        store.write_foreign("cached", LARGE)
        async with mounted(store, tmp_path / "cache", MountOptions(cache_bytes=1 << 30)) as mount:
            client = Client(mount.filesystem)
            at = Scene(store, mount, client)
            await client.entry("cached")
            store.before_request = refuse
            await at.write("f", b"f" * 1000, new=True)
            await trio.sleep(3.0)
            mount.staging._until_check_bytes = 0
            with (
                mock.patch.object(Staging, "_room_bytes", room_bytes),
                mock.patch.object(BlockCache, "give_up", counted),
            ):
                if change == "write":
                    await at.patch("f", 0, b"g")
                else:
                    await client.apply(Op("truncate", "f", length=len(wanted)))
            store.before_request = lambda _name, _key: None
            await mount.uploader.drain()
            assert store.objects()["f"] == wanted

    run(1, main)


class FullDisk:
    """A disk that is full after half of what it is given, and has room again after that."""

    def __init__(self) -> None:
        self._pwrite = os.pwrite
        self._writes = 0

    def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
        """See `os.pwrite`."""
        self._writes += 1
        if self._writes == 2:
            raise OSError(errno.ENOSPC, "full")
        return self._pwrite(descriptor, data[: 50 if self._writes == 1 else None], offset)
