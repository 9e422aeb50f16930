"""Copies files that could not be uploaded out of a cache, into a plain folder. The cache is only read."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.errors import MountError, ObjfsError
from objfs.read.reader import BLOCK_BYTES
from objfs.read.values import object_name
from objfs.store.values import PutOptions, Version
from objfs.upload.moving import is_within
from objfs.upload.operations import Kind, Operation, State, from_record
from objfs.upload.order import Order
from objfs.upload.segments import cut_at_multiples
from objfs.vfs.attributes import Defaults, decode_options
from objfs_cache.extents import Extents
from objfs_cache.staged import write_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from objfs_cache.journal import Record
    from objfs_cache.staged import StagedState

LIST_NAME = "objfs-rescue.jsonl"


@dataclass(slots=True, kw_only=True)
class Candidate:
    """A file, symlink or directory that the store has not got as it should be.

    Attributes:
        layers: staged content, the newest first; what shows through all of them is the base's.
        body: content of a symlink, or None.
        base_key: where the store has the base, as far as is known.
        refused: it, or what it waits for, was refused; `error` says why.
    """

    path: str
    options: PutOptions
    directory: bool = False
    layers: list[StagedState] = field(default_factory=list)
    body: bytes | None = None
    base_key: str = ""
    base: Version | None = None
    refused: bool = False
    error: str = ""

    @property
    def length(self) -> int:
        """Bytes of the whole file."""
        return self.layers[0].length if self.layers else len(self.body or b"")


@dataclass(slots=True, kw_only=True)
class Rescued:
    """What became of one candidate; one line of the list.

    Attributes:
        missing: ranges [start, stop) of bytes that are zeros in the copy, because they could not be had.
        note: what else to know, or "".
    """

    path: str
    size_bytes: int
    state: str
    error: str
    complete: bool = True
    missing: list[tuple[int, int]] = field(default_factory=list)
    note: str = ""


def find_candidates(records: Iterable[Record], *, everything: bool) -> list[Candidate]:
    """What is to be copied, as it would be in the store had everything gone well.

    Args:
        records: the journal, in its order.
        everything: also what only waits, and was not refused.
    """
    waiting = _Waiting()
    for record in records:
        waiting.add(from_record(record))
    found = (one for one in waiting.tree.values() if everything or one.refused)
    return sorted(found, key=lambda one: (not one.refused, one.path))


class _Waiting:
    """The tree that the journal's changes make, one after the other, as far as they tell of it."""

    def __init__(self) -> None:
        self.tree: dict[str, Candidate] = {}
        self._order = Order()
        self._refused: dict[Operation, str] = {}  # with what waits for it; why
        self._moves: list[Operation] = []  # of what the store has

    def add(self, operation: Operation) -> None:
        """The next change."""
        self._order.add(operation)
        before = [self._refused[one] for one in self._order.predecessors(operation) if one in self._refused]
        reasons = [operation.error] if operation.state is State.PARKED else before
        if reasons:
            self._refused[operation] = reasons[0]
        for candidate in self._apply(operation):
            if operation in self._refused:
                candidate.refused, candidate.error = True, self._refused[operation]

    def _apply(self, operation: Operation) -> list[Candidate]:
        """Returns what it is about."""
        tree, path = self.tree, operation.path
        if operation.kind in (Kind.PUT, Kind.MARKER):
            tree[path] = self._candidate(operation, tree.get(path))
        elif operation.kind is Kind.DELETE:
            tree.pop(path, None)
        elif operation.kind is Kind.SET and path in tree:
            tree[path].options = operation.options
        elif operation.kind is Kind.RENAME and operation.source in tree:
            moved = tree[path] = tree.pop(operation.source)
            moved.path, moved.options = path, operation.options
        elif operation.kind is Kind.RENAME:
            tree.pop(path, None)  # what the store has takes its place
            self._moves.append(operation)
        elif operation.kind is Kind.RENAME_TREE:
            return self._move_tree(operation)
        return [tree[path]] if path in tree else []

    def _move_tree(self, operation: Operation) -> list[Candidate]:
        if not operation.copied:
            self._moves.append(operation)
        moved = [self.tree.pop(old) for old in list(self.tree) if is_within(old, operation.source)]
        for one in moved:
            one.path = operation.path + one.path[len(operation.source) :]
            self.tree[one.path] = one
        return moved

    def _candidate(self, operation: Operation, before: Candidate | None) -> Candidate:
        made = Candidate(
            path=operation.path, options=operation.options, directory=operation.directory, body=operation.body
        )
        staged = operation.committed
        if staged is not None:
            made.layers, made.base_key = [staged], self._stored_at(operation.path)
            made.base = operation.base.version or operation.lost
            if before is not None and before.layers:  # what shows through is the file as it was before
                made.layers += before.layers
                made.base_key, made.base = before.base_key, before.base
        return made

    def _stored_at(self, path: str) -> str:
        """Where the store has what is to be moved to a path."""
        for move in reversed(self._moves):
            if path == move.path or (move.directory and is_within(path, move.path)):
                path = move.source + path[len(move.path) :]
        return path


