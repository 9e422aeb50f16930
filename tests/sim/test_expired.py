"""Expired files in directories that move: their names stay free, and their objects go with the directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from objfs.store.values import PutOptions
from tests.sim.test_conflicts import Scene, play

if TYPE_CHECKING:
    from pathlib import Path

EXPIRED = PutOptions(metadata={"objfs-expires": "2001-01-01T00:00:00Z"})


async def expired_in(at: Scene, folder: str) -> None:
    """A directory with one file, `old`, that has expired, and is known to have."""
    at.store.memory.put(f"{folder}/", b"")
    at.store.memory.put(f"{folder}/old", b"old", options=EXPIRED)
    with pytest.raises(FileNotFoundError):
        await at.client.entry(f"{folder}/old")


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_moved_directory_is_removed(tmp_path: Path, is_moved: bool) -> None:
    async def scene(at: Scene) -> None:
        await expired_in(at, "d")
        await at.do("rename", "d", "e")
        if is_moved:
            await at.mount.uploader.drain()
        await at.do("rmdir", "e")
        assert await at.settle() == {"f": b"theirs 0"}
        assert await at.client.names("") == ["f"]

    play(tmp_path, scene)


def test_a_name_in_a_moved_directory_is_used(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await expired_in(at, "d")
        await at.do("rename", "d", "e")
        await at.mount.uploader.drain()
        await at.do("rename", "f", "e/old")
        await at.do("rename", "e/old", "g")
        assert await at.settle() == {"e/": b"", "g": b"theirs 0"}

    play(tmp_path, scene)
