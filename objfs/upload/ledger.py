"""The ledger: the journal's operations in memory, and the one place where they are coalesced.

Every method is one synchronous step: the journal's rows and the order change together or not at all.
Only operations of which nothing was ever sent are changed or taken back.
"""

from __future__ import annotations

import heapq
import itertools
import math
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.upload.operations import NOTHING, UNKNOWN, Base, Kind, Operation, State, from_record
from objfs.upload.order import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from objfs.store.values import PutOptions, Version
    from objfs_cache.journal import Journal
    from objfs_cache.staging import StagedFile


class Ledger:
    """All unfinished operations of a mount."""

    def __init__(self, journal: Journal, *, clock: Callable[[], float], delay_s: float) -> None:
        self._journal = journal
        self._clock = clock
        self._delay_s = delay_s
        self._order = Order()
        self._free: set[Operation] = set()
        self._starts: list[tuple[float, int, int, Operation]] = []  # heap by start; entries may be stale
        self._pushes = itertools.count()
        self._running: set[Operation] = set()
        self._revoked: list[Operation] = []
        self.touched_at = -math.inf
        """Trio time at which a program last changed something."""
        self._on_change: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._order)

    @property
    def journal(self) -> Journal:
        """The rows on disk."""
        return self._journal

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Have `on_change` called after each change (by the executor, to look for work)."""
        self._on_change = on_change

    def restore(self, operations: list[Operation]) -> None:
        """Take over the operations of an earlier life, in their order.

        Any of them may have been sent, so none is coalesced any more. Parked ones are tried again.
        """
        for operation in operations:
            operation.state = State.SENT
            if operation.staged is not None:
                operation.staged.sealed = True
            self._enter(operation)

    # -- changes, as programs make them -------------------------------------------------------------

    def put(
        self,
        path: str,
        *,
        options: PutOptions,
        base: Base,
        staged: StagedFile | None = None,
        body: bytes | None = None,
        held: bool = False,
    ) -> Operation:
        """An object with new content. Replaces what waits at that path."""
        with self._step():
            last = self._waiting_at(path, directory=False)
            if last is not None and last.kind is Kind.PUT:
                operation = last
                operation.options, operation.staged, operation.body = options, staged, body
            else:
                operation = Operation(kind=Kind.PUT, path=path, options=options, staged=staged, body=body)
                operation.base = self._take_over(path, base)
            operation.held = held
            self._commit_content(operation)
            if operation.seq == 0:
                self._append(operation)
            else:
                self._journal.write(operation.record())
        self._touch(operation)
        return operation

    def commit(self, operation: Operation, options: PutOptions, *, held: bool) -> None:
        """Journal the present content of a waiting put that a program went on writing to."""
        operation.options = options
        operation.held = held
        self._commit_content(operation)
        self._journal.write(operation.record())
        self._touch(operation)

    def release(self, operation: Operation) -> None:
        """Nobody will say that the content is complete: its name is gone, and what follows must not wait."""
        if operation.held and operation.state is State.WAITING:
            operation.held = False
            self._touch(operation)

    def mark_durable(self, operation: Operation) -> None:
        """Record that the staged bytes of an operation were fsynced."""
        if operation.state is State.DONE or operation.staged is None:
            return
        operation.staged.synced = True
        self._commit_content(operation)
        self._journal.write(operation.record())

    def mkdir(self, path: str, *, options: PutOptions, base: Base = UNKNOWN) -> Operation:
        """The marker of a directory, new or with new attributes."""
        with self._step():
            last = self._waiting_at(path, directory=True)
            if last is not None and last.kind is Kind.MARKER:
                last.options = options
                self._journal.write(last.record())
                operation = last
            else:
                if last is not None and last.kind is Kind.DELETE:
                    base = last.base
                    self._revoke(last)
                operation = Operation(
                    kind=Kind.MARKER, path=path, directory=True, options=options, base=base, body=b""
                )
                self._append(operation)
        self._touch(operation)
        return operation

    def rmdir(self, path: str) -> Operation | None:
        """The marker of a directory goes; returns None if it had never been sent."""
        with self._step():
            last = self._waiting_at(path, directory=True)
            if last is not None and last.kind is Kind.MARKER:
                self._revoke(last)
                if last.base.absent and not self.concerns(path) and not self._order.below(path):
                    self._on_change()
                    return None
            operation = Operation(kind=Kind.DELETE, path=path, directory=True)
            self._append(operation)
        self._touch(operation)
        return operation

    def delete(self, path: str, *, base: Base) -> Operation | None:
        """An object goes; returns None if it had never been sent."""
        with self._step():
            last = self._waiting_at(path, directory=False)
            if last is not None and last.kind in (Kind.PUT, Kind.SET):
                self._revoke(last)
                base = last.base
            elif last is not None and last.kind is Kind.RENAME:
                self._revoke(last)
                self._delete_unless_absent(last.source, last.source_base)
                base = last.base
            operation = self._delete_unless_absent(path, base)
        self._on_change()
        return operation

    def set_attributes(self, path: str, *, base: Base, options: PutOptions) -> Operation:
        """New metadata for an object; rides with what waits at that path."""
        last = self._waiting_at(path, directory=False)
        if last is not None and last.kind in (Kind.PUT, Kind.SET, Kind.RENAME):
            last.options = options
            self._journal.write(last.record())
            self._touch(last)
            return last
        operation = Operation(kind=Kind.SET, path=path, base=base, options=options)
        with self._step():
            self._append(operation)
        self._touch(operation)
        return operation

    def rename(
        self, source: str, path: str, *, source_base: Base, base: Base, options: PutOptions
    ) -> Operation:
        """An object gets another path, replacing what is there."""
        with self._step():
            base = self._take_over(path, base)
            last = self._waiting_at(source, directory=False)
            if last is not None and last.kind is Kind.PUT and (last.staged is None or last.staged.complete):
                operation = self._move_put(last, path, base, options)
            else:
                if last is not None and last.kind is Kind.RENAME and last.source == path:
                    return self._rename_back(last, options)
                if last is not None and last.kind in (Kind.SET, Kind.RENAME):
                    self._revoke(last)
                    source_base = last.base if last.kind is Kind.SET else last.source_base
                operation = Operation(
                    kind=Kind.RENAME,
                    path=path,
                    source=source,
                    source_base=source_base,
                    base=base,
                    options=options,
                )
                if last is not None and last.kind is Kind.RENAME:
                    operation.source = last.source
                    self._append(operation)
                    self._delete_unless_absent(source, last.base, after=[operation])
                else:
                    self._append(operation)
        self._touch(operation)
        return operation

    def rename_tree(self, source: str, path: str, *, local: bool) -> Operation | None:
        """A directory gets another path.

        Args:
            source: the old path.
            path: the new path; nothing, or an empty directory, is there.
            local: nothing below the old path is in the store yet.

        Returns:
            The operation, or None if the operations that wait below could be moved themselves.
        """
        moving = self._order.below(source)
        with self._step():
            has_marker = any(one.kind is Kind.MARKER and one.path == source for one in moving)
            if local and has_marker and all(self._is_movable(one, source) for one in moving):
                for operation in moving:
                    self._revoke(operation)
                for operation in moving:
                    operation.path = path + operation.path[len(source) :]
                    operation.state = State.WAITING
                    self._append(operation)
                self._on_change()
                return None
            operation = Operation(kind=Kind.RENAME_TREE, path=path, source=source, directory=True)
            self._append(operation)
        self._touch(operation)
        return operation

    # -- progress, as the executor makes it ---------------------------------------------------------

    def take_ready(
        self, limit: int, *, deletes: int, impatient: bool, patience_s: float = 0.0
    ) -> list[Operation]:
        """Operations that may start now, in order; they become SENT and sealed.

        Args:
            limit: most operations that are no deletes.
            deletes: most deletes (they go out in one request).
            impatient: do not let changes settle first.
            patience_s: let them rest so much longer than they would have to.
        """
        now = self._clock() - patience_s
        room = {True: deletes, False: limit}
        chosen: list[Operation] = []
        passed: list[Operation] = []
        while any(room.values()) and (impatient or self._is_due(now)):
            operation = self._pop()
            if operation is None:
                break
            is_delete = operation.kind is Kind.DELETE
            if room[is_delete] and (operation.not_before <= now or not operation.attempts):
                room[is_delete] -= 1
                self._free.discard(operation)
                chosen.append(operation)
            else:
                passed.append(operation)
        for operation in passed:
            self._schedule(operation)
        for operation in chosen:
            self._running.add(operation)
            operation.state = State.SENT
            if operation.staged is not None:
                operation.staged.sealed = True
        return chosen

    def hurry(self, operation: Operation) -> None:
        """Somebody waits for this one: do not let it settle."""
        if operation.state is State.WAITING:
            operation.not_before = self._clock()
            self._schedule(operation)
            self._on_change()

    def is_taken(self, path: str) -> bool:
        """Whether an unfinished operation concerns exactly this path."""
        return self._order.any_at(path)

    def concerns(self, path: str) -> bool:
        """Whether an unfinished operation concerns exactly this path, or moves the tree that it is in."""
        return self.is_taken(path) or any(
            operation.kind is Kind.RENAME_TREE for operation in self._order.covering(path)
        )

    def leaving(self, path: str, *, before: float = math.inf) -> set[str]:
        """Names directly below a path that operations before a seq are still to empty or remove."""
        found: set[str] = set()
        for operation in self._order.below(path):
            removed = operation.path if operation.kind is Kind.DELETE else operation.source
            if operation.seq < before and removed.startswith(f"{path}/"):
                found.add(removed[len(path) + 1 :].partition("/")[0])
        return found

    def is_leaving(self, path: str, *, before: float = math.inf) -> bool:
        """Whether all that the store has below a path is to be moved away by operations before a seq."""
        last: Operation | None = None
        for operation in {*self._order.covering(path), *self._order.below(path)}:
            if operation.kind is Kind.RENAME_TREE and operation.seq < before:
                is_above = _is_within(path, operation.source) or _is_within(path, operation.path)
                if is_above and (last is None or last.seq < operation.seq):
                    last = operation
        return last is not None and _is_within(path, last.source)

    def next_start(self) -> float | None:
        """Trio time at which the next free operation may start, or None if there is none."""
        while self._starts and not self._is_current(self._starts[0]):
            heapq.heappop(self._starts)
        return self._starts[0][0] if self._starts else None

    def save(self, operation: Operation) -> None:
        """Journal the fields that the executor changed."""
        self._journal.write(operation.record())

    def finish(self, operation: Operation, result: Base) -> None:
        """An operation took effect: forget it, and free what waited for it.

        Args:
            operation: the one.
            result: what is under its destination now: the base of what follows there.
        """
        with self._step():
            self._journal.remove(operation.seq)
            for follower in self._order.followers(operation):
                self._inherit(follower, operation, result)
        self._leave(operation)
        operation.state = State.DONE
        self._on_change()

    def tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """Everything below a tree is at its new place too.

        Args:
            operation: the rename.
            moved: by new path, the versions before and after, of the objects whose version changed.
        """
        operation.copied = True
        with self._step():
            self._journal.write(operation.record())
            self._rebase(operation, moved)

    def retry_later(self, operation: Operation, not_before: float, error: str) -> None:
        """An attempt failed and may succeed later."""
        operation.attempts += 1
        operation.not_before = not_before
        operation.error = error
        self._running.discard(operation)
        self._free.add(operation)
        self._schedule(operation)

    def park(self, operation: Operation, error: str) -> None:
        """An operation was refused for good: keep it, with its data, and what follows it."""
        operation.state = State.PARKED
        operation.error = error
        self._running.discard(operation)
        self._journal.write(operation.record())
        self._on_change()

    def unpark(self) -> int:
        """Try parked operations again; returns how many there were."""
        parked = [operation for operation in self._order if operation.state is State.PARKED]
        for operation in parked:
            operation.state = State.SENT
            operation.attempts = 0
            operation.not_before = 0.0
            self._journal.write(operation.record())
            self._free.add(operation)
            self._schedule(operation)
        self._on_change()
        return len(parked)

    def divert(self, operation: Operation, path: str) -> None:
        """Give a conflicted operation, and what is queued behind it on its path, another path."""
        old = operation.path
        family = [operation]
        family.extend(
            follower
            for follower in self._order.followers(operation)
            if old in (follower.path, follower.source) and follower.kind is not Kind.RENAME_TREE
        )
        everything = sorted(self._order, key=lambda other: other.seq)
        waits = {other: self._order.predecessors(other) for other in everything}
        with self._step():
            for member in family:
                if member.path == old:
                    member.path = path
                else:
                    member.source = path
            operation.base = NOTHING
            for member in family:
                self._journal.write(member.record())
        self._order = Order()
        self._free.clear()
        for other in everything:
            self._enter(other, after=waits[other])
        self._on_change()

    # -- all or nothing -----------------------------------------------------------------------------

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Journal and memory change together: if the journal refuses, memory goes back to what it holds."""
        self._revoked.clear()
        try:
            with self._journal.transaction():
                yield
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        present = {operation.token: operation for operation in (*self._order, *self._revoked)}
        restored: list[Operation] = []
        for record in self._journal.load():
            before = from_record(record)
            operation = present.pop(before.token)
            state = State.WAITING if operation.state is State.DONE else operation.state
            for name in (
                "kind",
                "path",
                "directory",
                "source",
                "base",
                "source_base",
                "options",
                "committed",
                "seq",
            ):
                setattr(operation, name, getattr(before, name))
            operation.state = state
            restored.append(operation)
        for operation in present.values():
            operation.state = State.DONE
        self._order = Order()
        self._free.clear()
        for operation in restored:
            self._enter(operation)

    # -- parts --------------------------------------------------------------------------------------

    def _append(self, operation: Operation, *, after: Iterable[Operation] = ()) -> None:
        operation.seq = self._journal.next_seq()
        operation.not_before = self._clock() + self._delay_s
        self._journal.write(operation.record())
        self._enter(operation, after=after)

    def _enter(self, operation: Operation, *, after: Iterable[Operation] = ()) -> None:
        if self._order.add(operation, after=after):
            self._release(operation)

    def _leave(self, operation: Operation) -> None:
        self._free.discard(operation)
        self._running.discard(operation)
        for freed in self._order.remove(operation):
            self._release(freed)

    def _release(self, operation: Operation) -> None:
        if operation.state is not State.PARKED and operation not in self._running:
            self._free.add(operation)
            self._schedule(operation)

    def _schedule(self, operation: Operation) -> None:
        if operation in self._free and not operation.held:
            entry = (operation.not_before, operation.seq, next(self._pushes), operation)
            heapq.heappush(self._starts, entry)

    def _is_current(self, entry: tuple[float, int, int, Operation]) -> bool:
        not_before, seq, _, operation = entry
        return (
            operation in self._free
            and not operation.held
            and (operation.not_before, operation.seq) == (not_before, seq)
        )

    def _is_due(self, now: float) -> bool:
        start = self.next_start()
        return start is not None and start <= now

    def _pop(self) -> Operation | None:
        return heapq.heappop(self._starts)[-1] if self.next_start() is not None else None

    def _inherit(
        self, follower: Operation, operation: Operation, result: Base, since: int | None = None
    ) -> None:
        """Give a follower, also behind the renames of directories, the base that its predecessor left.

        Args:
            follower: the one.
            operation: the predecessor, with its path as it is when the follower's turn comes.
            result: what is under that path.
            since: seq of the rename that made it so, if any.
        """
        before = (follower.base, follower.source_base)
        earliest = operation.seq if since is None else since
        is_current = not self._moves_between(earliest, follower, follower.path)
        if is_current and follower.path == operation.path and follower.directory == operation.directory:
            follower.base = result
        is_source = follower.source == operation.path and not operation.directory
        if is_source and not self._moves_between(earliest, follower, follower.source):
            follower.source_base = result
        if is_current and operation.kind is Kind.RENAME and follower.path == operation.source != "":
            follower.base = NOTHING
        if (follower.base, follower.source_base) != before:
            self._journal.write(follower.record())
        is_tree = follower.kind is Kind.RENAME_TREE and operation.kind is not Kind.RENAME_TREE
        if is_tree and not self._moves_between(earliest, follower, operation.path):
            path = moved_path(operation.path, follower.source, follower.path)
            for later in self._order.followers(follower) if path is not None else ():
                there = replace(operation, path=path or "", source="")
                self._inherit(later, there, result, follower.seq)

    def _is_movable(self, operation: Operation, source: str) -> bool:
        """Whether an operation of a new directory may go out under another path."""
        if operation.state is not State.WAITING or operation.kind not in (Kind.PUT, Kind.MARKER):
            return False
        is_moving = any(one.kind is Kind.RENAME_TREE for one in self._order.followers(operation))
        return _is_within(operation.path, source) and operation.base.absent and not is_moving

    def _moves_between(self, seq: int, follower: Operation, path: str) -> bool:
        """Whether a directory moves away from, or onto, a path between a seq and a later operation."""
        return any(
            one.kind is Kind.RENAME_TREE
            and seq < one.seq < follower.seq
            and (_is_within(path, one.path) or _is_within(path, one.source))
            for one in self._order.predecessors(follower)
        )

    def _rebase(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """Give what follows the rename of a directory the versions that its copies have."""
        for follower in self._order.followers(operation):
            base = _after_move(follower.base, moved.get(follower.path))
            source_base = _after_move(follower.source_base, moved.get(follower.source))
            if (base, source_base) != (follower.base, follower.source_base):
                follower.base, follower.source_base = base, source_base
                self._journal.write(follower.record())
            if follower.kind is Kind.RENAME_TREE:
                places = {moved_path(path, follower.source, follower.path): path for path in moved}
                further = {place: moved[path] for place, path in places.items() if place is not None}
                if further:
                    self._rebase(follower, further)

    def _revoke(self, operation: Operation) -> None:
        self._journal.remove(operation.seq)
        self._leave(operation)
        self._revoked.append(operation)
        operation.state = State.DONE

    def _touch(self, operation: Operation) -> None:
        self.touched_at = self._clock()
        operation.not_before = self.touched_at + self._delay_s
        self._schedule(operation)
        self._on_change()

    def _commit_content(self, operation: Operation) -> None:
        operation.committed = operation.staged.state() if operation.staged is not None else None

    def _waiting_at(self, path: str, *, directory: bool) -> Operation | None:
        last = self._order.last_at(path)
        if last is None or last.state is not State.WAITING or last.path != path:
            return None
        return last if last.directory == directory else None

    def _take_over(self, path: str, base: Base) -> Base:
        """Revoke what waits at a path that is about to be replaced; returns the base under it."""
        last = self._waiting_at(path, directory=False)
        if last is None or last.kind not in (Kind.PUT, Kind.SET, Kind.DELETE):
            return base
        self._revoke(last)
        return last.base

    def _delete_unless_absent(
        self, path: str, base: Base, *, after: Iterable[Operation] = ()
    ) -> Operation | None:
        if base.absent and not self.concerns(path):
            return None
        operation = Operation(kind=Kind.DELETE, path=path, base=base)
        self._append(operation, after=after)
        return operation

    def _rename_back(self, last: Operation, options: PutOptions) -> Operation:
        """A file that was to be renamed keeps its place; what it would have replaced is gone."""
        self._revoke(last)
        operation = Operation(kind=Kind.SET, path=last.source, base=last.source_base, options=options)
        self._append(operation)
        self._delete_unless_absent(last.path, last.base)
        self._touch(operation)
        return operation

    def _move_put(self, operation: Operation, path: str, base: Base, options: PutOptions) -> Operation:
        source, source_base = operation.path, operation.base
        earlier = self._order.predecessors(operation)  # of the same file: its versions come in order
        self._revoke(operation)
        operation.state = State.WAITING
        operation.path, operation.base, operation.options = path, base, options
        self._append(operation, after=earlier)
        self._delete_unless_absent(source, source_base, after=[operation])
        return operation


def moved_path(path: str, source: str, target: str) -> str | None:
    """Where a path is after a directory was renamed, or None if it was not below it."""
    return target + path[len(source) :] if path.startswith(f"{source}/") else None


def _is_within(path: str, top: str) -> bool:
    return f"{path}/".startswith(f"{top}/")


def _after_move(base: Base, versions: tuple[Version, Version] | None) -> Base:
    """A base after its object was copied; one that somebody else had replaced before stays as it is."""
    return Base(version=versions[1]) if versions is not None and base.version == versions[0] else base
