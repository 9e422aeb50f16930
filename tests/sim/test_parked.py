"""The store refuses a name: its data is kept and told, and no longer than somebody wants it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import trio

from objfs.errors import NotFoundError, PermissionDeniedError, UnavailableError
from objfs.upload.operations import ROOT_MARKER_KEY, State
from objfs_cache.journal import Journal, JournalError
from tests.sim.model import Op
from tests.sim.store import FAIR, Weather
from tests.sim.test_conflicts import Scene, play

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from objfs_cache.journal import Record

SLOW = Weather(latency_s=(0.5, 1.0))
LARGE = bytes(range(256)) * 400  # several parts, in the small world


def refuse(at: Scene, key: str) -> Callable[[], None]:
    """Refuse writes of a key; returns what ends that."""

    def check(name: str, asked: str) -> None:
        if asked == key and name.split()[0] in ("PUT", "COPY", "CREATE", "COMPLETE"):
            raise PermissionDeniedError("Access denied.", key=key)

    def relent() -> None:
        at.store.before_request = lambda _name, _key: None

    at.store.before_request = check
    return relent


async def parked(at: Scene) -> list[str]:
    await at.mount.uploader.drain()
    return [one.path for one in at.mount.uploader.status().parked]


@pytest.mark.parametrize("data", [b"ours", LARGE])
def test_removed_by_the_user(tmp_path: Path, data: bytes) -> None:
    async def scene(at: Scene) -> None:
        refuse(at, "g")
        await at.write("g", data, new=True)
        assert await parked(at) == ["g"]
        await at.do("unlink", "g")
        assert await at.settle() == {"f": b"theirs 0"}
        assert await parked(at) == []
        assert at.mount.staging.used_bytes == 0

    play(tmp_path, scene)


@pytest.mark.parametrize("data", [b"ours", LARGE])
def test_overwritten(tmp_path: Path, data: bytes) -> None:
    async def scene(at: Scene) -> None:
        relent = refuse(at, "f")
        await at.write("f", data)
        assert await parked(at) == ["f"]
        relent()
        await at.write("f", b"ours 2")
        assert await at.settle() == {"f": b"ours 2"}
        assert at.mount.staging.used_bytes == 0

    play(tmp_path, scene)


@pytest.mark.parametrize("data", [b"ours", LARGE])
def test_renamed(tmp_path: Path, data: bytes) -> None:
    async def scene(at: Scene) -> None:
        refuse(at, "g")
        await at.write("g", data, new=True)
        assert await parked(at) == ["g"]
        await at.do("rename", "g", "h")
        assert (await at.client.entry("h"))[2] == data
        assert await at.settle() == {"f": b"theirs 0", "h": data}
        assert await parked(at) == []

    play(tmp_path, scene)


def test_its_directory_is_renamed(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("mkdir", "d")
        await at.write("d/other", b"other", new=True)
        await at.settle()
        refuse(at, "d/g")
        await at.write("d/g", b"ours", new=True)
        assert await parked(at) == ["d/g"]
        await at.do("rename", "d", "e")
        assert await at.settle() == {"f": b"theirs 0", "e/": b"", "e/other": b"other", "e/g": b"ours"}
        assert (await at.client.entry("e/g"))[2] == b"ours"

    play(tmp_path, scene)


def test_renamed_and_changed_before_the_refusal(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        refuse(at, "g")
        at.store.weather = SLOW
        await at.write("g", b"ours", new=True)
        await trio.sleep(2.01)  # on its way now
        await at.do("rename", "g", "h")
        await at.do("chmod", "h", number=0o600)
        assert await at.settle() == {"f": b"theirs 0", "h": b"ours"}
        assert await parked(at) == []
        assert (await at.client.entry("h"))[1] == 0o600

    play(tmp_path, scene)


@pytest.mark.parametrize("overwritten", [False, True])
def test_a_refusal_after_a_lost_answer(tmp_path: Path, overwritten: bool) -> None:
    """The store has it, says no later, and the user removes it: it goes from the store too."""

    async def scene(at: Scene) -> None:
        requests: list[str] = []

        def check(name: str, key: str) -> None:
            if name == "PUT" and key == "g":
                requests.append(name)
            if key == "g" and ((name == "HEAD" and requests) or len(requests) > 1):
                raise PermissionDeniedError("Access denied.", key=key)

        at.store.before_request = check
        at.store.lose = lambda name, key: (name, key) == ("PUT", "g")
        await at.write("g", b"ours", new=True)
        assert await parked(at) == ["g"]
        assert at.store.objects()["g"] == b"ours"
        at.store.before_request = lambda _name, _key: None
        if overwritten:
            await at.write("g", b"ours 2")
        await at.do("unlink", "g")
        assert await at.settle() == {"f": b"theirs 0"}

    play(tmp_path, scene)


def refuse_again(at: Scene, refused: str) -> None:
    """Requests of a name are refused from the second one on."""
    requests: list[str] = []

    def check(name: str, key: str) -> None:
        if name == refused:
            requests.append(name)
            if len(requests) > 1:
                raise PermissionDeniedError("Access denied.", key=key)

    at.store.before_request = check


def test_a_rename_that_took_effect_before_the_refusal(tmp_path: Path) -> None:
    """Both answers are lost, and the store says no then: the file is done, and can be read."""

    async def scene(at: Scene) -> None:
        refuse_again(at, "COPY f to")
        at.store.weather = Weather(attempts=1)
        at.store.lose = lambda name, _key: name == "DELETE"
        await at.do("rename", "f", "g")
        assert await parked(at) == []
        assert (await at.client.entry("g"))[2] == b"theirs 0"
        assert await at.settle() == {"g": b"theirs 0"}

    play(tmp_path, scene)


def test_attributes_that_took_effect_before_the_refusal(tmp_path: Path) -> None:
    """The object is another version by that, which is read."""

    async def scene(at: Scene) -> None:
        refuse_again(at, "COPY f to")
        at.store.lose = lambda name, _key: name == "COPY f to"
        await at.do("chmod", "f", number=0o600)
        assert await parked(at) == []
        assert (await at.client.entry("f"))[1:3] == (0o600, b"theirs 0")

    play(tmp_path, scene)


async def write_refused(at: Scene, name: str, *, is_parked: bool) -> None:
    """Write a file whose upload is on its way, to be refused soon, or is refused already."""
    at.store.weather = SLOW
    await at.write(name, b"ours", new=True)
    await trio.sleep(2.01)
    if is_parked:
        assert await parked(at) == [name]


@pytest.mark.parametrize("is_parked", [False, True])
def test_renamed_and_overwritten(tmp_path: Path, is_parked: bool) -> None:
    async def scene(at: Scene) -> None:
        refuse(at, "g")
        await write_refused(at, "g", is_parked=is_parked)
        await at.do("rename", "g", "h")
        await at.write("h", b"ours 2")
        assert await at.settle() == {"f": b"theirs 0", "h": b"ours 2"}
        assert at.mount.staging.used_bytes == 0

    play(tmp_path, scene)


@pytest.mark.parametrize("is_parked", [False, True])
def test_renamed_and_made_anew(tmp_path: Path, is_parked: bool) -> None:
    """The refused name is free for others, which are refused by themselves."""

    async def scene(at: Scene) -> None:
        relent = refuse(at, "g")
        await write_refused(at, "g", is_parked=is_parked)
        await at.do("rename", "g", "h")
        await at.write("g", b"ours 2", new=True)
        await at.do("rename", "h", "i")
        await at.write("h", b"ours 3", new=True)
        assert await parked(at) == ["g"]
        assert at.store.objects() == {"f": b"theirs 0", "i": b"ours", "h": b"ours 3"}
        relent()
        assert at.mount.uploader.ledger.unpark() == 1
        wanted = {"f": b"theirs 0", "i": b"ours", "h": b"ours 3", "g": b"ours 2"}
        assert await at.settle() == wanted
        assert {name: (await at.client.entry(name))[2] for name in wanted} == wanted

    play(tmp_path, scene)


def test_renamed_and_made_anew_after_a_lost_answer(tmp_path: Path) -> None:
    """The store has the first one all the same: it is nobody else's."""

    async def scene(at: Scene) -> None:
        def check(name: str, key: str) -> None:
            if key == "g" and key in at.store.objects() and trio.current_time() < 20.0:
                raise PermissionDeniedError("Access denied.", key=key)

        at.store.before_request = check
        at.store.lose = lambda name, key: (name, key) == ("PUT", "g") and trio.current_time() < 20.0
        await at.write("g", b"ours", new=True)
        await trio.sleep(2.01)
        await at.do("rename", "g", "h")
        await at.write("g", b"ours 2", new=True)
        await trio.sleep(20.0)
        assert at.store.objects() == {"f": b"theirs 0", "g": b"ours", "h": b"ours"}
        at.mount.uploader.ledger.unpark()
        assert await at.settle() == {"f": b"theirs 0", "h": b"ours", "g": b"ours 2"}

    play(tmp_path, scene)


