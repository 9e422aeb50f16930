"""No thread can be started for a while: that is told, or tried again, and nothing ends by it."""

from __future__ import annotations

import random
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import trio

from objfs.drivers.memory import MemoryStore
from objfs.errors import UnavailableError
from objfs.store.threads import ThreadedStore
from tests.sim.client import Client
from tests.sim.mounting import MountOptions, mounted, run
from tests.sim.store import SimulatedStore
from tests.sim.test_conflicts import Scene, play

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = bytes(range(256)) * 400  # several parts, in the small world


@contextmanager
def none_left(dice: random.Random, chance: float) -> Iterator[list[str]]:
    """As where a user, or a container, has as many processes as it may have."""
    run_sync = trio.to_thread.run_sync
    refused: list[str] = []

    async def run_sync_perhaps(call: Any, *args: object, **options: Any) -> object:  # noqa: ANN401  # any
        if dice.random() < chance:
            await trio.lowlevel.checkpoint()
            refused.append(getattr(call, "__qualname__", str(call)))
            raise RuntimeError("can't start new thread")
        return await run_sync(call, *args, **options)

    with mock.patch.object(trio.to_thread, "run_sync", run_sync_perhaps):
        yield refused


@pytest.mark.parametrize("chance", [0.3, 1.0])
def test_the_mount_goes_on(tmp_path: Path, chance: float) -> None:
    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        store.write_foreign("big", LARGE)
        async with mounted(store, tmp_path / "cache", MountOptions(cache_bytes=1 << 20)) as mount:
            at = Scene(store, mount, Client(mount.filesystem))
            written: dict[str, bytes] = {}
            with none_left(random.Random(2), chance) as refused:
                for turn in range(10):
                    for name, data in ((f"small{turn}", b"small"), (f"large{turn}", LARGE)):
                        with suppress(OSError):
                            await at.write(name, data, new=True)
                            written[name] = data
                    with suppress(OSError):
                        await at.patch("big", 10, b"ours")
                    with suppress(OSError):
                        await at.client.entry("big")
                    if f"small{turn}" in written:
                        await at.do("unlink", f"small{turn}")
                        del written[f"small{turn}"]
                    await trio.sleep(10.0)
            assert refused
            found = await at.settle()
            assert found.items() >= written.items()

    run(1, main)


def test_a_removal_that_fails_by_a_bug_comes_again(tmp_path: Path) -> None:
    """No error of a driver is a reason to unmount."""

    async def scene(at: Scene) -> None:
        def before(name: str, key: str) -> None:
            if name == "DELETE" and len(asked) < 3:
                asked.append(key)
                raise KeyError(key)

        asked: list[str] = []
        await at.do("mkdir", "d")
        await at.mount.uploader.drain()
        at.store.before_request = before
        await at.do("unlink", "f")
        await at.do("rmdir", "d")
        assert await at.settle() == {}
        assert len(asked) == 3

    play(tmp_path, scene)


def test_to_the_store_it_is_a_request_to_try_again() -> None:
    async def main() -> None:
        store = ThreadedStore(MemoryStore())
        with none_left(random.Random(1), 1.0), pytest.raises(UnavailableError, match="thread"):
            await store.head("f")

    trio.run(main)
