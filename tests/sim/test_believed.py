"""How long the kernel may believe what it was told: each time that is zero costs a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.sim.test_conflicts import Scene, play

if TYPE_CHECKING:
    from pathlib import Path

ROOT = 1


def test_the_root_is_not_asked_for_on_every_walk(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        assert (await at.mount.filesystem.getattr(ROOT)).timeout_s > 0

    play(tmp_path, scene)


def test_a_known_file_is_believed_in_for_the_rest_of_its_time(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        found = await at.mount.filesystem.lookup(ROOT, b"f")
        assert found is not None
        assert found.timeout_s > 0

    play(tmp_path, scene)


def test_many_names_of_a_large_directory_are_told_by_listings(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        names = [f"n{number:04}" for number in range(1200)]
        for name in names:
            at.store.write_foreign(f"d/{name}", b"x")
        requests: list[str] = []
        at.store.before_request = lambda name, key: requests.append(f"{name} {key}")
        directory = await at.mount.filesystem.lookup(ROOT, b"d")
        assert directory is not None
        for _ in range(2):  # the second time none of it is fresh
            await trio.sleep(60)
            requests.clear()
            for name in names:
                assert await at.mount.filesystem.lookup(directory.ino, name.encode()) is not None
        assert len(requests) < len(names) / 5

    play(tmp_path, scene)
