"""What is believed of what the store told, and for how long: each time that is zero costs a request."""

from __future__ import annotations

import functools
import os
import random
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import trio

from objfs.errors import CorruptError, InvalidRequestError, UnavailableError
from objfs.store.listing import MAX_PAGE_KEYS
from objfs.store.values import MIB, ListPage, PutOptions
from objfs.vfs.nodes import NEVER
from objfs.vfs.pruning import prune
from objfs.vfs.values import SetAttributes
from objfs_cache.blocks import open_block_cache
from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import mounted, run
from tests.sim.store import SimulatedStore, Weather
from tests.sim.test_conflicts import Scene, play
from tests.sim.test_power_loss import answer_again
from tests.sim.test_recalled import shut
from tests.unit.codec.objects import compressed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

ROOT = 1
CONTENT = b"compressible " * 3000
COMPRESSED = PutOptions(content_encoding="zstd", metadata={"objfs-size": str(len(CONTENT))})


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
        at.store.page_keys = MAX_PAGE_KEYS
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


def _others_change_attributes(tmp_path: Path, scene: Callable[[Scene], Awaitable[None]]) -> None:
    """Of a file that our program has open; a listing tells that something was changed, not what."""

    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1), content_etags=True)
        store.write_foreign("f", b"theirs")
        store.write_foreign("d/g", b"theirs")
        async with mounted(store, tmp_path / "cache") as mount:
            client = Client(mount.filesystem)
            await client.apply(Op("open", "f", slot=1, flags=os.O_RDWR))
            await trio.sleep(10.0)
            store.memory.put("f", b"theirs", options=PutOptions(metadata={"mode": str(0o100600)}))
            await trio.sleep(10.0)
            await client.apply(Op("list"))
            await scene(Scene(store, mount, client))

    run(1, main)


