"""Somebody else writes between: both contents stay, and what follows ours follows our copy."""

from __future__ import annotations

import errno
import os
import random
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import trio

from objfs.errors import StaleVersionError, UnavailableError
from objfs.store.values import PutOptions
from objfs.vfs.disk import DiskShare
from objfs.vfs.nodes import FileNode
from objfs_cache.staged import NoSpaceError, StagedFile
from objfs_cache.staging import Staging
from tests.sim.client import CALLER, Client
from tests.sim.model import Op
from tests.sim.mounting import Mount, MountOptions, mounted, run
from tests.sim.store import FAIR, SimulatedStore, Weather, without_conditions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from objfs.store.values import Capabilities

ROOT = 1


@dataclass
class Scene:
    """A mount, a program on it, and somebody else."""

    store: SimulatedStore
    mount: Mount
    client: Client

    async def write(self, path: str, data: bytes, *, new: bool = False) -> None:
        """Our program writes a whole file."""
        name = "create" if new else "open"
        await self.client.apply(Op(name, path, slot=1, flags=0o1002))
        await self.client.apply(Op("write", slot=1, data=data))
        await self.client.apply(Op("close", slot=1))

    async def patch(self, path: str, offset: int, data: bytes) -> None:
        """Our program changes a part of a file."""
        await self.client.apply(Op("open", path, slot=1, flags=2))
        await self.client.apply(Op("write", slot=1, offset=offset, data=data))
        await self.client.apply(Op("close", slot=1))

    async def do(self, name: str, path: str, other: str = "", number: int = 0) -> None:
        """Our program does something."""
        await self.client.apply(Op(name, path, other, number=number))

    async def settle(self) -> dict[str, bytes]:
        """What is in the store in the end, our copies under `name.conflict`."""
        await self.mount.uploader.drain()
        await trio.sleep(10.0)
        assert self.store.violations == []
        found: dict[str, bytes] = {}
        for key, data in self.store.objects().items():
            name, mark, _ = key.partition(".conflict-")
            found[name + mark.rstrip("-")] = data
        assert self.mount.journal.load() == []
        return found


def play(
    tmp_path: Path,
    scene: Callable[[Scene], Awaitable[None]],
    *,
    weather: Weather | None = None,
    conditions: bool = True,
    copy_conditions: bool = True,
    content_etags: bool = False,
) -> None:
    """Play a scene with a file `f` of others in the store."""

    async def main() -> None:
        store = SimulatedStore(dice=random.Random(1), content_etags=content_etags)
        if not conditions:
            ignorant: Capabilities = without_conditions(store.capabilities)
            store.capabilities = replace(ignorant)
        if not copy_conditions:
            store.capabilities = replace(store.capabilities, copy_conditions=False)
        if weather is not None:
            store.weather = weather
        store.write_foreign("f", b"theirs 0")
        async with mounted(store, tmp_path / "cache", MountOptions(delay_s=2.0)) as mount:
            await scene(Scene(store, mount, Client(mount.filesystem)))

    run(1, main)


