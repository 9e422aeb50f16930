"""The rows: what is done on a fresh mount, timed, and checked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.bench.bucket import Bucket
    from tests.bench.data import Contents, Inputs, Sizes
    from tests.bench.mounting import Mount, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure.

    Attributes:
        seconds: until the program had its answer.
        stored_s: until the bucket had it, from the same start; None for rows that only read.
        cpu_s: of the daemon, meanwhile.
    """

    seconds: float
    stored_s: float | None = None
    cpu_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a row works with: a bucket, and fresh mounts of it."""

    bucket: Bucket
    inputs: Inputs
    mount: Callable[[], AbstractContextManager[Mount]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; `label` is made of the sizes."""

    name: str
    label: Callable[[Sizes], str]
    run: Callable[[Cell], Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows on one bucket, in this order. `shared`: nobody changes it, so all tools use the same."""

    rows: tuple[Row, ...]
    shared: bool = False


class _Meter:
    """The daemon's use between its making and `measured`."""

    def __init__(self, mount: Mount) -> None:
        self._mount = mount
        self._begin = mount.usage()
        self.begin_s = time.monotonic()

    def measured(self, seconds: float, *, stored: bool = False) -> Measured:
        """The figure; `stored`: the bucket has just been found to hold it."""
        elapsed_s = time.monotonic() - self.begin_s
        now: Usage = self._mount.usage()
        return Measured(
            seconds=seconds,
            stored_s=max(elapsed_s, seconds) if stored else None,
            cpu_s=now.cpu_s - self._begin.cpu_s,
            peak_rss_bytes=now.peak_rss_bytes,
        )


def _write_big(cell: Cell) -> Measured:
    with cell.mount() as mount:
        meter = _Meter(mount)
        seconds, _text = mount.run("dd", f"if={cell.inputs.big_file}", f"of={mount.path / 'big'}", "bs=1M")
        measured = _stored(cell, mount, meter, seconds, cell.inputs.big)
    cell.bucket.verify(cell.inputs.big)
    return measured


def _read_big(cell: Cell) -> Measured:
    cell.bucket.ensure(cell.inputs.big)
    with cell.mount() as mount:
        meter = _Meter(mount)
        read = mount.step("read-big", mount.path / "big")
        measured = meter.measured(read["seconds"])
    _check_digests(read["digests"], cell.inputs.big)
    return measured


def _write_small(cell: Cell) -> Measured:
    with cell.mount() as mount:
        meter = _Meter(mount)
        written = mount.step("write-small", cell.inputs.small_dir, mount.path / "small")
        measured = _stored(cell, mount, meter, written["seconds"], cell.inputs.small)
    cell.bucket.verify(cell.inputs.small)
    return measured


def _read_small(cell: Cell) -> Measured:
    cell.bucket.ensure(cell.inputs.small)
    with cell.mount() as mount:
        meter = _Meter(mount)
        read = mount.step("read-small", mount.path / "small")
        measured = meter.measured(read["seconds"])
    _check_digests(read["digests"], cell.inputs.small)
    return measured


def _list(cell: Cell) -> Measured:
    cell.bucket.ensure(cell.inputs.listed)
    with cell.mount() as mount:
        meter = _Meter(mount)
        seconds, text = mount.run("ls", "-l", mount.path / "list")
        measured = meter.measured(seconds)
    found = {f"list/{words[-1]}": int(words[4]) for words in map(str.split, text.splitlines()[1:])}
    if found != {key: content.size_bytes for key, content in cell.inputs.listed.items()}:
        raise BenchError(f"ls -l shows {len(found)} files of {len(cell.inputs.listed)}, or other sizes")
    return measured


def _find(cell: Cell) -> Measured:
    cell.bucket.ensure(cell.inputs.walked)
    with cell.mount() as mount:
        meter = _Meter(mount)
        seconds, text = mount.run("find", mount.path / "walk")
        measured = meter.measured(seconds)
    found = {line.removeprefix(f"{mount.path}/") for line in text.splitlines()}
    expected = {parent for key in cell.inputs.walked for parent in _with_parents(key)}
    if found != expected:
        raise BenchError(f"find shows {len(found)} names instead of {len(expected)}")
    return measured


def _untar(cell: Cell) -> Measured:
    with cell.mount() as mount:
        meter = _Meter(mount)
        seconds, _text = mount.run("tar", "-xf", cell.inputs.tree_tar, "-C", mount.path)
        measured = _stored(cell, mount, meter, seconds, cell.inputs.tree)
    cell.bucket.verify(cell.inputs.tree)
    return measured


def _copy(cell: Cell) -> Measured:
    cell.bucket.ensure(cell.inputs.tree)
    with cell.mount() as mount:
        meter = _Meter(mount)
        seconds, _text = mount.run("cp", "-a", mount.path / "tree", mount.path / "copy")
        measured = _stored(cell, mount, meter, seconds, cell.inputs.tree_copy)
    cell.bucket.verify(cell.inputs.tree_copy)
    return measured


def _remove(cell: Cell) -> Measured:
    cell.bucket.ensure(cell.inputs.tree)
    with cell.mount() as mount:
        meter = _Meter(mount)
        seconds, _text = mount.run("rm", "-rf", mount.path / "tree")
        cell.bucket.wait_until_lacks("tree/", mount.timeout_s)
        return meter.measured(seconds, stored=True)


def _stored(cell: Cell, mount: Mount, meter: _Meter, seconds: float, contents: Contents) -> Measured:
    cell.bucket.wait_until_holds(contents, mount.timeout_s)
    return meter.measured(seconds, stored=True)


def _check_digests(digests: dict[str, str], contents: Contents) -> None:
    expected = {key.rpartition("/")[2]: content.sha256 for key, content in contents.items()}
    wrong = sum(digests.get(name) != sha256 for name, sha256 in expected.items())
    if wrong or len(digests) != len(expected):
        raise BenchError(f"{wrong} of {len(expected)} files were read with other bytes")


def _with_parents(key: str) -> Iterator[str]:
    while key:
        yield key
        key = key.rpartition("/")[0]


GROUPS = (
    Group(
        rows=(
            Row(name="write", label=lambda s: f"write {s.big_bytes >> 20} MiB (dd)", run=_write_big),
            Row(name="read", label=lambda s: f"read {s.big_bytes >> 20} MiB, cold", run=_read_big),
        )
    ),
    Group(
        rows=(
            Row(
                name="small-write",
                label=lambda s: f"write {s.small_files} files of {s.small_bytes >> 10} KiB",
                run=_write_small,
            ),
            Row(
                name="small-read",
                label=lambda s: f"read {s.small_files} files of {s.small_bytes >> 10} KiB, cold",
                run=_read_small,
            ),
        )
    ),
    Group(
        rows=(Row(name="ls", label=lambda s: f"ls -l of {s.listed_files} files, cold", run=_list),),
        shared=True,
    ),
    Group(
        rows=(Row(name="find", label=lambda s: f"find over {s.walked_dirs} directories, cold", run=_find),),
        shared=True,
    ),
    Group(
        rows=(
            Row(name="untar", label=lambda s: f"untar {s.tree_files} files", run=_untar),
            Row(name="cp", label=lambda s: f"cp -a of {s.tree_files} files in the mount, cold", run=_copy),
            Row(name="rm", label=lambda s: f"rm -rf of {s.tree_files} files, cold", run=_remove),
        )
    ),
)
ROW_NAMES = tuple(row.name for group in GROUPS for row in group.rows)