def test_a_refused_rename_out_of_a_directory_does_not_keep_that_where_it_is(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("mkdir", "d")
        await at.write("d/g", b"ours", new=True)
        await at.settle()
        relent = refuse(at, "h")
        await at.do("rename", "d/g", "h")
        assert await parked(at) == ["h"]
        await at.do("rename", "d", "e")
        await at.write("e/new", b"new", new=True)
        assert await parked(at) == ["h"]
        assert at.store.objects() == {"f": b"theirs 0", "e/": b"", "e/g": b"ours", "e/new": b"new"}
        await trio.sleep(10.0)
        assert await at.client.names("e") == ["new"]
        assert (await at.client.entry("h"))[2] == b"ours"
        relent()
        assert at.mount.uploader.ledger.unpark() == 1
        assert await at.settle() == {"f": b"theirs 0", "e/": b"", "e/new": b"new", "h": b"ours"}

    play(tmp_path, scene)


def test_a_refused_rename_into_a_directory_goes_along_with_that(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        await at.do("mkdir", "d")
        await at.settle()
        refuse(at, "d/f")
        await at.do("rename", "f", "d/f")
        assert await parked(at) == ["d/f"]
        await at.do("rename", "d", "e")
        await at.write("e/new", b"new", new=True)
        assert await at.settle() == {"e/": b"", "e/new": b"new", "e/f": b"theirs 0"}
        assert (await at.client.entry("e/f"))[2] == b"theirs 0"

    play(tmp_path, scene)


def test_a_journal_that_fails_while_a_directory_moves_parks_nothing(tmp_path: Path) -> None:
    """Its large objects are copied in parts, side by side, each of which is noted before."""

    async def scene(at: Scene) -> None:
        await at.do("mkdir", "d")
        await at.write("d/g", LARGE, new=True)
        await at.settle()
        at.store.copy_limit(len(LARGE) // 2)
        with mock.patch.object(Journal, "add_note", side_effect=JournalError("The disk fails.")):
            await at.do("rename", "d", "e")
            await trio.sleep(10.0)
        assert await at.settle() == {"f": b"theirs 0", "e/": b"", "e/g": LARGE}

    play(tmp_path, scene)


def test_attributes_of_the_root_hold_nothing_back(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        refuse(at, ROOT_MARKER_KEY)
        await at.do("chmod", "", number=0o700)
        assert await parked(at) == [""]
        await at.do("rename", "f", "g")
        await at.mount.uploader.drain()
        assert at.store.objects() == {"g": b"theirs 0"}
        await at.do("unlink", "g")
        await at.mount.uploader.drain()
        assert at.store.objects() == {}

    play(tmp_path, scene)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_directory_whose_marker_is_refused_holds_nothing_back_below(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    async def scene(at: Scene) -> None:
        refuse(at, "d/")
        await at.do("mkdir", "d")
        await at.do("mkdir", "d/s")
        for name in "abc":
            await at.write(f"d/{name}", name.encode(), new=True)
        if when == "before":
            assert await parked(at) == ["d"]
        else:
            await trio.sleep(0.1)
        await at.do("unlink", "d/a")
        await at.do("rename", "d/b", "d/e")
        await at.do("rename", "d/s", "d/t")
        await at.do("chmod", "d", number=0o700)
        await at.do("rename", "d/c", "d/s")
        assert await parked(at) == ["d"]
        assert [one.kind for one in at.mount.uploader.status().parked] == ["directory"]
        told = await at.mount.filesystem.inspection.inspect("d")
        assert told is not None
        assert told.changes == ("directory",)
        assert at.store.objects() == {"f": b"theirs 0", "d/e": b"b", "d/s": b"c", "d/t/": b""}
        await at.do("rename", "d", "e")
        assert await at.settle() == {"f": b"theirs 0", "e/": b"", "e/e": b"b", "e/s": b"c", "e/t/": b""}

    with caplog.at_level("INFO"):
        play(tmp_path, scene)
    assert "directory 'd' is refused" in caplog.text
    assert "marker" not in caplog.text  # users do not know the word


def test_the_rest_goes_on(tmp_path: Path) -> None:
    async def scene(at: Scene) -> None:
        refuse(at, "g")
        await at.write("g", b"ours", new=True)
        await at.write("h", b"more", new=True)
        await at.do("rename", "f", "i")
        await at.mount.uploader.drain()
        assert at.store.objects() == {"h": b"more", "i": b"theirs 0"}
        (one,) = at.mount.uploader.status().parked
        assert (one.path, one.size_bytes) == ("g", 4)
        assert at.mount.uploader.ledger.unpark() == 1
        await at.mount.uploader.drain()
        assert await parked(at) == ["g"]

    play(tmp_path, scene)


def test_a_part_is_written_while_it_is_refused(tmp_path: Path) -> None:
    """Its content goes out with the new mode then, and the part is a change of that."""

    async def scene(at: Scene) -> None:
        relent = refuse(at, "g")
        at.store.weather = Weather(latency_s=(1.0, 1.0))
        await at.write("g", LARGE, new=True)
        await trio.sleep(2.5)  # on its way now
        await at.do("chmod", "g", number=0o600)
        await at.client.apply(Op("open", "g", slot=2, flags=os.O_RDWR))
        await trio.sleep(5.1 - trio.current_time())  # what is written now is not journaled for a while
        await at.client.apply(Op("write", slot=2, offset=10, data=b"part"))
        await trio.sleep(3.0)
        assert [one.state for one in at.mount.uploader.ledger] == [State.WAITING]
        relent()
        await at.client.apply(Op("close", slot=2))
        wanted = LARGE[:10] + b"part" + LARGE[14:]
        assert (await at.client.entry("g"))[1:3] == (0o600, wanted)
        assert await at.settle() == {"f": b"theirs 0", "g": wanted}
        assert at.mount.staging.used_bytes == 0

    play(tmp_path, scene)


def test_a_name_that_cannot_be_asked_for_holds_no_other_removal_back(tmp_path: Path) -> None:
    """They go in one request, before which the store is asked whether they are still the same."""

    async def scene(at: Scene) -> None:
        for name in "abcg":
            await at.write(name, name.encode(), new=True)
        await at.settle()

        def check(name: str, asked: str) -> None:
            if (name, asked) == ("HEAD", "b"):
                raise PermissionDeniedError("Access denied.", key=asked)

        at.store.before_request = check
        for name in "abcg":
            await at.do("unlink", name)
        assert await parked(at) == ["b"]
        assert at.store.objects() == {"f": b"theirs 0", "b": b"b"}

    play(tmp_path, scene)


def test_a_removal_that_came_to_nothing_is_over_whatever_becomes_of_others(tmp_path: Path) -> None:
    """Somebody else replaced the one, and the store does not tell then whose the other is."""

    async def scene(at: Scene) -> None:
        refuse(at, "g")
        await at.write("g", b"ours", new=True)
        assert await parked(at) == ["g"]
        await at.do("unlink", "f")
        await at.do("unlink", "g")
        theirs = {"f": b"theirs 1", "g": b"theirs"}
        for key, data in theirs.items():
            at.store.write_foreign(key, data)
        asked: list[str] = []

        def check(_name: str, key: str) -> None:
            asked.append(key)
            if key == "g" and asked.count(key) > 1:
                raise PermissionDeniedError("Access denied.", key=key)

        at.store.before_request = check
        assert await parked(at) == ["g"]
        assert [one.path for one in at.mount.journal.load()] == ["g"]
        assert at.store.objects() == theirs

    play(tmp_path, scene)


def test_what_waited_for_the_store_is_not_hopeless_for_that(tmp_path: Path) -> None:
    """The upload that it had begun before it went away is gone when it is back."""

    async def scene(at: Scene) -> None:
        back_at = 300.0

        def check(name: str, key: str) -> None:
            if key != "g" or name == "CREATE":
                return
            if trio.current_time() < back_at:
                raise UnavailableError("Away.", key=key)
            if name == "PART" and trio.current_time() < back_at + 30:
                raise NotFoundError("There is no such upload.", key=key)

        at.store.before_request = check
        await at.write("g", LARGE, new=True)
        assert await at.settle() == {"f": b"theirs 0", "g": LARGE}
        assert trio.current_time() > back_at

    play(tmp_path, scene)


@pytest.mark.parametrize("stored", [False, True])
def test_a_directory_is_not_renamed_where_what_is_in_it_could_not_be_stored(
    tmp_path: Path, stored: bool
) -> None:
    """Keys have 1024 bytes; the directory's own would do."""

    async def scene(at: Scene) -> None:
        name = "n" * 240
        for path in (name, "d", f"d/{name}", f"d/{name}/{name}", f"d/{name}/{name}/{name}"):
            await at.do("mkdir", path)
        await at.write(f"d/{name}/{name}/{name}/{name}", b"ours", new=True)
        if stored:
            await at.mount.uploader.drain()
        with pytest.raises(OSError, match="longer") as refused:
            await at.do("rename", "d", f"{name}/d{name}")
        assert refused.value.errno == errno.ENAMETOOLONG
        await at.do("rename", "d", "e")
        assert await parked(at) == []
        assert at.store.objects()[f"e/{name}/{name}/{name}/{name}"] == b"ours"

    play(tmp_path, scene)


@pytest.mark.parametrize("then", ["renamed", "replaced"])
def test_renamed_before_the_refusal_and_its_directory_too(tmp_path: Path, then: str) -> None:
    """The old object goes from where it was, before that is somewhere else or something else is there."""

    async def scene(at: Scene) -> None:
        await at.do("mkdir", "d")
        await at.do("mkdir", "k")
        await at.write("d/g", b"old", new=True)
        await at.write("k/g", b"another", new=True)
        await at.settle()
        refuse(at, "d/g")
        at.store.weather = Weather(latency_s=(2.0, 2.0))
        await at.write("d/g", b"ours")
        await trio.sleep(2.01)  # on its way now
        at.store.weather = FAIR
        await at.do("rename", "d/g", "h")
        if then == "renamed":
            await at.do("rename", "d", "e")
            left = {"e/": b"", "k/": b"", "k/g": b"another"}
        else:
            await at.do("rmdir", "d")
            await at.do("rename", "k", "d")
            left = {"d/": b"", "d/g": b"another"}
        await trio.sleep(2.0)
        at.store.before_request = lambda _name, _key: None
        assert await at.settle() == {"f": b"theirs 0", "h": b"ours", **left}
        assert at.store.objects().keys() == {"f", "h", *left}
        if then == "renamed":
            assert await at.client.names("e") == []

    play(tmp_path, scene)


def test_a_refusal_that_the_journal_does_not_take_comes_again(tmp_path: Path) -> None:
    """Neither parking nor trying again leaves what is refused where nobody looks at it any more."""

    async def scene(at: Scene) -> None:
        relent = refuse(at, "g")
        full = mock.patch.object(Journal, "write", side_effect=JournalError("The disk is full."))
        await at.write("g", b"ours", new=True)
        with full:
            await trio.sleep(3.0)
        assert await parked(at) == ["g"]
        relent()
        with full, pytest.raises(JournalError):
            at.mount.uploader.ledger.unpark()
        assert at.mount.uploader.ledger.unpark() == 1
        assert await at.settle() == {"f": b"theirs 0", "g": b"ours"}

    play(tmp_path, scene)


@pytest.mark.parametrize("what", ["removed", "overwritten", "renamed"])
def test_what_follows_a_refusal_takes_its_place_when_the_journal_does(tmp_path: Path, what: str) -> None:
    """It has to be written that what comes later takes the place of what is refused."""
    write = Journal.write
    records: list[Record] = []
    failed: list[Record] = []

    def write_but_once(journal: Journal, record: Record) -> None:
        if records and not failed:
            failed.append(record)
            raise JournalError("The disk is full.")
        records.append(record)
        write(journal, record)

    async def scene(at: Scene) -> None:
        refuse(at, "g")
        at.store.weather = SLOW
        await at.write("g", b"ours", new=True)
        await trio.sleep(2.01)  # on its way now
        if what == "removed":
            await at.do("unlink", "g")
        elif what == "overwritten":
            await at.write("g", b"ours 2")
        else:
            await at.do("rename", "g", "h")
        with mock.patch.object(Journal, "write", write_but_once):
            await trio.sleep(1.5)
        assert failed
        at.store.before_request = lambda _name, _key: None
        wanted = {"removed": {}, "overwritten": {"g": b"ours 2"}, "renamed": {"h": b"ours"}}[what]
        assert await at.settle() == {"f": b"theirs 0", **wanted}
        assert await parked(at) == []

    play(tmp_path, scene)
