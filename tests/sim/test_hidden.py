"""A store that says for a while that there is no such object, though its listings tell it: it is not gone."""

from __future__ import annotations

import errno
import random
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import trio

from objfs.errors import NotFoundError
from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import MountOptions, mounted, run
from tests.sim.store import SimulatedStore
from tests.sim.test_conflicts import Scene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from objfs.store.values import ListPage, ObjectInfo

FEW = ("d/a", "d/f")
MANY = ("d/f", *(f"d/n{number:02}" for number in range(20)))  # too large to be listed for one name


@contextmanager
def _hidden(store: SimulatedStore, *keys: str) -> Iterator[None]:
    """HEAD does not find the objects."""
    head = store.head

    async def hiding(key: str) -> ObjectInfo:
        if key in keys:
            raise NotFoundError("404", key=key)
        return await head(key)

    with mock.patch.object(store, "head", hiding):
        yield


def _play(tmp_path: Path, scene: Callable[[Scene], Awaitable[None]], keys: tuple[str, ...]) -> None:
    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        store.capabilities = replace(store.capabilities, file_over_prefix=False)
        for key in keys:
            store.write_foreign(key, b"theirs")
        async with mounted(store, tmp_path / "cache", MountOptions(delay_s=1.0)) as mount:
            await scene(Scene(store, mount, Client(mount.filesystem)))

    run(1, main)


@pytest.mark.parametrize("keys", [FEW, MANY])
def test_an_open_file_is_not_stale(tmp_path: Path, keys: tuple[str, ...]) -> None:
    async def scene(at: Scene) -> None:
        await at.client.apply(Op("open", "d/f", slot=1))
        await trio.sleep(20.0)  # what is known of it is no longer fresh
        with _hidden(at.store, "d/f"):
            assert (await at.client.apply(Op("stat", "d/f"))) is not None
        await trio.sleep(20.0)
        assert await at.client.apply(Op("read", slot=1, length=10)) == b"theirs"

    _play(tmp_path, scene, keys)


def test_a_file_that_was_only_listed_has_no_attributes_for_a_while(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        assert "f" in await at.client.names("d")
        with _hidden(at.store, "d/f"), pytest.raises(OSError, match="does not find") as caught:
            await at.client.apply(Op("stat", "d/f"))
        assert caught.value.errno == errno.EIO
        assert "f" in await at.client.names("d")
        assert (await at.client.entry("d/f"))[2] == b"theirs"

    _play(tmp_path, scene, FEW)


def test_a_file_that_is_gone_vanishes(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        assert "f" in await at.client.names("d")
        at.store.delete_foreign("d/f")
        with pytest.raises(FileNotFoundError):
            await at.client.apply(Op("stat", "d/f"))

    _play(tmp_path, scene, FEW)


def test_a_file_that_is_put_between_two_questions_is_found(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        assert "f" in await at.client.names("d")
        at.store.delete_foreign("d/f")
        listed = at.store.list

        async def meanwhile(prefix: str, **how: Any) -> ListPage:  # noqa: ANN401  # whatever is asked
            at.store.write_foreign("d/f", b"theirs 1")
            return await listed(prefix, **how)

        with mock.patch.object(at.store, "list", meanwhile):
            assert (await at.client.entry("d/f"))[2] == b"theirs 1"

    _play(tmp_path, scene, FEW)


def test_a_directory_is_never_shown_with_attributes_that_it_has_not(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("chmod", "d", number=0o700)
        await at.settle()
        await trio.sleep(20.0)
        with _hidden(at.store, "d/"):
            await at.client.names("")
            with pytest.raises(OSError, match="does not find"):
                await at.client.apply(Op("stat", "d"))
        assert (await at.client.entry("d"))[1] == 0o700

    _play(tmp_path, scene, FEW)


def test_a_rename_is_not_given_up(tmp_path: Path) -> None:
    """Somebody else takes the new name first, and the old object is not found then."""

    async def scene(at: Scene) -> None:
        await at.client.walk()
        await at.do("rename", "d/f", "d/a")
        at.store.write_foreign("d/a", b"theirs 1")
        with _hidden(at.store, "d/f"):
            await trio.sleep(10.0)
        assert await at.settle() == {"d/a": b"theirs 1", "d/a.conflict": b"theirs"}

    _play(tmp_path, scene, FEW)


def test_what_somebody_replaced_is_not_removed(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.client.walk()
        await at.do("unlink", "d/f")
        at.store.write_foreign("d/f", b"theirs 1")
        with _hidden(at.store, "d/f"):
            await trio.sleep(10.0)
        assert await at.settle() == {"d/a": b"theirs", "d/f": b"theirs 1"}

    _play(tmp_path, scene, FEW)
