"""An answer of the store that comes late changes nothing of what was done, or told, since it was asked."""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import trio

from objfs.vfs.values import SetAttributes
from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import Mount, MountOptions, mounted, run
from tests.sim.store import SimulatedStore
from tests.sim.test_conflicts import Scene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from objfs.store.values import ListPage, Version

ROOT = 1
AT_ONCE = MountOptions(delay_s=0.0)
OBJECTS = ("a", "f", *(f"top/{number}/{name}" for number in range(4) for name in ("f", "sub/old")))
EMPTIED = (
    Op("unlink", "top/3/sub/old"),
    Op("rmdir", "top/3/sub"),
    Op("unlink", "top/3/f"),
    Op("rmdir", "top/3"),
)
SCENES: dict[str, tuple[str, Sequence[Op]]] = {"f": ("", (Op("unlink", "f"),)), "top/3": ("top/", EMPTIED)}
"""Directories to be made, with the prefix of the listing and what has to go before."""


@contextmanager
def _late(
    store: SimulatedStore, prefix: str, meanwhile: Callable[[], Awaitable[None]], *, delimiter: str = "/"
) -> Iterator[None]:
    """Let the answer to the first such listing come only after something else was done."""
    listed, late = store.list, 0

    async def list_late(asked: str, *, delimiter: str = "", **how: Any) -> ListPage:  # noqa: ANN401  # whatever is asked
        nonlocal late
        page = await listed(asked, delimiter=delimiter, **how)
        if (asked, delimiter) == wanted and not late:
            late += 1
            await meanwhile()
        return page

    wanted = (prefix, delimiter)
    with mock.patch.object(store, "list", list_late):
        yield
    assert late


def _play(
    tmp_path: Path,
    scene: Callable[[Scene], Awaitable[None]],
    objects: Sequence[str] = OBJECTS,
    options: MountOptions = AT_ONCE,
    *,
    file_over_prefix: bool = True,
) -> None:
    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        store.capabilities = replace(store.capabilities, file_over_prefix=file_over_prefix)
        for key in objects:
            store.write_foreign(key, b"theirs")
        async with mounted(store, tmp_path / "cache", options) as mount:
            await scene(Scene(store, mount, Client(mount.filesystem)))

    run(1, main)


async def _stored(mount: Mount, *changes: Op) -> None:
    """Programs change something, one after the other, and each time the store gets it."""
    for change in changes:
        await Client(mount.filesystem).apply(change)
        await mount.uploader.drain()


@pytest.mark.parametrize("made", SCENES)
def test_a_directory_made_since_is_shown_and_empty(tmp_path: Path, made: str) -> None:
    prefix, removals = SCENES[made]

    async def scene(at: Scene) -> None:
        async def meanwhile() -> None:
            await _stored(at.mount, *removals, Op("mkdir", made))

        with _late(at.store, prefix, meanwhile, delimiter="" if prefix else "/"):
            for path in ("", "top", "top/0", "top/1", "top/2"):
                await at.client.names(path)
        seen = await at.client.walk()
        assert seen[made][0] == "folder"
        assert [path for path in seen if path.startswith(f"{made}/")] == []

    _play(tmp_path, scene)


