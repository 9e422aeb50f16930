"""The power fails: what it took holds nobody back, and goes when somebody puts something in its place."""

from __future__ import annotations

import errno
import os
import random
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import trio

import objfs_cache.journal
from objfs.errors import PermissionDeniedError, StaleVersionError, UnavailableError
from objfs.store.threads import in_thread
from objfs.upload.ledger import Ledger
from objfs.upload.operations import State
from objfs.vfs import durability
from objfs_cache.journal import JournalError
from objfs_cache.staged import StagedFile
from tests.sim.client import ROOT, Client
from tests.sim.model import Op
from tests.sim.mounting import Caches, MountOptions, mounted, run
from tests.sim.store import FAIR, SimulatedStore, Weather
from tests.sim.test_conflicts import Scene
from tests.sim.test_parked import refuse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

WRITES = ("PUT", "COPY", "CREATE", "COMPLETE")
BIG = bytes(range(1, 256)) * 400


@dataclass
class Machine:
    """A machine with a disk; the store holds a file `big` of others.

    Attributes:
        boot_id: the file that tells the boots of the machine from each other.
        caches: pictures of the disk.
    """

    boot_id: Path
    caches: Caches
    store: SimulatedStore
    boots: int = 0

    def live(self, play: Callable[[Scene], Awaitable[None]], *, delay_s: float = 2.0) -> None:
        """One boot, to its end without power; bytes that were not synced count as lost."""
        self.boots += 1
        self.boot_id.write_text(f"boot {self.boots}\n")

        async def main() -> None:
            async with mounted(self.store, self.caches.path, MountOptions(delay_s=delay_s)) as mount:
                await play(Scene(self.store, mount, Client(mount.filesystem)))
                self.caches.take_picture()

        run(1, main)


