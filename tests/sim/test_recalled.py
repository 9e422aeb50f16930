"""What a mount shows that begins while the store does not answer: what was last known, but for what waits."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import trio

import objfs.vfs.remembering
import tests.sim.mounting
from objfs.errors import PermissionDeniedError, UnavailableError
from objfs.store.values import PutOptions
from objfs.upload.operations import ROOT_MARKER_KEY
from tests.sim.client import Client
from tests.sim.dark import Glimpse
from tests.sim.model import Op
from tests.sim.mounting import DEFAULTS, PLAIN, mounted, run
from tests.sim.store import SimulatedStore
from tests.sim.test_conflicts import Scene
from tests.sim.test_power_loss import answer_again

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

KEPT_S = 3.0  # after which all that was learnt is kept
OPTIONS = replace(PLAIN, metadata=True)


def lives(tmp_path: Path, *scenes: Callable[[Scene], Awaitable[None]], through: bool = False) -> None:
    """Mounts one after the other over one cache directory."""

    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        for scene in scenes:
            async with mounted(store, tmp_path / "cache", replace(OPTIONS, through=through)) as mount:
                await scene(Scene(store, mount, Client(mount.filesystem)))

    run(1, main)


def shut(at: Scene) -> None:
    """The store does not answer any more."""

    def refuse(_name: str, key: str) -> None:
        raise UnavailableError("No answer.", key=key)

    at.store.before_request = refuse


def test_a_refused_directory_that_was_renamed(tmp_path: Path) -> None:
    """What was on its way into it is in the store later than it moved behind the rename."""

    async def first(at: Scene) -> None:
        def refuse(name: str, key: str) -> None:
            if name.split()[0] == "PUT" and key.endswith("/"):
                raise PermissionDeniedError("No directories.", key=key)

        at.store.before_request = refuse
        await at.do("mkdir", "d")
        await at.mount.uploader.drain()
        await at.write("d/x", b"ours", new=True)
        await at.do("rename", "d", "e")
        await at.mount.uploader.drain()
        await trio.sleep(KEPT_S)
        assert at.store.objects() == {"e/x": b"ours"}
        shut(at)

    async def second(at: Scene) -> None:
        seen = await Glimpse.of(at.client, "")
        assert seen.names.get("e") in (None, ["x"])

    lives(tmp_path, first, second)


def test_the_roots_attributes_are_not_guessed(tmp_path: Path) -> None:
    """A life that began without the store, and knew nothing, keeps nothing of them either."""

    async def unknowing(at: Scene) -> None:
        at.store.write_foreign("f", b"theirs")
        options = PutOptions(metadata={"mode": str(0o40700), "uid": "7"})
        at.store.memory.put(ROOT_MARKER_KEY, b"", options=options)
        shut(at)

    async def begun_in_the_dark(at: Scene) -> None:
        answer_again(at)
        assert await at.client.names("") == ["f"]
        await trio.sleep(10.0)
        assert (await at.mount.filesystem.getattr(1)).mode == 0o40700
        await trio.sleep(KEPT_S)
        shut(at)

    async def last(at: Scene) -> None:
        assert (await at.mount.filesystem.getattr(1)).mode == 0o40700
        answer_again(at)
        options = PutOptions(metadata={"mode": str(0o40750), "uid": "7"})
        at.store.memory.put(ROOT_MARKER_KEY, b"", options=options)
        await trio.sleep(20.0)
        assert (await at.mount.filesystem.getattr(1)).mode == 0o40750

    lives(tmp_path, unknowing, begun_in_the_dark, last)


def test_a_claimed_file(tmp_path: Path) -> None:
    async def first(at: Scene) -> None:
        at.store.write_foreign("d/f", b"theirs")
        await at.client.names("d")
        await trio.sleep(KEPT_S)
        await at.client.apply(Op("create", "d/new", slot=1, flags=os.O_RDWR | os.O_CREAT | os.O_EXCL))
        await at.client.apply(Op("close", slot=1))
        await trio.sleep(KEPT_S)
        shut(at)

    async def second(at: Scene) -> None:
        assert await at.client.names("d") == ["f", "new"]

    lives(tmp_path, first, second, through=True)


def test_removed_while_what_was_learnt_is_written_at_the_end(tmp_path: Path) -> None:
    """The disk is slow with what was learnt before, and the mount ends meanwhile."""

    async def slow_first(call: Callable[..., None], *args: object) -> None:
        with trio.CancelScope(shield=True):  # as a thread
            await trio.sleep(waits_s.pop() if waits_s else 0.0)
        call(*args)

    async def first(at: Scene) -> None:
        at.store.write_foreign("d/f", b"theirs")
        at.store.write_foreign("d/g", b"theirs")
        await at.client.names("d")
        await trio.sleep(KEPT_S)
        waits_s.append(20.0)
        with mock.patch.object(objfs.vfs.remembering, "in_thread", slow_first):
            await at.write("d/new", b"ours", new=True)
            await at.mount.uploader.drain()
            await trio.sleep(KEPT_S)
            assert not waits_s
            await at.do("unlink", "d/f")
            await at.mount.uploader.drain()
            await at.mount.filesystem.keep_known()
            await trio.sleep(30.0)
        shut(at)

    async def second(at: Scene) -> None:
        seen = await Glimpse.of(at.client, "")
        assert seen.names.get("d") in (None, ["g", "new"])

    waits_s: list[float] = []
    lives(tmp_path, first, second)


def test_what_takes_long_to_keep_is_kept_seldom(tmp_path: Path) -> None:
    """A directory of many names is told whole each time, and a program goes on writing into it."""
    kept: list[float] = []

    async def slow(call: Callable[..., None], *args: object) -> None:
        kept.append(trio.current_time())
        await trio.sleep(2.0)
        call(*args)

    async def scene(at: Scene) -> None:
        with mock.patch.object(objfs.vfs.remembering, "in_thread", slow):
            for number in range(100):
                await at.write(f"f{number}", b"ours", new=True)
                await trio.sleep(1.0)

    lives(tmp_path, scene)
    assert 2 <= len(kept) <= 5


def test_what_others_left_without_attributes_is_shown_as_the_mount_wants(tmp_path: Path) -> None:
    """A later mount has other owners and modes for what tells none."""

    async def first(at: Scene) -> None:
        at.store.write_foreign("d/f", b"theirs")
        await at.client.walk()
        await trio.sleep(KEPT_S)
        shut(at)

    async def second(at: Scene) -> None:
        glimpse = await Glimpse.of(at.client, "")
        assert glimpse.names["d"] == ["f"]
        assert glimpse.stats.get("d") in (None, ("folder", 0o700, 0))
        assert glimpse.stats.get("d/f") in (None, ("file", 0o600, 6))

    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        for scene, umask in ((first, 0o022), (second, 0o077)):
            wanted = replace(DEFAULTS, umask=umask)
            with mock.patch.object(tests.sim.mounting, "DEFAULTS", wanted):
                async with mounted(store, tmp_path / "cache", OPTIONS) as mount:
                    await scene(Scene(store, mount, Client(mount.filesystem)))

    run(1, main)


def test_a_directory_in_which_a_file_has_expired_is_removed(tmp_path: Path) -> None:
    """Nobody has deleted the object yet: it goes with the directory, which else would be there again."""

    async def first(at: Scene) -> None:
        at.store.memory.put("d/", b"")
        options = PutOptions(metadata={"objfs-expires": "2001-01-01T00:00:00Z"})
        at.store.memory.put("d/old", b"old", options=options)
        with pytest.raises(FileNotFoundError):
            await at.client.entry("d/old")
        assert (await Glimpse.of(at.client, "")).names == {"": ["d"], "d": []}
        await trio.sleep(KEPT_S)
        shut(at)

    async def second(at: Scene) -> None:
        assert (await Glimpse.of(at.client, "")).names == {"": ["d"], "d": []}
        await at.do("rmdir", "d")
        answer_again(at)
        assert await at.settle() == {}
        assert await at.client.names("") == []

    lives(tmp_path, first, second)
