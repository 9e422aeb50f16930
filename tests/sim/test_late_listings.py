"""A listing that was answered before changes of ours and is read after them tells nothing of what changed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import MountOptions, mounted, run
from tests.sim.store import SimulatedStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from objfs.store.values import ListPage

OBJECTS = ("f", *(f"top/{number}/{name}" for number in range(4) for name in ("f", "sub/old")))
EMPTIED = (
    Op("unlink", "top/3/sub/old"),
    Op("rmdir", "top/3/sub"),
    Op("unlink", "top/3/f"),
    Op("rmdir", "top/3"),
)
SCENES: dict[str, tuple[str, Sequence[Op]]] = {"f": ("", (Op("unlink", "f"),)), "top/3": ("top/", EMPTIED)}
"""Directories to be made, with the prefix of the listing and what has to go before."""


@pytest.mark.parametrize("made", SCENES)
def test_a_directory_made_since_is_shown_and_empty(tmp_path: Path, made: str) -> None:
    prefix, removals = SCENES[made]

    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        for key in OBJECTS:
            store.write_foreign(key, b"theirs")
        listed, late = store.list, 0
        async with mounted(store, tmp_path / "cache", MountOptions(delay_s=0.0)) as mount:

            async def list_late(
                asked: str,
                *,
                delimiter: str = "",
                **how: Any,  # noqa: ANN401  # whatever is asked
            ) -> ListPage:
                nonlocal late
                page = await listed(asked, delimiter=delimiter, **how)
                if asked == prefix and bool(delimiter) == (prefix == "") and not late:
                    late += 1
                    for changes in (removals, (Op("mkdir", made),)):
                        for change in changes:
                            await Client(mount.filesystem).apply(change)
                        await mount.uploader.drain()
                return page

            client = Client(mount.filesystem)
            with mock.patch.object(store, "list", list_late):
                for path in ("", "top", "top/0", "top/1", "top/2"):
                    await client.names(path)
            assert late
            seen = await client.walk()
        assert seen[made][0] == "folder"
        assert [path for path in seen if path.startswith(f"{made}/")] == []

    run(1, main)
