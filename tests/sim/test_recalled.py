"""What a mount shows that begins while the store does not answer: what was last known, but for what waits."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from objfs.errors import PermissionDeniedError, UnavailableError
from tests.sim.client import Client
from tests.sim.dark import Glimpse
from tests.sim.model import Op
from tests.sim.mounting import PLAIN, mounted, run
from tests.sim.store import SimulatedStore
from tests.sim.test_conflicts import Scene

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


def open_again(at: Scene) -> None:
    at.store.before_request = lambda _name, _key: None


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
