"""Copies on a condition where the store's COPY knows none: nobody's object is replaced, nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from objfs.store.values import KIB, PutOptions
from tests.sim.store import Weather
from tests.sim.test_conflicts import Scene, play
from tests.sim.test_uploads import Once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TREATED = PutOptions(
    metadata={"kind": "foreign"},
    content_type="text/x-objfs",
    cache_control="no-store",
    storage_class="REDUCED_REDUNDANCY",
    tags={"team": "storage"},
    headers={"content-disposition": "inline", "content-language": "fr"},
)
SIZES = {"empty": 0, "small": 1000, "large": 40 * KIB}
size = pytest.mark.parametrize("ours", [b"o" * length for length in SIZES.values()], ids=[*SIZES])


class Between:
    """Does something before the last request of the first copy."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act: Callable[[], None] | None = act
        self.requests: list[str] = []

    def __call__(self, name: str, key: str) -> None:
        self.requests.append(name)
        if name in ("PUT", "COMPLETE") and not key.startswith(".objfs") and self._act is not None:
            act, self._act = self._act, None
            act()

    @property
    def has_acted(self) -> bool:
        return self._act is None


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [("g", "g", "f"), ("g", "g", "h"), ("d/a", "d", "e")],
    ids=["over an object", "to a free name", "directory"],
)
@size
def test_a_rename_to_a_name_that_somebody_takes(
    tmp_path: Path, ours: bytes, key: str, old: str, new: str
) -> None:
    taken = new + key.removeprefix(old)

    async def scene(at: Scene) -> None:
        at.store.memory.put(key, ours)
        await at.do("rename", old, new)
        at.store.before_request = between = Between(lambda: at.store.write_foreign(taken, b"theirs 1"))
        assert await at.settle() == {"f": b"theirs 0", taken: b"theirs 1", f"{taken}.conflict": ours}
        assert between.has_acted
        assert at.mount.uploader.status().conflicts == 1
        assert at.store.pending_uploads() == []
        assert at.mount.journal.notes() == {}

    play(tmp_path, scene, copy_conditions=False)


@size
def test_attributes_of_an_object_that_somebody_replaces(tmp_path: Path, ours: bytes) -> None:
    async def scene(at: Scene) -> None:
        at.store.memory.put("g", ours)
        await at.do("chmod", "g", number=0o600)
        at.store.before_request = between = Between(lambda: at.store.write_foreign("g", b"theirs 1"))
        assert await at.settle() == {"f": b"theirs 0", "g": b"theirs 1"}
        assert between.has_acted
        assert not at.store.memory.head("g").metadata
        assert at.store.pending_uploads() == []

    play(tmp_path, scene, copy_conditions=False)


@pytest.mark.parametrize("work", ["rename", "rename over", "directory", "attributes"])
@size
def test_it_is_stored_as_before(tmp_path: Path, ours: bytes, work: str) -> None:
    async def scene(at: Scene) -> None:
        at.store.memory.put("d/a.txt", ours, options=TREATED)
        before = at.store.memory.head("d/a.txt")
        match work:
            case "rename" | "rename over":
                key = "g" if work == "rename" else "f"
                await at.do("rename", "d/a.txt", key)
            case "directory":
                key = "e/a.txt"
                await at.do("rename", "d", "e")
            case _:
                key = "d/a.txt"
                await at.do("chmod", key, number=0o600)
        assert (await at.settle())[key] == ours
        info = at.store.memory.head(key)
        assert (info.metadata or {})["kind"] == "foreign"
        assert at.store.memory.tags.read(key) == TREATED.tags
        told = replace(info, key=before.key, version=before.version, modified_ns=0, metadata=None)
        assert told == replace(before, modified_ns=0, metadata=None)

    play(tmp_path, scene, copy_conditions=False)


@pytest.mark.parametrize("attempts", [1, 4])
@pytest.mark.parametrize(
    "name", ["GET", "HEAD", "PUT", "CREATE", "COPYPART f to", "COMPLETE", "GETTAGS", "UPLOADS"]
)
@pytest.mark.parametrize("work", ["rename", "attributes", "directory"])
@size
def test_lost_answers(tmp_path: Path, ours: bytes, work: str, name: str, attempts: int) -> None:
    async def scene(at: Scene) -> None:
        at.store.memory.delete(["f"])
        old, key = {"rename": ("f", "g"), "attributes": ("f", "f"), "directory": ("d/f", "e/f")}[work]
        at.store.memory.put(old, ours, options=TREATED)
        if work == "attributes":
            await at.do("chmod", "f", number=0o600)
        else:
            await at.do("rename", old.partition("/")[0], key.partition("/")[0])
        at.store.lose = Once(name.replace("f to", f"{old} to"), times=2)
        assert await at.settle() == {key: ours}
        assert at.mount.uploader.status().conflicts == 0
        assert at.store.memory.tags.read(key) == TREATED.tags
        assert at.store.pending_uploads() == []
        assert at.mount.journal.notes() == {}

    for content_etags in (False, True):
        folder = tmp_path / str(content_etags)
        folder.mkdir()
        play(
            folder,
            scene,
            copy_conditions=False,
            content_etags=content_etags,
            weather=Weather(attempts=attempts),
        )


@pytest.mark.parametrize("work", ["rename", "attributes"])
def test_an_upload_that_somebody_gives_up(tmp_path: Path, work: str) -> None:
    async def scene(at: Scene) -> None:
        ours = b"o" * SIZES["large"]
        at.store.memory.put("g", ours)

        def give_up() -> None:
            (upload,) = at.store.pending_uploads()
            at.store.memory.multipart.abort(upload.key, upload.upload_id)

        if work == "rename":
            await at.do("rename", "g", "f")
        else:
            await at.do("chmod", "g", number=0o600)
        at.store.before_request = between = Between(give_up)
        key = "f" if work == "rename" else "g"
        assert (await at.settle())[key] == ours
        assert between.has_acted
        assert work == "rename" or (at.store.memory.head(key).metadata or {})["mode"] == str(0o100600)

    play(tmp_path, scene, copy_conditions=False)


def test_copies_in_a_moved_directory_are_known_again(tmp_path: Path) -> None:
    """Those of objects that others stored, whose ETags are others then: nobody reads all of both."""

    async def scene(at: Scene) -> None:
        ours = b"o" * SIZES["large"]
        at.store.memory.put("d/a", ours)
        await at.do("rename", "d", "e")
        at.store.before_request = between = Between(lambda: None)
        at.store.lose = Once("COMPLETE")
        assert await at.settle() == {"f": b"theirs 0", "e/a": ours}
        assert "GET" not in between.requests

    play(tmp_path, scene, copy_conditions=False, weather=Weather(attempts=1))


def test_metadata_that_no_request_may_have(tmp_path: Path) -> None:
    """Others' servers may hold such; a COPY keeps it."""

    async def scene(at: Scene) -> None:
        at.store.memory.put("d/a", b"ours")
        found = at.store.memory._objects["d/a"]
        info = replace(found.info, metadata={"kind": "déjà vu"})
        at.store.memory._objects["d/a"] = replace(found, info=info)
        await at.do("rename", "d", "e")
        requests: list[str] = []
        at.store.before_request = lambda name, _key: requests.append(name)
        await at.mount.uploader.drain()
        assert "COPY d/a to" in requests

    play(tmp_path, scene, copy_conditions=False)