@contextmanager
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A new machine."""
    boot_id = tmp_path / "boot_id"
    store = SimulatedStore(dice=random.Random(1))
    store.write_foreign("big", BIG)
    with mock.patch.object(objfs_cache.journal, "BOOT_ID_PATH", boot_id):
        yield Machine(boot_id, Caches(tmp_path), store)


async def write_synced(at: Scene, path: str) -> None:
    """Our program makes a file, and has it made durable."""
    await at.client.apply(Op("create", path, slot=1, flags=os.O_RDWR))
    await at.client.apply(Op("write", slot=1, data=b"synced"))
    await at.client.apply(Op("fsync", slot=1))
    await at.client.apply(Op("close", slot=1))


async def shows(at: Scene, path: str) -> bytes | None:
    """What a program reads there at once; None is EIO."""
    with trio.fail_after(5):
        try:
            return (await at.client.entry(path))[2]
        except OSError:
            return None


def parked(at: Scene) -> list[str]:
    """Paths of what is parked."""
    return [one.path for one in at.mount.uploader.ledger if one.state is State.PARKED]


async def drained(at: Scene) -> dict[str, bytes]:
    """The store in the end; what is parked may stay so."""
    with trio.fail_after(600):
        await at.mount.uploader.drain()
    await trio.sleep(10.0)
    assert at.store.violations == []
    return at.store.objects()


def test_a_change_was_lost_and_its_file_renamed(tmp_path: Path) -> None:
    """The rename was durable, the bytes were not: it takes place, of what the store has."""

    async def before(at: Scene) -> None:
        await at.patch("big", 100, b"lost")
        await at.do("rename", "big", "r4")
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        assert await shows(at, "r4") == BIG
        assert await drained(at) == {"r4": BIG}
        assert await shows(at, "r4") == BIG
        assert parked(at) == ["r4"]

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)
        one.live(after)


def test_a_change_was_lost_and_its_file_replaced_another(tmp_path: Path) -> None:
    """What the file was before is under its new name, also if all of it was staged: not what it replaced."""

    async def before(at: Scene) -> None:
        assert await shows(at, "small") == b"small"
        await at.patch("small", 1, b"lost")
        await at.do("rename", "small", "big")
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        assert await shows(at, "big") == b"small"
        assert await drained(at) == {"big": b"small"}
        assert await shows(at, "big") == b"small"
        assert parked(at) == ["big"]

    with machine(tmp_path) as one:
        one.store.write_foreign("small", b"small")
        one.live(before)
        one.live(after)
        one.live(after)


def hold_up(at: Scene, *keys: str) -> None:
    """Nobody answers writes of these keys from now on, so that what is sent is not done."""

    def check(name: str, asked: str) -> None:
        if asked in keys and name.split()[0] in WRITES:
            raise UnavailableError("Away.", key=asked)

    at.store.before_request = check


def answer_again(at: Scene) -> None:
    """The store is there for all keys again."""
    at.store.before_request = lambda _name, _key: None


@pytest.mark.parametrize("change", ["rename", "chmod", "unlink", "twice"])
def test_a_change_on_its_way_was_lost_and_what_followed_it_was_not(tmp_path: Path, change: str) -> None:
    async def before(at: Scene) -> None:
        hold_up(at, "big")
        await at.patch("big", 100, b"lost")
        await trio.sleep(3.0)  # tried, and not to be taken back any more
        if change == "twice":
            await at.patch("big", 7000, b"lost too")
        if change in ("rename", "twice"):
            await at.do("rename", "big", "r4")
            await at.do("chmod", "r4", number=0o600)
            await at.do("rename", "r4", "r5")
        elif change == "chmod":
            await at.do("chmod", "big", number=0o600)
        else:
            await at.do("unlink", "big")
        await at.mount.filesystem.streams.sync()

    wanted = {"rename": {"r5": BIG}, "twice": {"r5": BIG}, "chmod": {"big": BIG}, "unlink": {}}[change]

    async def after(at: Scene) -> None:
        answer_again(at)
        assert {name: await shows(at, name) for name in await at.client.names("")} == wanted
        assert await drained(at) == wanted
        assert {name: await shows(at, name) for name in await at.client.names("")} == wanted
        for name in wanted:
            assert (await at.client.entry(name))[1] == (0o600)
        assert set(parked(at)) <= set(wanted)

    async def removed(at: Scene) -> None:
        await after(at)
        for name in wanted:
            await at.do("unlink", name)
        assert await drained(at) == {}
        assert at.mount.journal.load() == []
        assert at.mount.staging.used_bytes == 0
        assert list(at.mount.staging.path.iterdir()) == []

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)
        one.live(removed)


def test_what_was_synced_over_a_renamed_loss_is_sent(tmp_path: Path) -> None:
    """A new file on its way is lost; over its new name another one was renamed, which had been synced."""

    async def before(at: Scene) -> None:
        hold_up(at, "new")
        await at.write("new", b"lost", new=True)
        await trio.sleep(3.0)
        await at.do("rename", "new", "big")
        await write_synced(at, "other")
        await at.do("rename", "other", "big")
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        answer_again(at)
        assert await shows(at, "big") == b"synced"
        assert await drained(at) == {"big": b"synced"}
        assert await at.client.names("") == ["big"]
        assert parked(at) == []
        assert at.mount.uploader.status().conflicts == 0

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


def test_what_was_synced_under_the_old_name_of_a_renamed_loss_stays(tmp_path: Path) -> None:
    """As logs are rotated: a new file on its way is lost, under whose name another one was made since."""

    async def before(at: Scene) -> None:
        hold_up(at, "log")
        await at.write("log", b"lost", new=True)
        await trio.sleep(3.0)
        await at.do("rename", "log", "log.1")
        await write_synced(at, "log")

    async def after(at: Scene) -> None:
        answer_again(at)
        wanted = {"big": BIG, "log": b"synced"}
        assert await drained(at) == wanted
        assert {name: await shows(at, name) for name in await at.client.names("")} == wanted | {"log.1": None}
        assert parked(at) == ["log.1"]

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)
        one.live(after)


def test_a_sync_that_the_journal_refused_is_made_up_for_by_the_next(tmp_path: Path) -> None:
    async def before(at: Scene) -> None:
        hold_up(at, "new")
        await at.client.apply(Op("create", "new", slot=1, flags=os.O_RDWR))
        await at.client.apply(Op("write", slot=1, data=b"synced"))
        full = JournalError("The disk is full.", errno.ENOSPC)
        with mock.patch.object(Ledger, "mark_durable", side_effect=full), pytest.raises(JournalError):
            await at.client.apply(Op("fsync", slot=1))
        await at.client.apply(Op("fsync", slot=1))

    async def after(at: Scene) -> None:
        answer_again(at)
        assert await shows(at, "new") == b"synced"
        assert await drained(at) == {"big": BIG, "new": b"synced"}

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


def test_a_file_that_the_disk_does_not_take_leaves_no_other_unsynced(tmp_path: Path) -> None:
    sync = StagedFile.sync_data

    def failing(staged: StagedFile) -> None:
        if staged.file_id == 2:
            raise OSError(errno.EIO, "bad block")
        sync(staged)

    async def before(at: Scene) -> None:
        hold_up(at, "a", "b", "c")
        with mock.patch.object(StagedFile, "sync_data", failing):
            for name in "abc":
                await at.write(name, name.encode(), new=True)
            await trio.sleep(12.0)

    async def after(at: Scene) -> None:
        answer_again(at)
        assert [await shows(at, name) for name in "abc"] == [b"a", None, b"c"]

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


@pytest.mark.parametrize("files", [1, 40])
def test_a_disk_that_failed_once_is_told_to_every_sync(tmp_path: Path, files: int) -> None:
    """Linux tells of a failed write once, here to the sync of all that is staged."""
    told: list[str] = []
    fdatasync = os.fdatasync

    def failing(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.parent.name == "staging" and not told:
            told.append(path.name)
            raise OSError(errno.EIO, "bad block")
        fdatasync(descriptor)

    async def before(at: Scene) -> None:
        for number in range(files):
            await at.client.apply(Op("create", f"new {number}", slot=number, flags=os.O_RDWR))
            await at.client.apply(Op("write", slot=number, data=b"lost"))
        failed = OSError(errno.EIO, "bad block")
        once = mock.patch.object(durability, "_syncfs", side_effect=[failed, *[None] * 100])
        with mock.patch.object(os, "fdatasync", failing), once:
            await trio.sleep(60.0)
            assert told
            for _ in range(2):
                with pytest.raises(OSError, match="did not take"):
                    await at.client.apply(Op("fsync", slot=0))
            await at.client.apply(Op("truncate", "new 0", length=0))
            await at.client.apply(Op("write", slot=0, data=b"anew"))
            await at.client.apply(Op("fsync", slot=0))

    async def after(at: Scene) -> None:
        assert await shows(at, "new 0") == b"anew"

    with machine(tmp_path) as one:
        one.live(before, delay_s=1000.0)
        one.live(after)


@pytest.mark.parametrize("replace", ["copy", "remove", "move", "move and copy", "rename over"])
def test_a_file_that_cannot_be_read_any_more_gives_way(tmp_path: Path, replace: str) -> None:
    """Its only bytes were lost: reading is EIO until something else is put there."""

    async def before(at: Scene) -> None:
        await at.write("new", b"lost", new=True)
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        assert await drained(at) == {"big": BIG}
        assert await shows(at, "new") is None
        assert parked(at) == ["new"]
        wanted = {"big": BIG}
        if replace == "copy":
            await at.write("new", b"again")
            wanted["new"] = b"again"
        elif replace == "remove":
            await at.do("unlink", "new")
        elif replace == "rename over":
            await at.do("rename", "big", "new")
            wanted = {"new": BIG}
        else:
            await at.do("rename", "new", "moved")
            await at.do("chmod", "moved", number=0o600)
            assert await shows(at, "moved") is None
            assert await drained(at) == {"big": BIG}
            assert parked(at) == ["moved"]
            if replace == "move":
                return
            await at.write("moved", b"again")
            wanted["moved"] = b"again"
        assert {name: await shows(at, name) for name in await at.client.names("")} == wanted
        assert await drained(at) == wanted
        assert parked(at) == []
        assert at.mount.journal.load() == []
        assert at.mount.staging.used_bytes == 0
        assert list(at.mount.staging.path.iterdir()) == []

    async def later(at: Scene) -> None:
        assert await drained(at) == {"big": BIG}
        assert sorted(await at.client.names("")) == ["big", "moved"]
        assert await shows(at, "moved") is None
        await at.do("unlink", "moved")
        assert await drained(at) == {"big": BIG}
        assert at.mount.journal.load() == []

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)
        if replace == "move":
            one.live(later)


@pytest.mark.parametrize("then", ["unlink", "write"])
@pytest.mark.parametrize("meanwhile", ["replaced", "removed"])
def test_others_changed_what_a_lost_change_was_of(tmp_path: Path, meanwhile: str, then: str) -> None:
    """Its name stands for the old version, which is nowhere, until it is removed or written anew."""

    async def before(at: Scene) -> None:
        await at.patch("big", 100, b"lost")
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        await at.mount.uploader.drain()
        assert parked(at) == ["big"]
        with pytest.raises(StaleVersionError):
            await at.client.entry("big")

    async def given_up(at: Scene) -> None:
        await after(at)
        wanted = {"big": b"theirs"} if meanwhile == "replaced" else {}
        if then == "unlink":
            await at.do("unlink", "big")
        else:
            await at.write("big", b"ours")
        stored = await drained(at)
        (conflict,) = {*stored} - {"big"} or {""}
        if then == "write":
            wanted["big" if meanwhile == "removed" else conflict] = b"ours"
        assert stored == wanted
        assert {name: await shows(at, name) for name in await at.client.names("")} == wanted
        assert parked(at) == []

    with machine(tmp_path) as one:
        one.live(before)
        if meanwhile == "replaced":
            one.store.write_foreign("big", b"theirs")
        else:
            one.store.delete_foreign("big")
        one.live(after)
        one.live(given_up)


def test_its_directory_is_renamed(tmp_path: Path) -> None:
    async def before(at: Scene) -> None:
        await at.do("mkdir", "d")
        await at.write("d/other", b"other", new=True)
        await drained(at)
        hold_up(at, "d/new")
        await at.write("d/new", b"lost", new=True)
        await trio.sleep(3.0)
        await at.do("rename", "d", "e")
        await at.do("rename", "e", "f")
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        answer_again(at)
        wanted = {"big": BIG, "f/": b"", "f/other": b"other"}
        assert await drained(at) == wanted
        assert sorted(await at.client.names("f")) == ["new", "other"]
        assert await shows(at, "f/new") is None
        assert parked(at) == ["f/new"]
        await at.write("f/new", b"again")
        assert await drained(at) == wanted | {"f/new": b"again"}
        assert at.mount.journal.load() == []

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


def test_a_refused_file_was_removed_before_a_crash(tmp_path: Path) -> None:
    """What waits behind it was never sent, in whatever life it began to wait."""

    async def before(at: Scene) -> None:
        hold_up(at, "big")
        await at.write("big", b"refused")
        await trio.sleep(3.0)
        await at.do("unlink", "big")
        await at.mount.filesystem.commit_everything()

    async def after(at: Scene) -> None:
        def check(name: str, asked: str) -> None:
            if asked == "big" and name == "PUT":
                raise PermissionDeniedError("Access denied.", key=asked)

        at.store.before_request = check
        assert await drained(at) == {}
        assert await at.client.names("") == []
        assert parked(at) == []

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


def test_what_waits_behind_a_refused_change_is_read_at_once(tmp_path: Path) -> None:
    """Its bytes are local, or those of the version that it changes; if that was replaced, nobody waits."""

    def refuse(at: Scene) -> None:
        def check(name: str, asked: str) -> None:
            if asked == "big" and name.split()[0] in WRITES:
                raise PermissionDeniedError("Access denied.", key=asked)

        at.store.before_request = check

    async def before(at: Scene) -> None:
        refuse(at)
        await at.do("chmod", "big", number=0o600)
        await drained(at)
        assert parked(at) == ["big"]
        await at.patch("big", 100, b"ours")
        await at.mount.filesystem.commit_everything()

    async def after(at: Scene) -> None:
        refuse(at)
        await drained(at)
        assert [one.state for one in at.mount.uploader.ledger] == [State.PARKED, State.SENT]
        at.store.write_foreign("big", b"theirs")  # before any of it was read
        found = await at.client.fs.lookup(ROOT, b"big")
        assert found is not None
        handle = await at.client.fs.open(found.ino, os.O_RDONLY)
        with trio.fail_after(5):
            assert await at.client.fs.files.read(handle, 100, 4) == b"ours"
            with pytest.raises(StaleVersionError):
                await at.client.fs.files.read(handle, 60_000, 4)

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


def test_a_loss_does_not_hide_what_was_synced_below_it(tmp_path: Path) -> None:
    """A new file is on its way, synced; a later change of it was not."""

    async def before(at: Scene) -> None:
        hold_up(at, "new")
        await write_synced(at, "new")
        await trio.sleep(3.0)
        await at.patch("new", 3, b"lost")
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        answer_again(at)
        wanted = {"big": BIG, "new": b"synced"}
        assert {name: await shows(at, name) for name in await at.client.names("")} == wanted
        assert await drained(at) == wanted
        assert {name: await shows(at, name) for name in await at.client.names("")} == wanted
        assert parked(at) == ["new"]
        kept = {one.staged.file_id for one in at.mount.journal.load() if one.staged is not None}
        assert {int(path.name, 16) for path in at.mount.staging.path.iterdir()} <= kept
        await at.do("unlink", "new")
        assert await drained(at) == {"big": BIG}
        assert at.mount.journal.load() == []
        assert at.mount.staging.used_bytes == 0

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


async def store_more_than_is_synced(at: Scene) -> None:
    """The store gets all of the file `new`, of which a part had been synced, and nobody here finds out."""
    await at.client.apply(Op("create", "new", slot=1, flags=os.O_RDWR))
    await at.client.apply(Op("write", slot=1, data=b"synced"))
    await at.client.apply(Op("fsync", slot=1))
    await at.client.apply(Op("write", slot=1, offset=6, data=b" and more"))
    await at.client.apply(Op("close", slot=1))

    def away(_name: str, asked: str) -> None:
        if asked == "new":
            raise UnavailableError("Away.", key=asked)

    def lose(name: str, key: str) -> bool:
        if (name, key) != ("PUT", "new"):
            return False
        at.store.before_request = away
        return True

    at.store.lose = lose
    await trio.sleep(2.5)
    assert at.store.objects()["new"] == b"synced and more"


def answer_all_again(at: Scene) -> None:
    """No answer is lost any more either."""
    at.store.lose = lambda _name, _key: False
    answer_again(at)


def test_stored_before_the_power_was_lost_and_looked_up_since(tmp_path: Path) -> None:
    """An inode that a program found has its bytes, or is stale; never is it an empty file."""

    async def after(at: Scene) -> None:
        fs = at.mount.filesystem
        found = await fs.lookup(ROOT, b"new")
        assert found is not None
        handle = await fs.open(found.ino, os.O_RDONLY)
        assert await fs.files.read(handle, 0, 100) == b"synced"
        answer_all_again(at)
        await at.mount.uploader.drain()
        assert await fs.files.read(handle, 0, 100) == b"synced"
        await fs.files.release(handle)
        with pytest.raises(OSError, match="superseded"):
            await fs.open(found.ino, os.O_RDONLY)
        assert await shows(at, "new") == b"synced and more"
        assert await drained(at) == {"big": BIG, "new": b"synced and more"}

    with machine(tmp_path) as one:
        one.live(store_more_than_is_synced)
        one.live(after)


@pytest.mark.parametrize("later", ["rename", "patch"])
def test_stored_before_the_power_was_lost_and_changed_since(tmp_path: Path, later: str) -> None:
    """The store has more than what had been synced; what waits behind that applies to it."""

    async def before(at: Scene) -> None:
        await store_more_than_is_synced(at)
        if later == "rename":
            await at.do("rename", "new", "r4")
        else:
            await at.patch("new", 3, b"lost")
        await at.mount.filesystem.streams.sync()

    async def after(at: Scene) -> None:
        answer_all_again(at)
        name = "r4" if later == "rename" else "new"
        held: list[bytes | None] = []
        for _ in range(20):
            held.append(await shows(at, name))
            await trio.sleep(0.05)
        assert set(held) <= {b"synced", b"synced and more"}
        assert await drained(at) == {"big": BIG, name: b"synced and more"}
        assert await shows(at, name) == b"synced and more"

    with machine(tmp_path) as one:
        one.live(before)
        one.live(after)


def test_synced_while_it_was_refused_and_got_another_name(tmp_path: Path) -> None:
    """Its bytes are another operation's then, whose row tells that they are durable."""

    async def before(at: Scene) -> None:
        hurdle = trio.Event()
        refuse(at, "g")
        await at.client.apply(Op("create", "g", slot=1, flags=os.O_RDWR))
        await at.client.apply(Op("write", slot=1, data=b"synced"))
        await at.client.apply(Op("close", slot=1))
        await at.client.apply(Op("open", "g", slot=1, flags=os.O_RDWR))
        at.store.weather = Weather(latency_s=(0.5, 0.5))
        await trio.sleep(2.01)  # on its way now
        await at.do("rename", "g", "h")
        real = durability._sync_data

        async def slow(work: Callable[..., object], *of_it: object, **how: object) -> object:
            answer = await in_thread(work, *of_it, **how)  # type: ignore[arg-type]  # handed on as it is
            if work is real and not hurdle.is_set():
                hurdle.set()
                await trio.sleep(2.0)
            return answer

        with mock.patch.object(durability, "in_thread", slow):
            await at.client.apply(Op("fsync", slot=1))
        assert hurdle.is_set()
        assert [one.path for one in at.mount.uploader.ledger] == ["h", "g"]

    async def after(at: Scene) -> None:
        assert await shows(at, "h") == b"synced"
        assert (await drained(at))["h"] == b"synced"
        assert parked(at) == []

    with machine(tmp_path) as one:
        one.live(before)
        one.store.weather = FAIR
        one.store.before_request = lambda _name, _key: None
        one.live(after)


