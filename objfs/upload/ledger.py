"""The ledger: changes as programs make them, coalesced into operations.

Every method is one synchronous step: the journal's rows and the order change together or not at all.
Only operations of which nothing was ever sent are changed or taken back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from objfs.upload.moving import is_within, leaving, moves_between
from objfs.upload.operations import UNKNOWN, Base, Kind, Operation, State
from objfs.upload.superseding import supersede

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from objfs.store.values import PutOptions
    from objfs.upload.book import Book
    from objfs_cache.journal import Journal
    from objfs_cache.staged import StagedFile


class Ledger:
    """The mount's side of the book."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self.touched_at = -math.inf
        """Trio time at which a program last changed something."""
        self.removed_at = -math.inf
        """Trio time at which a program last removed something."""

    def __len__(self) -> int:
        return len(self._book.order)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._book.order)

    @property
    def journal(self) -> Journal:
        """The rows on disk."""
        return self._book.journal

    def step(self) -> AbstractContextManager[None]:
        """All changes in the block are journaled together, or none of them is made."""
        return self._book.step()

    def restore(self, operations: list[Operation]) -> None:
        """Take over the operations of an earlier life, in their order.

        Any of them may have been sent, so none is coalesced any more. Parked ones are tried again.
        """
        for operation in operations:
            operation.state = State.SENT
            if operation.staged is not None:
                operation.staged.sealed = True
            self._book.enter(operation)

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
        """An object with new content. Replaces what waits at that path, unless it is a change of that."""
        with self._book.step():
            operation = Operation(
                kind=Kind.PUT, path=path, base=base, options=options, staged=staged, body=body
            )
            last = self._waiting_at(path, directory=False)
            if last is None or last.kind is not Kind.PUT:
                operation.base = self._take_over(path, base)
            elif not operation.lacks_base:  # else what waits shows through
                operation = last
                operation.options = options
                self._book.replace_content(operation, staged, body)
            self._book.hold(operation, held)
            operation.note_content()
            if operation.seq == 0:
                self._append(operation)
            else:
                self._book.write(operation)
        self._touch(operation)
        return operation

    def commit(self, operation: Operation, options: PutOptions, *, held: bool) -> None:
        """Journal the present content of a waiting put that a program went on writing to."""
        with self._book.step():
            operation.options = options
            self._book.hold(operation, held)
            operation.note_content()
            self._book.write(operation)
            self._take_place(operation)
        self._touch(operation)

    def release(self, operation: Operation) -> None:
        """Nobody will say that the content is complete: its name is gone, and what follows must not wait."""
        if operation.held and operation.state is State.WAITING:
            operation.held = False
            self._touch(operation)

    def mark_durable(self, operation: Operation) -> None:
        """Record what the staged file of an operation knows to be durable."""
        if operation.state is State.DONE or operation.staged is None:
            return
        operation.note_content()
        self._book.write(operation)

    def mkdir(self, path: str, *, options: PutOptions, base: Base = UNKNOWN, made: bool = False) -> Operation:
        """The marker of a directory, `made` just now or with new attributes."""
        with self._book.step():
            last = self._waiting_at(path, directory=True)
            if last is not None and last.kind is Kind.MARKER:
                last.options = options
                self._book.write(last)
                operation = last
            else:
                if last is not None and last.kind is Kind.DELETE:
                    base = last.base
                    self._book.revoke(last)
                operation = Operation(
                    kind=Kind.MARKER,
                    path=path,
                    directory=True,
                    options=options,
                    base=base,
                    body=b"",
                    made=made,
                    bare=made,
                )
                self._append(operation)
        self._touch(operation)
        return operation

    def rmdir(self, path: str) -> Operation | None:
        """The marker of a directory goes; returns None if it had never been sent."""
        operation = Operation(kind=Kind.DELETE, path=path, directory=True)
        with self._book.step():
            last = self._waiting_at(path, directory=True)
            if last is not None and last.kind is Kind.MARKER:
                self._book.revoke(last)
                if last.base.is_nothing and not self.concerns(path) and not self._book.order.below(path):
                    self._book.forget_changed(operation)  # perhaps it was a prefix whose last key went
                    self._book.changed()
                    return None
            self._append(operation)
        self._touch(operation)
        return operation

    def delete(self, path: str, *, base: Base) -> Operation | None:
        """An object goes; returns None if it had never been sent."""
        with self._book.step():
            last = self._waiting_at(path, directory=False)
            if last is not None and last.kind in (Kind.PUT, Kind.SET):
                self._book.revoke(last)
                base = last.base
            elif last is not None and last.kind is Kind.RENAME:
                self._book.revoke(last)
                self._delete_unless_absent(last.source, last.source_base)
                base = last.base
            operation = self._delete_unless_absent(path, base)
        self.removed_at = self._book.now()
        self._book.changed()
        return operation

    def set_attributes(self, path: str, *, base: Base, options: PutOptions) -> Operation:
        """New metadata for an object; rides with what waits at that path."""
        last = self._waiting_at(path, directory=False)
        if last is not None and last.kind in (Kind.PUT, Kind.SET, Kind.RENAME):
            with self._book.step():
                last.options = options
                self._book.write(last)
            self._touch(last)
            return last
        operation = Operation(kind=Kind.SET, path=path, base=base, options=options)
        with self._book.step():
            self._append(operation)
        self._touch(operation)
        return operation

    def rename(
        self, source: str, path: str, *, source_base: Base, base: Base, options: PutOptions
    ) -> Operation:
        """An object gets another path, replacing what is there."""
        with self._book.step():
            base = self._take_over(path, base)
            last = self._waiting_at(source, directory=False)
            if last is not None and _is_new(last):
                operation = self._move_put(last, path, base, options)
            else:
                if last is not None and last.kind is Kind.RENAME and last.source == path:
                    return self._rename_back(last, options)
                if last is not None and last.kind in (Kind.SET, Kind.RENAME):
                    self._book.revoke(last)
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
        moving = self._book.order.below(source)
        with self._book.step():
            has_marker = any(one.kind is Kind.MARKER and one.path == source for one in moving)
            if local and has_marker and all(self._is_movable(one, source) for one in moving):
                for operation in moving:
                    self._book.revoke(operation)
                for operation in moving:
                    operation.path = path + operation.path[len(source) :]
                    self._book.turn(operation, State.WAITING)
                    self._append(operation)
                self._book.changed()
                return None
            operation = Operation(kind=Kind.RENAME_TREE, path=path, source=source, directory=True)
            self._append(operation)
        self._touch(operation)
        return operation

    def unpark(self) -> int:
        """Try parked operations again; returns how many there were."""
        parked = [operation for operation in self._book.order if operation.state is State.PARKED]
        with self._book.step():
            for operation in parked:
                self._book.turn(operation, State.SENT)
                self._book.write(operation)
        for operation in parked:
            operation.attempts = operation.faults = 0
            operation.not_before = 0.0
            if not self._book.order.predecessors(operation):
                self._book.ready.add(operation)
        self._book.changed()
        return len(parked)

    def forget_changed(self, operation: Operation) -> None:
        """See `Book`, of what was sent without a row."""
        self._book.forget_changed(operation)

    # -- questions about the queue -----------------------------------------------------------------

    def is_taken(self, path: str) -> bool:
        """Whether an unfinished operation concerns exactly this path."""
        return self._book.order.any_at(path)

    def concerns(self, path: str) -> bool:
        """Whether an unfinished operation concerns exactly this path, or moves the tree that it is in."""
        return self.is_taken(path) or any(
            operation.kind is Kind.RENAME_TREE for operation in self._book.order.covering(path)
        )

    def before(self, operation: Operation) -> list[Operation]:
        """Unfinished operations that a new one would have to wait for, in order."""
        return sorted(self._book.order.before(operation), key=lambda other: other.seq)

    def is_stuck(self, operation: Operation) -> bool:
        """Whether it waits for one that is parked: nothing of it is on its way."""
        return self.obstacle(operation) is not None

    def obstacle(self, operation: Operation) -> Operation | None:
        """A parked operation that it waits for, perhaps through others; None if there is none."""
        seen, stack = {operation}, [operation]
        while stack:
            for other in self._book.order.predecessors(stack.pop()):
                if other.state is State.PARKED:
                    return other
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return None

    def count_behind(self, operation: Operation) -> int:
        """How many operations wait for one."""
        return len(self._book.order.followers(operation))

    def leaving(self, path: str, *, before: float = math.inf) -> set[str]:
        """Names directly below a path that operations before a seq are still to empty or remove."""
        return leaving(self._book.order, path, before=before)

    def awaits_move(self, operation: Operation) -> bool:
        """Whether it waits for the rename of a directory at or above its path.

        As long as it does, nothing that was made later below that path can have been stored.
        """
        return moves_between(self._book.order, operation, operation.path)

    # -- parts --------------------------------------------------------------------------------------

    def _is_movable(self, operation: Operation, source: str) -> bool:
        """Whether an operation of a new directory may go out under another path."""
        if operation.state is not State.WAITING or operation.kind not in (Kind.PUT, Kind.MARKER):
            return False
        is_moving = any(one.kind is Kind.RENAME_TREE for one in self._book.order.followers(operation))
        return is_within(operation.path, source) and operation.base.is_nothing and not is_moving

    def _append(self, operation: Operation, *, after: Iterable[Operation] = ()) -> None:
        self._book.append(operation, after=after)
        self._take_place(operation)

    def _take_place(self, operation: Operation) -> None:
        """Of refused operations that it waits for and replaces."""
        for other in self._book.order.predecessors(operation):
            if other.state is State.PARKED:
                supersede(self._book, other)

    def _touch(self, operation: Operation) -> None:
        self.touched_at = self._book.now()
        self._book.settle(operation)
        self._book.changed()

    def _waiting_at(self, path: str, *, directory: bool) -> Operation | None:
        last = self._book.order.last_at(path)
        if last is None or last.state is not State.WAITING or last.path != path:
            return None
        return last if last.directory == directory else None

    def _take_over(self, path: str, base: Base) -> Base:
        """Revoke what waits at a path that is about to be replaced; returns the base under it."""
        last = self._waiting_at(path, directory=False)
        if last is None or last.kind not in (Kind.PUT, Kind.SET, Kind.DELETE):
            return base
        self._book.revoke(last)
        return last.base

    def _delete_unless_absent(
        self, path: str, base: Base, *, after: Iterable[Operation] = ()
    ) -> Operation | None:
        if base.is_nothing and not self.concerns(path):
            return None
        operation = Operation(kind=Kind.DELETE, path=path, base=base)
        self._append(operation, after=after)
        return operation

    def _rename_back(self, last: Operation, options: PutOptions) -> Operation:
        """A file that was to be renamed keeps its place; what it would have replaced is gone."""
        self._book.revoke(last)
        operation = Operation(kind=Kind.SET, path=last.source, base=last.source_base, options=options)
        self._append(operation)
        self._delete_unless_absent(last.path, last.base)
        self._touch(operation)
        return operation

    def _move_put(self, operation: Operation, path: str, base: Base, options: PutOptions) -> Operation:
        source, source_base = operation.path, operation.base
        earlier = self._book.order.predecessors(operation)  # of the same file: its versions come in order
        self._book.revoke(operation)
        self._book.turn(operation, State.WAITING)
        operation.path, operation.base, operation.options = path, base, options
        self._append(operation, after=earlier)
        self._delete_unless_absent(source, source_base, after=[operation])
        return operation


def _is_new(operation: Operation) -> bool:
    """Whether it puts a whole object where none was: of a change, a power loss leaves what was changed."""
    whole = operation.staged is None or operation.staged.complete
    return operation.kind is Kind.PUT and whole and operation.base.version is None