def test_an_overwrite(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.write("f", b"ours")
        at.store.write_foreign("f", b"theirs 1")
        assert await at.settle() == {"f": b"theirs 1", "f.conflict": b"ours"}
        names = await at.client.names("")
        assert len(names) == 2
        assert (await at.client.entry("f"))[2] == b"theirs 1"
        assert (await at.client.entry(max(names)))[2] == b"ours"
        assert at.mount.uploader.status().conflicts == 1

    play(tmp_path, scene)


def test_a_new_file(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.write("g", b"ours", new=True)
        at.store.write_foreign("g", b"theirs")
        assert await at.settle() == {"f": b"theirs 0", "g": b"theirs", "g.conflict": b"ours"}

    play(tmp_path, scene)


def test_a_rename_over(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.write("f.tmp", b"ours", new=True)
        await at.do("rename", "f.tmp", "f")
        at.store.write_foreign("f", b"theirs 1")
        assert await at.settle() == {"f": b"theirs 1", "f.conflict": b"ours"}

    play(tmp_path, scene)


def test_a_stored_file_renamed_over(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.write("g", b"ours", new=True)
        await at.settle()
        await at.do("rename", "g", "f")
        at.store.write_foreign("f", b"theirs 1")
        assert await at.settle() == {"f": b"theirs 1", "f.conflict": b"ours"}

    play(tmp_path, scene)


def test_the_queue_behind_follows_ours(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.write("f", b"ours 1")
        await trio.sleep(2.01)  # on its way now
        at.store.write_foreign("f", b"theirs 1")
        await at.write("f", b"ours 2")
        assert await at.settle() == {"f": b"theirs 1", "f.conflict": b"ours 2"}

    play(tmp_path, scene)


def test_new_attributes_never_hide_a_conflict(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("chmod", "f", number=0o600)
        await trio.sleep(2.0005)
        at.store.write_foreign("f", b"theirs 1")
        await at.write("f", b"ours")
        assert await at.settle() == {"f": b"theirs 1", "f.conflict": b"ours"}

    play(tmp_path, scene)


def test_a_deleted_base_is_no_conflict(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.write("f", b"ours")
        at.store.memory.delete(["f"])
        assert await at.settle() == {"f": b"ours"}

    play(tmp_path, scene)


def test_a_source_that_somebody_replaced_stays(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("rename", "f", "g")
        at.store.write_foreign("f", b"theirs 1")
        assert await at.settle() == {"f": b"theirs 1"}

    play(tmp_path, scene)


@pytest.mark.parametrize("conditions", [True, False])
def test_lost_answers_are_no_conflict_with_ourselves(tmp_path: Path, conditions: bool) -> None:
    async def scene(at: Scene) -> None:
        for number in range(10):
            await at.write("f", b"ours %d" % number)
            await at.do("chmod", "f", number=0o600 + number % 8)
            await at.do("rename", "f", "g")
            await trio.sleep(number)
            await at.do("rename", "g", "f")
        at.store.weather = Weather()
        if not conditions:
            at.store.violations = _Forgiving()
        assert await at.settle() == {"f": b"ours 9"}
        assert at.mount.uploader.status().conflicts == 0

    play(tmp_path, scene, weather=Weather(lost=0.3, refused=0.05, attempts=2), conditions=conditions)


def test_a_store_without_conditions_is_compared_with(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.write("f", b"ours")
        at.store.write_foreign("f", b"theirs 1")
        at.store.violations = _Forgiving()  # a window remains between HEAD and PUT
        assert await at.settle() == {"f": b"theirs 1", "f.conflict": b"ours"}

    play(tmp_path, scene, conditions=False)


class _Forgiving(list[str]):
    def append(self, _text: str) -> None:
        return


def test_a_renamed_directory_meets_somebody_at_its_new_place(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("mkdir", "d")
        await at.write("d/x", b"ours x", new=True)
        await at.write("d/y", b"ours y", new=True)
        await at.settle()
        await at.do("rename", "d", "e")
        at.store.write_foreign("e/x", b"theirs")
        assert await at.settle() == {
            "f": b"theirs 0",
            "e/": b"",
            "e/x": b"theirs",
            "e/x.conflict": b"ours x",
            "e/y": b"ours y",
        }
        assert at.mount.uploader.status().conflicts == 1
        assert (await at.client.entry("e/x"))[2] == b"theirs"

    play(tmp_path, scene)


def test_a_removed_file_that_somebody_replaced_stays(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("unlink", "f")
        at.store.write_foreign("f", b"theirs 1")
        assert await at.settle() == {"f": b"theirs 1"}
        assert await at.client.names("") == ["f"]

    play(tmp_path, scene)


LARGE = b"0123456789abcdef" * 8000


@pytest.mark.parametrize("gone", ["replaced", "deleted"])
def test_a_change_of_a_part_outlives_its_base_where_that_is_cached(tmp_path: Path, gone: str) -> None:
    async def scene(at: Scene) -> None:
        at.store.write_foreign("g", LARGE)
        assert (await at.client.entry("g"))[2] == LARGE  # now the cache has it
        await at.patch("g", 70_000, b"patch")
        if gone == "replaced":
            at.store.write_foreign("g", b"theirs")
        else:
            at.store.delete_foreign("g")
        patched = LARGE[:70_000] + b"patch" + LARGE[70_005:]
        kept = {"g": b"theirs", "g.conflict": patched} if gone == "replaced" else {"g": patched}
        assert await at.settle() == {"f": b"theirs 0", **kept}

    play(tmp_path, scene)


@pytest.mark.parametrize("gone", ["replaced", "deleted"])
def test_a_change_of_a_part_is_kept_where_its_base_cannot_be_had(tmp_path: Path, gone: str) -> None:
    async def scene(at: Scene) -> None:
        at.store.write_foreign("g", LARGE)
        await at.patch("g", 70_000, b"patch")
        if gone == "replaced":
            at.store.write_foreign("g", b"theirs")
        else:
            at.store.delete_foreign("g")
        await at.mount.uploader.drain()
        (parked,) = at.mount.uploader.status().parked
        assert parked.path.partition(".conflict-")[0] == "g"
        assert "bytes of it can no longer be had" in parked.error
        assert at.store.objects().get("g") == (b"theirs" if gone == "replaced" else None)
        with pytest.raises(StaleVersionError):
            await at.client.entry(parked.path)  # never zeros where bytes are missing
        (row,) = at.mount.journal.load()
        assert row.staged is not None
        assert (70_000, 70_005) in row.staged.extents

    play(tmp_path, scene)


@pytest.mark.parametrize("attempts", [1, 4])
def test_a_lost_answer_in_a_moved_directory(tmp_path: Path, attempts: int) -> None:
    """The conflict copy of a file in it is made once, and gives its name to nothing else."""

    async def scene(at: Scene) -> None:
        lost: list[str] = []

        def lose(name: str, key: str) -> bool:
            is_first = name.startswith("COPY") and ".conflict-" in key and not lost
            lost.extend([key] * is_first)
            return is_first

        at.store.lose = lose
        at.store.write_foreign("d/", b"")
        at.store.write_foreign("d/a", b"theirs a")
        await at.do("rename", "d", "e")
        at.store.write_foreign("e/a", b"theirs 2")
        await at.write("e/b", b"ours", new=True)
        assert await at.settle() == {
            "f": b"theirs 0",
            "e/": b"",
            "e/a": b"theirs 2",
            "e/a.conflict": b"theirs a",
            "e/b": b"ours",
        }
        assert [key for key in at.store.objects() if ".conflict-" in key] == lost
        assert (await at.client.entry("e/b"))[2] == b"ours"

    play(tmp_path, scene, weather=Weather(attempts=attempts))


def test_a_part_of_a_file_whose_rename_had_nothing_to_act_on(tmp_path: Path) -> None:
    """In a directory that is renamed then: what has the new name is another file, and stays as it is."""

    async def scene(at: Scene) -> None:
        at.store.write_foreign("d/a", b"theirs a")
        at.store.write_foreign("d/b", b"theirs b")
        await at.do("rename", "d/a", "d/b")
        await at.do("rename", "d", "n")
        await at.patch("n/b", 0, b"OURS")
        at.store.delete_foreign("d/a")
        await at.mount.uploader.drain()
        assert at.store.objects()["n/b"] == b"theirs b"
        (parked,) = at.mount.uploader.status().parked
        assert parked.path.startswith("n/b.conflict-")

    play(tmp_path, scene)


def test_a_change_in_a_directory_that_moves_then(tmp_path: Path) -> None:
    """Our copy moves along, what was changed later follows it, and the name is for new content again."""

    async def scene(at: Scene) -> None:
        at.store.write_foreign("d/f", b"theirs 0")
        await at.write("d/f", b"ours")
        await at.do("rename", "d", "e")
        await at.do("chmod", "e/f", number=0o640)
        at.store.write_foreign("d/f", b"theirs 1")
        assert await at.settle() == {"f": b"theirs 0", "e/f": b"theirs 1", "e/f.conflict": b"ours"}
        names = await at.client.names("e")
        assert (await at.client.entry("e/f"))[2] == b"theirs 1"
        kind, mode, data, *_ = await at.client.entry(f"e/{max(names)}")
        assert (kind, mode, data) == ("file", 0o640, b"ours")
        await at.write("e/f", b"ours 2")
        assert (await at.settle())["e/f"] == b"ours 2"

    play(tmp_path, scene)


def test_a_part_of_a_lost_object_is_kept_whatever_takes_its_name(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        at.store.write_foreign("d/f", b"theirs 0" * 10_000)
        await at.patch("d/f", 0, b"ours 1")
        await at.do("rename", "d", "e")
        at.store.write_foreign("d/f", b"theirs 1")
        await at.mount.uploader.drain()
        (parked,) = at.mount.uploader.ledger
        assert parked.path.startswith("e/f.conflict-")
        await trio.sleep(10.0)
        await at.write("e/f", b"ours 2")
        await at.mount.uploader.drain()
        assert at.store.objects()["e/f"] == b"ours 2"
        (parked,) = at.mount.uploader.ledger
        assert parked.staged is not None
        assert parked.staged.read(0, 6) == b"ours 1"

    play(tmp_path, scene)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_takes_the_place_of_a_diverted_change_stays_there(tmp_path: Path, kind: str) -> None:
    async def scene(at: Scene) -> None:
        await at.write("g", b"ours", new=True)
        at.store.write_foreign("g", b"theirs")
        at.store.weather = Weather(latency_s=(5.0, 5.0))
        await trio.sleep(4.0)  # it is on its way
        await at.do("unlink", "g")
        if kind == "file":
            await at.write("g", b"new", new=True)
        else:
            await at.do("mkdir", "g")
            await at.write("g/h", b"new", new=True)
        at.store.weather = FAIR
        found = await at.settle()
        ours = {"g.conflict": b"new"} if kind == "file" else {"g/": b"", "g/h": b"new"}
        assert found == {"f": b"theirs 0", "g": b"theirs", **ours}

    play(tmp_path, scene)


def test_a_rename_whose_source_somebody_took_away_leaves_what_is_there(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        for key in ("g", "h"):
            at.store.write_foreign(key, b"same")
        await at.client.walk()
        await at.do("rename", "g", "h")
        at.store.delete_foreign("g")
        await trio.sleep(1.5)
        at.store.write_foreign("h", b"same")
        assert await at.settle() == {"f": b"theirs 0", "h": b"same"}
        assert (await at.client.entry("h"))[2] == b"same"

    play(tmp_path, scene, content_etags=True)


def test_what_is_written_to_a_version_that_was_replaced_is_refused(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.client.apply(Op("open", "f", slot=1, flags=2))
        at.store.write_foreign("f", b"theirs 1")
        await trio.sleep(10.0)
        assert (await at.client.entry("f"))[2] == b"theirs 1"
        with pytest.raises(OSError, match="superseded"):
            await at.client.apply(Op("write", slot=1, data=b"ours"))
        await at.client.apply(Op("close", slot=1))
        assert await at.settle() == {"f": b"theirs 1"}

    play(tmp_path, scene)


def test_nothing_is_made_in_a_directory_that_somebody_removed_with_all_above(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        at.store.write_foreign("a/b/f", b"theirs")
        files = at.mount.filesystem
        await at.client.apply(Op("open", "a/b/f", slot=1, flags=2))
        above = await files.lookup(ROOT, b"a")
        assert above is not None
        inside = await files.lookup(above.ino, b"b")
        assert inside is not None
        at.store.delete_foreign("a/b/f")
        await trio.sleep(10.0)
        assert await at.client.names("") == ["f"]
        with pytest.raises(OSError, match="removed"):
            await files.create(inside.ino, b"new", 0o644, 2, CALLER)
        with pytest.raises(OSError, match="removed"):
            await files.rename(ROOT, b"f", inside.ino, b"f", 0)
        with pytest.raises(OSError, match="superseded"):
            await at.client.apply(Op("write", slot=1, data=b"ours"))
        at.store.write_foreign("a/b/f", b"theirs 1")
        await trio.sleep(10.0)
        assert await files.lookup(inside.ino, b"f") is None  # it is another directory
        assert (await at.client.entry("a/b/f"))[2] == b"theirs 1"
        await at.client.apply(Op("close", slot=1))
        files.forget(inside.ino, 1)
        files.forget(above.ino, 1)
        assert await at.settle() == {"f": b"theirs 0", "a/b/f": b"theirs 1"}
        assert {node.path for node in files._tree.nodes.values()} == {"", "f", "a", "a/b", "a/b/f"}

    play(tmp_path, scene)


def test_after_a_truncate_that_the_disk_refuses(tmp_path: Path) -> None:
    """A file that was not changed after all is not kept as if it was."""

    async def scene(at: Scene) -> None:
        made, asked = None, OSError(errno.EFBIG, "too large")
        with (
            mock.patch.object(StagedFile, "truncate", side_effect=[made, asked]),
            pytest.raises(OSError, match="too large"),
        ):
            await at.client.apply(Op("truncate", "f", length=1 << 60))
        at.store.write_foreign("f", b"theirs 1")
        await trio.sleep(30.0)
        assert (await at.client.entry("f"))[2] == b"theirs 1"

    play(tmp_path, scene)


@pytest.mark.parametrize("change", ["write", "truncate"])
def test_a_change_of_what_was_replaced_while_room_was_made_for_it(tmp_path: Path, change: str) -> None:
    """It is refused: nobody would find it."""

    async def scene(at: Scene) -> None:
        async def relieve(_share: DiskShare, _need_bytes: int) -> bool:
            await trio.sleep(10.0)
            assert (await at.client.entry("f"))[2] == b"theirs 1"
            return True

        await at.client.apply(Op("open", "f", slot=1, flags=2))
        files, (handle, ino) = at.mount.filesystem.files, at.client.handles[1]
        node = at.mount.filesystem._tree.nodes[ino]
        assert isinstance(node, FileNode)
        at.store.write_foreign("f", b"theirs 1")
        reserve = mock.Mock(side_effect=[NoSpaceError(), *[None] * 10])
        with (
            mock.patch.object(DiskShare, "relieve", relieve),
            mock.patch.object(Staging, "reserve", reserve),
            pytest.raises(OSError, match="superseded"),
        ):
            await (files.write(handle, 0, b"ours") if change == "write" else files.truncate(node, 100))
        assert (await at.mount.filesystem.getattr(ino)).size_bytes == len(b"theirs 0")
        await at.client.apply(Op("close", slot=1))
        assert await at.settle() == {"f": b"theirs 1"}

    play(tmp_path, scene)


def test_a_symlink_that_somebody_made_is_not_emptied(tmp_path: Path) -> None:
    """The kernel, which knows of nothing there yet, asks for a new file."""

    async def scene(at: Scene) -> None:
        link = PutOptions(metadata={"mode": str(stat.S_IFLNK | 0o777)})
        at.store.memory.put("l", b"target", options=link)
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
        with pytest.raises(OSError, match="look again"):
            await at.mount.filesystem.create(1, b"l", 0o644, flags, CALLER)
        assert await at.settle() == {"f": b"theirs 0", "l": b"target"}

    play(tmp_path, scene)


@pytest.mark.parametrize("change", ["rename", "chmod"])
def test_a_change_behind_a_rename_that_had_nothing_to_act_on(tmp_path: Path, change: str) -> None:
    """Somebody deleted what was renamed, and put something else at its new place: that is not ours."""

    async def scene(at: Scene) -> None:
        def away(name: str, key: str) -> None:
            if name.startswith("COPY"):
                raise UnavailableError("Away.", key=key)

        at.store.before_request = away
        await at.do("rename", "f", "g")
        await trio.sleep(4.0)
        await at.do(change, "g", other="h", number=0o600)
        at.store.delete_foreign("f")
        at.store.memory.put("g", b"theirs 1", options=PutOptions(metadata={"mode": str(0o100640)}))
        at.store.before_request = lambda _name, _key: None
        assert await at.settle() == {"g": b"theirs 1"}
        assert at.store.memory.head("g").metadata == {"mode": str(0o100640)}

    play(tmp_path, scene)


def test_what_somebody_removed_from_a_moved_directory_stays_away(tmp_path: Path) -> None:
    """It is still at the old place, where it waits for its removal."""

    async def scene(at: Scene) -> None:
        def refuse_deletes(name: str, key: str) -> None:
            if name == "DELETE":
                raise UnavailableError("Away.", key=key)

        await at.do("mkdir", "d")
        for name in ("d/x", "d/y"):
            await at.write(name, name.encode(), new=True)
        await at.settle()
        at.store.before_request = refuse_deletes
        await at.do("rename", "d", "e")
        await trio.sleep(5.0)
        at.store.delete_foreign("e/x")
        at.store.before_request = lambda _name, _key: None
        assert await at.settle() == {"f": b"theirs 0", "e/": b"", "e/y": b"d/y"}

    play(tmp_path, scene)