def test_what_was_sent_of_bytes_that_were_lost_is_sent_again(tmp_path: Path) -> None:
    """The store gets the content that was synced, and not some parts of what was written over it since."""
    synced, lost = b"1" * len(BIG), b"2" * len(BIG)

    async def before(at: Scene) -> None:
        parts: list[str] = []

        def check(name: str, key: str) -> None:
            parts.extend([key] if name == "PART" else [])
            if len(parts) > 3:
                raise UnavailableError("Away.", key=key)

        at.store.before_request = check
        await at.client.apply(Op("create", "g", slot=1, flags=os.O_RDWR))
        await at.client.apply(Op("write", slot=1, data=synced))
        await at.client.apply(Op("fsync", slot=1))
        await at.client.apply(Op("write", slot=1, data=lost))
        await at.client.apply(Op("close", slot=1))
        await trio.sleep(3.5)
        assert len(at.mount.journal.notes()) == 1

    async def after(at: Scene) -> None:
        assert await shows(at, "g") == synced
        assert await drained(at) == {"big": BIG, "g": synced}
        assert await shows(at, "g") == synced
        assert at.store.pending_uploads() == []

    with machine(tmp_path) as one:
        one.live(before)
        (staged,) = (one.caches.path / "staging").iterdir()
        staged.write_bytes(synced)
        one.store.before_request = lambda _name, _key: None
        one.live(after)