async def rescue(
    candidates: Sequence[Candidate],
    staging_path: Path,
    folder: Path,
    read_base: Callable[[Candidate, int, int], Awaitable[bytes]],
) -> list[Rescued]:
    """Copy all candidates into a folder, and write the list of them there.

    Args:
        candidates: what to copy.
        staging_path: the cache's staged files.
        folder: absent or empty.
        read_base: bytes [start, stop) of a candidate that are not staged; may raise OSError or ObjfsError.

    Raises:
        MountError: the folder cannot be used.
    """
    prepare_folder(folder)
    done: list[Rescued] = []
    with (folder / LIST_NAME).open("x", encoding="utf-8") as listing:
        # Symlinks come last: no file is ever written through one of them.
        for one in sorted(candidates, key=lambda one: one.body is not None):
            outcome = await _copy(one, staging_path, folder, read_base)
            listing.write(json.dumps(_as_line(outcome)) + "\n")
            done.append(outcome)
    return done


def prepare_folder(folder: Path) -> None:
    """Make the folder; it must be new or empty."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        occupied = any(folder.iterdir())
    except OSError as error:
        raise MountError(f"the folder {folder} cannot be used: {error.strerror}; name another.") from error
    if occupied:
        raise MountError(f"the folder {folder} is not empty; name a new one, so that nothing is overwritten.")


def _as_line(outcome: Rescued) -> dict[str, object]:
    return {
        "path": outcome.path,
        "size_bytes": outcome.size_bytes,
        "state": outcome.state,
        "error": outcome.error,
        "complete": outcome.complete,
        "missing": outcome.missing,
        "note": outcome.note,
    }


async def _copy(
    one: Candidate,
    staging_path: Path,
    folder: Path,
    read_base: Callable[[Candidate, int, int], Awaitable[bytes]],
) -> Rescued:
    state = "refused" if one.refused else "waiting"
    outcome = Rescued(path=one.path, size_bytes=one.length, state=state, error=one.error)
    if any(part in ("", ".", "..") or "\0" in part for part in one.path.split("/")):
        outcome.complete, outcome.note = False, "not copied: this is no path"
        return outcome
    target = folder / one.path
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        await _make(one, target, staging_path, read_base, outcome)
    except OSError as error:
        outcome.complete, outcome.note = False, f"not copied: {error.strerror or error}"
    return outcome


async def _make(
    one: Candidate,
    target: Path,
    staging_path: Path,
    read_base: Callable[[Candidate, int, int], Awaitable[bytes]],
    outcome: Rescued,
) -> None:
    attributes = decode_options(
        one.options, Defaults(uid=os.geteuid(), gid=os.getegid()), directory=one.directory
    )
    if _make_without_content(one, target, is_symlink=stat.S_ISLNK(attributes.mode)):
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(target, flags, 0o600)
    try:
        await _write_content(one, descriptor, staging_path, read_base, outcome)
        os.fchmod(descriptor, attributes.mode & 0o777)
        os.utime(descriptor, ns=(attributes.atime_ns, attributes.mtime_ns))
    finally:
        os.close(descriptor)


def _make_without_content(one: Candidate, target: Path, *, is_symlink: bool) -> bool:
    if one.directory:
        target.mkdir(exist_ok=True)
    elif is_symlink:
        target.symlink_to(os.fsdecode(one.body or b""))
    return one.directory or is_symlink


async def _write_content(
    one: Candidate,
    descriptor: int,
    staging_path: Path,
    read_base: Callable[[Candidate, int, int], Awaitable[bytes]],
    outcome: Rescued,
) -> None:
    os.ftruncate(descriptor, one.length)
    if any(layer.torn for layer in one.layers):
        outcome.complete, outcome.note = False, "written just before a power loss: bytes may be wrong"
    base_bytes = one.base.content_bytes if one.base is not None else 0
    for start, stop, layer in resolve(one.layers, base_bytes, 0, one.length):
        # A block at a time: the cache may have one and not the next.
        for low, high in cut_at_multiples(start, stop, BLOCK_BYTES):
            try:
                if layer is None:
                    data = await read_base(one, low, high)
                else:
                    path = staging_path / f"{layer.file_id:016x}"
                    data = await trio.to_thread.run_sync(_read_exactly, path, low, high)
                await trio.to_thread.run_sync(write_all, descriptor, data, low)
            except (OSError, ObjfsError) as error:
                outcome.complete = False
                outcome.note = outcome.note or f"zeros where bytes could not be had: {error}"
                _add_missing(outcome.missing, low, high)


def _add_missing(missing: list[tuple[int, int]], start: int, stop: int) -> None:
    if missing and missing[-1][1] == start:
        missing[-1] = (missing[-1][0], stop)
    else:
        missing.append((start, stop))


def resolve(
    layers: Sequence[StagedState], base_bytes: int, start: int, stop: int
) -> Iterator[tuple[int, int, StagedState | None]]:
    """[start, stop) cut into (start, stop, layer that holds it, None for the base), without what is zero."""
    if not layers:
        if start < min(stop, base_bytes):
            yield start, min(stop, base_bytes), None
        return
    layer = layers[0]
    for first, last, is_staged in Extents(layer.extents).pieces(start, stop):
        if is_staged:
            yield first, last, layer
        else:
            yield from resolve(layers[1:], base_bytes, first, min(last, layer.base_limit))


def read_mounted(path: Path, start: int, stop: int) -> bytes:
    """Bytes of a file through its mount. Blocks."""
    return _read_exactly(path, start, stop)


def base_id(candidate: Candidate) -> str:
    """The block cache's name for the base; one that was renamed since is not found, and is fetched."""
    version = candidate.base or Version(etag="", size_bytes=0)
    return object_name(candidate.base_key, version)


def _read_exactly(path: Path, start: int, stop: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, stop - start, start)
    finally:
        os.close(descriptor)
    if len(data) < stop - start:
        raise OSError(f"{path.name} is shorter than it should be")
    return data