def test_what_a_later_listing_did_not_tell_stays_removed(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.client.names("top")

        async def meanwhile() -> None:
            await _stored(at.mount, Op("unlink", "top/3/f"))
            for name in "012":  # a walk, which tells of all
                await at.client.names(f"top/{name}")

        with _late(at.store, "top/3/", meanwhile):
            await at.client.apply(Op("stat", "top/3/sub"))
        assert await at.client.names("top/3") == ["sub"]

    _play(tmp_path, scene)


def test_a_directory_found_since_is_still_stood_in(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        async def meanwhile() -> None:
            at.store.write_foreign("top/3/new/f", b"theirs")
            await at.client.apply(Op("stand", "top/3/new"))

        with _late(at.store, "top/3/", meanwhile):
            await at.client.names("top/3")
        assert (await at.client.entry("./f"))[2] == b"theirs"

    _play(tmp_path, scene)


def test_a_file_opened_since_is_written(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        async def meanwhile() -> None:
            at.store.write_foreign("top/3/new", b"theirs")
            await at.client.apply(Op("open", "top/3/new", slot=1, flags=os.O_RDWR))

        with _late(at.store, "top/3/", meanwhile):
            await at.client.names("top/3")
        await at.client.apply(Op("write", slot=1, data=b"ours"))
        await at.client.apply(Op("close", slot=1))
        await at.mount.uploader.drain()
        assert at.store.objects()["top/3/new"] == b"oursrs"

    _play(tmp_path, scene)


def test_a_removed_file_stays_removed_after_a_rename_that_came_to_nothing(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        listed = at.store.list
        await at.client.entry("a")
        await trio.sleep(10.0)

        async def meanwhile() -> None:
            with mock.patch.object(at.store, "list", listed):
                await _stored(at.mount, Op("unlink", "f"), Op("stat", "a"))
                at.store.delete_foreign("a")
                await _stored(at.mount, Op("rename", "a", "f"))

        with _late(at.store, "", meanwhile):
            await at.client.names("")
        assert await at.client.names("") == ["top"]

    _play(tmp_path, scene)


def test_a_directory_whose_marker_was_made_since_is_removed_with_it(tmp_path: Path) -> None:
    slow_s = {"h1": 100.0, "h2": 10.0, "h3": 100.0}  # what waits for its turn behind these is taken back

    async def scene(at: Scene) -> None:
        filesystem, put = at.mount.filesystem, at.store.put
        found = await filesystem.lookup(ROOT, b"d")
        assert found is not None
        await at.client.names("")
        await trio.sleep(10.0)

        async def put_late(key: str, *what: Any, **how: Any) -> Version:  # noqa: ANN401  # whatever is put
            await trio.sleep(slow_s.get(key, 0.0))
            return await put(key, *what, **how)

        async def meanwhile() -> None:
            filesystem.streams.close(await filesystem.streams.open(found.ino))
            await filesystem.setattr(found.ino, SetAttributes(mode=0o700))
            await at.mount.uploader.drain()

        with _late(at.store, "d/", meanwhile, delimiter=""):
            await at.client.apply(Op("stat", "d"))
        with mock.patch.object(at.store, "put", put_late):
            for name in slow_s:
                await at.client.apply(Op("create", name, slot=1))
                await at.client.apply(Op("close", slot=1))
            await at.client.apply(Op("unlink", "d/f"))
            await trio.sleep(20.0)
            await at.client.apply(Op("rmdir", "d"))
            await at.mount.uploader.drain()
        assert "d" not in await at.client.names("")
        assert "d/" not in at.store.objects()

    many = [f"n{number:02}" for number in range(20)]  # the directory is too large to be listed for one name
    _play(tmp_path, scene, ("d/f", *many), MountOptions(delay_s=2.0, parallel_operations=2))


@pytest.mark.parametrize("deep", [False, True])  # a listing of the directory, or a walk
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_file_that_a_listing_overlooks_is_asked_for(tmp_path: Path, deep: bool, is_deleted: bool) -> None:
    """MinIO's listings lack an object that is being overwritten: it neither vanishes nor becomes stale."""

    async def scene(at: Scene) -> None:
        prefix = "top/3/" if deep else "top/1/"
        path, listed = f"{prefix}f", at.store.list

        async def overlooking(asked: str, **how: Any) -> ListPage:  # noqa: ANN401  # whatever is asked
            page = await listed(asked, **how)
            return replace(page, objects=tuple(info for info in page.objects if info.key != path))

        await at.client.apply(Op("open", path, slot=1))
        for name in "0123":
            await at.client.names(f"top/{name}")
        await trio.sleep(10.0)
        if is_deleted:
            at.store.delete_foreign(path)
        with mock.patch.object(at.store, "list", overlooking):
            shown = [await at.client.names(f"top/{name}") for name in ("0123" if deep else "1")]
        assert ("f" in shown[-1]) is not is_deleted
        if not is_deleted:
            assert await at.client.apply(Op("read", slot=1, length=10)) == b"theirs"

    _play(tmp_path, scene, file_over_prefix=False)