def test_a_file_that_is_written_is_shown_whatever_a_listing_told(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.client.apply(Op("write", slot=1, data=b"ours!!"))
        assert await at.client.apply(Op("stat", "f")) == ("file", 0o644, 6)
        await at.client.apply(Op("close", slot=1))
        assert await at.client.apply(Op("stat", "f")) == ("file", 0o644, 6)

    _others_change_attributes(tmp_path, scene)


def test_attributes_of_an_open_file_change_what_is_there_now(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.mount.filesystem.setattr(at.client.handles[1][1], SetAttributes(mtime_ns=10**18))
        assert await at.client.apply(Op("stat", "f")) == ("file", 0o600, 6)

    _others_change_attributes(tmp_path, scene)


@pytest.mark.parametrize("name", ["user.own", "user.objfs.cache_control"])
@pytest.mark.parametrize("change", ["set", "remove"])
def test_extended_attributes_of_an_open_file_are_added_to_what_is_there_now(
    tmp_path: Path, name: str, change: str
) -> None:
    async def scene(at: Scene) -> None:
        ino, xattrs = at.client.handles[1][1], at.mount.filesystem.xattrs
        await xattrs.set(ino, name, b"no-cache")
        if change == "remove":
            await at.mount.uploader.drain()
            metadata = {**(at.store.memory.head("f").metadata or {}), "mode": str(0o100640)}
            for _ in range(2):  # a first listing tells when ours was stored
                await trio.sleep(10.0)
                await at.client.apply(Op("list"))
                at.store.memory.put("f", b"theirs", options=PutOptions(metadata=metadata))
            await trio.sleep(10.0)
            await at.client.apply(Op("list"))
            await xattrs.remove(ino, name)
        await at.mount.uploader.drain()
        wanted = 0o640 if change == "remove" else 0o600
        assert (at.store.memory.head("f").metadata or {})["mode"] == str(stat.S_IFREG | wanted)
        assert await at.client.apply(Op("stat", "f")) == ("file", wanted, 6)

    _others_change_attributes(tmp_path, scene)


@pytest.mark.parametrize("year", [1, 1800, 2200, 9999])
def test_a_time_is_shown_as_it_will_be_kept(tmp_path: Path, year: int) -> None:
    asked_ns = (year - 1970) * 365 * 86400 * 10**9

    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        store.write_foreign("f", b"theirs")
        async with mounted(store, tmp_path / "cache") as mount:
            client = Client(mount.filesystem)
            await client.apply(Op("utime", "f", number=asked_ns))
            shown_ns = (await client.entry("f"))[3]
            await mount.uploader.drain()
        async with mounted(store, tmp_path / "another") as mount:
            assert (await Client(mount.filesystem).entry("f"))[3] == shown_ns
        assert (shown_ns == asked_ns) == (1678 < year < 2262)

    run(1, main)


@pytest.mark.parametrize("path", ["f", "d"])
def test_what_is_in_use_and_was_replaced_still_has_a_type(path: str, tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        if path == "d":
            await at.client.apply(Op("stand", "d"))
        for _ in range(2):
            await trio.sleep(10.0)
            await at.client.apply(Op("list"))
            at.store.write_foreign("f", b"theirs again")
            at.store.memory.delete(["d/g"])
        ino = at.client.handles[1][1] if path == "f" else at.client.standing
        assert (await at.mount.filesystem.getattr(ino)).mode

    _others_change_attributes(tmp_path, scene)


def test_a_range_that_the_store_refuses_is_an_error_of_the_store(tmp_path: Path) -> None:
    """EINVAL would tell a program that its descriptor, or its offset, cannot be read from."""

    async def scene(at: Scene) -> None:
        await at.client.apply(Op("open", "f", slot=1))
        refused = InvalidRequestError("The store answered 416 InvalidRange.")
        with mock.patch.object(at.store, "get", side_effect=refused), pytest.raises(CorruptError):
            await at.mount.filesystem.files.read(at.client.handles[1][0], 0, 10)
        assert await at.client.apply(Op("read", slot=1, length=10)) == b"theirs 0"

    play(tmp_path, scene)


def test_a_page_without_keys_ends_no_directory(tmp_path: Path) -> None:
    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        for number in range(18):
            store.write_foreign(f"top/{number // 3}/{number % 3}", b"theirs")
        listed = store.list

        async def list_after_nothing(
            prefix: str,
            *,
            page: str | None = None,
            **wanted: Any,  # noqa: ANN401  # whatever is asked
        ) -> ListPage:
            """Each listing begins with a page without keys, as those of Ceph and others may."""
            if page is None and not wanted.get("delimiter"):
                return ListPage(objects=(), next_page=f"after {wanted['start_after']}")
            if page is not None and page.startswith("after "):
                wanted["start_after"], page = page.removeprefix("after "), None
            return await listed(prefix, page=page, **wanted)

        async with mounted(store, tmp_path / "cache") as mount:
            client = Client(mount.filesystem)
            await client.apply(Op("list", "top"))
            with mock.patch.object(store, "list", list_after_nothing):
                for name in "012345":
                    assert await client.apply(Op("list", f"top/{name}")) == ["0", "1", "2"]

    run(1, main)


def test_a_folder_that_a_later_page_tells_is_no_file_before(tmp_path: Path) -> None:
    """Keys that are file and folder: names with a hyphen or a dot are between the two."""

    async def scene(at: Scene) -> None:
        for key in ("f", *(f"f-{number}" for number in range(10)), "f/below"):
            at.store.write_foreign(f"d/{key}", b"theirs")
        assert await at.client.apply(Op("stat", "d/f")) == ("folder", 0o755, 0)
        assert await at.client.apply(Op("stat", "d/f-4")) == ("file", 0o644, 6)

    play(tmp_path, scene)


def test_memory_is_freed_of_nothing_that_a_listing_has_just_told(tmp_path: Path) -> None:
    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1), weather=Weather(latency_s=(0.0, 0.0001)))
        names = [f"{number:04}" for number in range(9000)]
        for name in names:
            store.memory.put(f"d/{name}", b"theirs")
        async with mounted(store, tmp_path / "cache") as mount, trio.open_nursery() as nursery:
            filesystem, client = mount.filesystem, Client(mount.filesystem)
            assert await client.names("d") == names
            await trio.sleep(10.0)
            before, listed = trio.current_time() - 5.0, store.list

            async def list_while_memory_is_freed(
                prefix: str,
                **wanted: Any,  # noqa: ANN401  # whatever is asked
            ) -> ListPage:
                page = await listed(prefix, **wanted)
                if page.next_page is None:
                    nursery.start_soon(
                        functools.partial(prune, older_than=before, nodes_max=100), filesystem._tree
                    )
                    for _ in range(2):
                        await trio.lowlevel.checkpoint()
                return page

            found = await filesystem.lookup(ROOT, b"d")
            assert found is not None
            with mock.patch.object(store, "list", list_while_memory_is_freed):
                handle = await filesystem.streams.open(found.ino)
                await filesystem.streams.begin(handle, 0)
            await trio.sleep(1.0)
            assert [name for _, name, _ in filesystem.streams.read(handle, 2)] == names

    run(1, main)


def test_an_open_file_stays_decompressed(tmp_path: Path) -> None:
    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1), content_etags=True)
        store.memory.put("f", compressed(CONTENT), options=COMPRESSED)
        async with mounted(store, tmp_path / "cache") as mount:
            client = Client(mount.filesystem)
            await client.apply(Op("open", "f", slot=1))
            await trio.sleep(10.0)
            store.memory.put("f", compressed(CONTENT))
            await trio.sleep(10.0)
            assert (await client.entry("f"))[2] == compressed(CONTENT)
            assert await client.apply(Op("read", slot=1, length=2 * len(CONTENT))) == CONTENT

    run(1, main)


