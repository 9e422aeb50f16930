"""How long the kernel may believe what it was told: each time that is zero costs a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
