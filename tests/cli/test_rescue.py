"""Which files a journal says are to be rescued, and what they are made of."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import trio

from objfs.control.rescue import Candidate, find_candidates, prepare_folder, rescue, resolve
from objfs.errors import MountError, StaleVersionError
from objfs.read.reader import BLOCK_BYTES
from objfs.store.values import PutOptions, Version
from objfs.upload.operations import Base, Kind, Operation, State
from objfs_cache.staged import StagedState

if TYPE_CHECKING:
    from pathlib import Path

BASE = Base(version=Version(etag="e", size_bytes=100))


def staged(file_id: int, *extents: tuple[int, int], length: int = 100, torn: bool = False) -> StagedState:
    return StagedState(file_id=file_id, length=length, base_limit=100, extents=extents, torn=torn)


def find(*operations: Operation, everything: bool = False) -> list[Candidate]:
    for seq, operation in enumerate(operations, start=1):
        operation.seq = seq
    return find_candidates([one.record() for one in operations], everything=everything)


def put(path: str, file_id: int = 1, *, parked: bool = False, base: Base = BASE) -> Operation:
    state = State.PARKED if parked else State.WAITING
    content = staged(file_id, (file_id * 10, file_id * 10 + 10))
    error = "403" if parked else ""
    return Operation(kind=Kind.PUT, path=path, base=base, committed=content, state=state, error=error)


def test_only_what_was_refused_or_everything() -> None:
    operations = [put("a"), put("b", parked=True)]
    assert [(one.path, one.error) for one in find(*operations)] == [("b", "403")]
    assert [one.path for one in find(*operations, everything=True)] == ["b", "a"]


def test_a_file_follows_its_renames() -> None:
    (one,) = find(
        put("d/a", parked=True),
        Operation(kind=Kind.RENAME, source="d/a", path="d/b"),
        Operation(kind=Kind.RENAME_TREE, source="d", path="e/f", directory=True),
        Operation(kind=Kind.SET, path="e/f/b", options=PutOptions(metadata={"mode": "33152"})),
        Operation(kind=Kind.RENAME, source="somebody's", path="other"),
    )
    assert (one.path, one.base_key, one.refused) == ("e/f/b", "d/a", True)
    assert one.options.metadata["mode"] == "33152"


def test_what_was_deleted_is_not_copied() -> None:
    assert find(put("a", parked=True), Operation(kind=Kind.DELETE, path="a"), everything=True) == []


def test_what_was_replaced_by_a_stored_file_is_not_copied() -> None:
    replaced = [put("a", 1), Operation(kind=Kind.RENAME, source="stored", path="a")]
    assert find(*replaced, everything=True) == []
    (one,) = find(*replaced, put("a", 2), everything=True)
    assert [layer.file_id for layer in one.layers] == [2]


MOVES = {
    "file": Operation(kind=Kind.RENAME, source="old/f", path="new/f", state=State.PARKED, error="403"),
    "tree": Operation(
        kind=Kind.RENAME_TREE, source="old", path="new", directory=True, state=State.PARKED, error="403"
    ),
}


@pytest.mark.parametrize("moved", MOVES)
def test_what_waits_for_a_refused_move_is_refused_and_its_base_is_where_it_was(moved: str) -> None:
    (one,) = find(MOVES[moved], put("new/f"), put("other"))
    assert (one.path, one.error, one.base_key, one.base) == ("new/f", "403", "old/f", BASE.version)


def test_what_waits_for_refused_attributes_is_refused() -> None:
    refused = Operation(kind=Kind.SET, path="a", state=State.PARKED, error="403")
    (one,) = find(refused, put("a"))
    assert (one.path, one.error) == ("a", "403")


def test_later_writes_lie_over_earlier_ones() -> None:
    (one,) = find(put("a", 1, parked=True), put("a", 2))
    assert [layer.file_id for layer in one.layers] == [2, 1]
    pieces = [(a, b, layer and layer.file_id) for a, b, layer in resolve(one.layers, 50, 0, 100)]
    assert pieces == [(0, 10, None), (10, 20, 1), (20, 30, 2), (30, 50, None)]


async def _no_base(_one: Candidate, _start: int, _stop: int) -> bytes:
    raise MountError("away")


def _rescue(candidates: list[Candidate], tmp_path: Path) -> dict[str, dict[str, object]]:
    folder = tmp_path / "out"
    trio.run(rescue, candidates, tmp_path, folder, _no_base)
    lines = (folder / "objfs-rescue.jsonl").read_text().splitlines()
    return {str(value["path"]): value for value in map(json.loads, lines)}


def test_no_copy_leaves_its_folder(tmp_path: Path) -> None:
    link = Candidate(path="d", options=PutOptions(metadata={"mode": "41471"}), body=b"/tmp")
    inside = Candidate(path="d/x", options=PutOptions(), layers=[staged(1, length=0)])
    outside = Candidate(path="../x", options=PutOptions(), layers=[staged(1, length=0)])
    found = _rescue([link, inside, outside], tmp_path)
    assert found["d/x"]["complete"]
    assert not found["d"]["complete"]
    assert not found["../x"]["complete"]
    assert not (tmp_path / "x").exists()


def test_what_is_missing_or_torn_is_told(tmp_path: Path) -> None:
    (tmp_path / f"{1:016x}").write_bytes(b"x" * 100)
    torn = Candidate(path="torn", options=PutOptions(), layers=[staged(1, (0, 100), torn=True)])
    lost = Candidate(path="lost", options=PutOptions(), layers=[staged(2, (0, 100))])
    hole = Candidate(path="hole", options=PutOptions(), layers=[staged(1, (0, 40))], base=BASE.version)
    found = _rescue([torn, lost, hole], tmp_path)
    assert "power loss" in str(found["torn"]["note"])
    assert found["lost"]["missing"] == [[0, 100]]
    assert found["hole"]["missing"] == [[40, 100]]
    assert (tmp_path / "out" / "hole").read_bytes() == b"x" * 40 + bytes(60)


def test_a_disk_that_becomes_full_is_told(tmp_path: Path) -> None:
    """It takes the first bytes of a write, and refuses only the next."""
    (tmp_path / f"{1:016x}").write_bytes(b"x" * 100)
    whole = Candidate(path="whole", options=PutOptions(), layers=[staged(1, (0, 100))])
    room, pwrite = 60, os.pwrite

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= room:
            raise OSError(errno.ENOSPC, "no space left on device")
        return pwrite(descriptor, data[: room - offset], offset)

    with mock.patch.object(os, "pwrite", write):
        found = _rescue([whole], tmp_path)
    assert not found["whole"]["complete"]
    assert "no space left" in str(found["whole"]["note"])


def test_what_one_block_lacks_costs_no_other(tmp_path: Path) -> None:
    """The cache may have one block of a version that is gone and not the next."""
    size = 4 * BLOCK_BYTES
    gone = range(BLOCK_BYTES, 2 * BLOCK_BYTES)
    (tmp_path / f"{1:016x}").write_bytes(b"ours")
    state = StagedState(file_id=1, length=size, base_limit=size, extents=((0, 4),))
    base = Version(etag="e", size_bytes=size)
    one = Candidate(path="f", options=PutOptions(), layers=[state], base=base)

    async def read_base(_one: Candidate, start: int, stop: int) -> bytes:
        if start < gone.stop and stop > gone.start:
            raise StaleVersionError("It was replaced.")
        return b"b" * (stop - start)

    trio.run(rescue, [one], tmp_path, tmp_path / "out", read_base)
    wanted = bytearray(b"ours".ljust(size, b"b"))
    wanted[gone.start : gone.stop] = bytes(len(gone))
    assert (tmp_path / "out" / "f").read_bytes() == wanted


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(MountError, match="is not empty"):
        prepare_folder(tmp_path)