def test_what_a_listing_tells_is_not_kept_in_the_cache_for_the_content(tmp_path: Path) -> None:
    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1))
        store.capabilities = replace(store.capabilities, listing_metadata=False)
        store.memory.put("d/f", compressed(CONTENT), options=COMPRESSED)
        store.memory.put("d/link", b"f", options=PutOptions(metadata={"mode": str(0o120777)}))
        with open_block_cache(tmp_path / "blocks", limit_bytes=64 * MIB, floor_fraction=0.0) as blocks:
            async with mounted(store, tmp_path / "cache") as mount:
                warmer = mount.filesystem.warmer(blocks)
                found = await warmer.files(await warmer.find("d"))
                assert [(one.path, one.size_bytes) for one in found] == [("d/f", len(CONTENT))]

    run(1, main)


def test_a_tree_deeper_than_pythons_stack_is_seen_to_be_gone(tmp_path: Path) -> None:
    key = f"{'a/' * 500}x"

    async def scene(at: Scene) -> None:
        at.store.write_foreign(key, b"theirs")
        ino = ROOT
        for part in key.split("/"):
            found = await at.mount.filesystem.lookup(ino, part.encode())
            assert found is not None
            ino = found.ino
        at.store.delete_foreign(key)
        await trio.sleep(10.0)
        assert await at.client.names("") == ["f"]

    play(tmp_path, scene)


@pytest.mark.parametrize(
    "change", [Op("create", "d/new", slot=2), Op("unlink", "d/f"), Op("rename", "d/f", "f2")]
)
def test_a_directory_goes_on_showing_the_time_of_its_last_change(tmp_path: Path, change: Op) -> None:
    """Whatever its marker tells: programs look for new names only where that time is another one."""

    async def scene(at: Scene) -> None:
        async def mtime_ns() -> int:
            found = await at.mount.filesystem.lookup(ROOT, b"d")
            assert found is not None
            at.mount.filesystem.forget(found.ino, 1)
            return found.mtime_ns

        await at.do("mkdir", "d")
        await at.write("d/f", b"ours", new=True)
        before = await mtime_ns()
        await trio.sleep(1.0)
        await at.client.apply(change)
        after = await mtime_ns()
        assert after > before
        await at.mount.uploader.drain()
        for _ in range(3):
            await trio.sleep(30.0)
            assert await mtime_ns() == after
        set_ns = 10**18
        found = await at.mount.filesystem.lookup(ROOT, b"d")
        assert found is not None
        await at.mount.filesystem.setattr(found.ino, SetAttributes(mtime_ns=set_ns))
        await at.mount.uploader.drain()
        await trio.sleep(30.0)
        assert await mtime_ns() == set_ns

    play(tmp_path, scene)


def test_a_long_listing_is_waited_for_as_long_as_it_goes_on(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        for number in range(6):
            at.store.write_foreign(f"d/{number}", b"x")
        assert len(await at.client.names("d")) == 6
        listed = at.store.list

        async def list_slowly(prefix: str, **how: Any) -> ListPage:  # noqa: ANN401  # whatever is asked
            await trio.sleep(1.0)
            return await listed(prefix, **how, max_keys=1)

        at.store.write_foreign("d/6", b"x")
        await trio.sleep(10.0)
        with mock.patch.object(at.store, "list", list_slowly):
            assert len(await at.client.names("d")) == 7

    play(tmp_path, scene)


def test_who_asks_for_known_things_waits_once_for_a_store_that_is_away(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        at.store.write_foreign("d/x", b"x")
        for path in ("", "d"):
            await at.client.names(path)
        shut(at)
        waited: list[float] = []
        for _ in range(10):
            await trio.sleep(60.0)
            asked_at = trio.current_time()
            assert await at.client.names("d") == ["x"]
            waited.append(trio.current_time() - asked_at)
        assert waited[0] < 10.0
        assert waited[1:] == [0.0] * 9
        answer_again(at)
        at.store.write_foreign("d/y", b"y")
        await trio.sleep(10.0)
        assert await at.client.names("d") == ["x", "y"]

    play(tmp_path, scene)


def test_who_reads_again_what_could_not_be_had_is_told_at_once(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        async def give_up(key: str, **_how: Any) -> None:  # noqa: ANN401  # whatever is asked
            await trio.sleep(50.0)
            raise UnavailableError("No answer.", key=key)

        await at.client.apply(Op("open", "f", slot=1))
        with mock.patch.object(at.store, "get", give_up):
            with pytest.raises(OSError, match="No answer"):
                await at.client.apply(Op("read", slot=1, length=9))
            asked_at = trio.current_time()
            with pytest.raises(trio.TooSlowError):
                await at.client.apply(Op("read", slot=1, length=9))
            assert trio.current_time() - asked_at < 1.0
        await trio.sleep(60.0)
        assert await at.client.apply(Op("read", slot=1, length=9)) == b"theirs 0"

    play(tmp_path, scene)


def test_a_listing_that_goes_on_makes_nobody_wait_for_another_that_does_not(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        for number in range(60):
            at.store.write_foreign(f"long/{number}", b"x")
        at.store.write_foreign("stalled/x", b"x")
        for path in ("", "long", "stalled"):
            await at.client.names(path)
        await trio.sleep(10.0)
        listed = at.store.list

        async def list_slowly(prefix: str, **how: Any) -> ListPage:  # noqa: ANN401  # whatever is asked
            await trio.sleep(1.0 if prefix == "long/" else 0.0 if prefix == "" else 1000.0)
            return await listed(prefix, **how, max_keys=1)

        with mock.patch.object(at.store, "list", list_slowly):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Client(at.mount.filesystem).names, "long")
                asked_at = trio.current_time()
                assert await at.client.names("stalled") == ["x"]
                assert trio.current_time() - asked_at < 10.0

    play(tmp_path, scene)


def test_what_was_given_up_while_a_directory_was_opened_is_looked_for_before_it_is_read(
    tmp_path: Path,
) -> None:
    """As where an upload of before a power loss turns out to be in the store."""

    async def scene(at: Scene) -> None:
        streams, tree = at.mount.filesystem.streams, at.mount.filesystem._tree
        handle = await streams.open(ROOT)
        at.mount.filesystem._directories.mirror.supersede(tree.root.children["f"])
        tree.root.listed_at = NEVER
        await streams.begin(handle, 0)
        assert [name for _, name, _ in streams.read(handle, 2)] == ["f"]
        streams.close(handle)

    play(tmp_path, scene)
