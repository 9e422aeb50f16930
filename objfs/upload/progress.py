"""Progress: what the executor does with the book: take what may start, and say what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.store.threads import in_thread
from objfs.upload.bases import inherit, moved_path, rebase
from objfs.upload.operations import NOTHING, Base, Kind, Operation, State
from objfs.upload.pacing import COMPANY_S
from objfs.upload.superseding import supersede

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from objfs.store.values import Version
    from objfs.upload.book import Book
    from objfs.upload.ready import ReadyQueue


class Progress:
    """The executor's side of the book. Every method is one synchronous step."""

    def __init__(self, book: Book) -> None:
        self._book = book

    @property
    def ready(self) -> ReadyQueue:
        """Operations that wait for no other."""
        return self._book.ready

    def has_ready(self) -> bool:
        """Whether any operation may start, now or later."""
        lines = (self._book.ready.deletes, self._book.ready.others)
        return any(line.next_start() is not None for line in lines)

    def take_ready(
        self, limit: int, *, deletes: int, impatient: bool, patience_s: float = 0.0
    ) -> list[Operation]:
        """Operations that may start now, in order; they become SENT and sealed.

        Args:
            limit: most operations that are no deletes.
            deletes: most deletes; they go out in one request, with those that are due soon.
            impatient: do not let changes settle first.
            patience_s: let them rest so much longer than they would have to.
        """
        now, ready = self._book.now(), self._book.ready
        rested = now - patience_s
        chosen = ready.deletes.take(now, deletes, rested=rested + COMPANY_S, impatient=impatient)
        chosen += ready.others.take(now, limit, rested=rested, impatient=impatient)
        chosen.sort(key=lambda operation: (operation.not_before, operation.seq))
        for operation in chosen:
            self._book.running.add(operation)
            _seal(operation)
        return chosen

    def hurry(self, operations: Iterable[Operation]) -> list[Operation]:
        """Somebody waits for these as they are: do not let them settle, nor let them be changed any more.

        Returns:
            Those that are held, also of what they wait for: these have to be committed first.
        """
        held: list[Operation] = []
        stack = list(operations)
        while stack:
            one = stack.pop()
            if one.state is not State.WAITING:
                continue
            if one.held:
                held.append(one)
                continue
            _seal(one)
            one.not_before = self._book.now()
            self._book.ready.reschedule(one)
            stack += self._book.order.predecessors(one)
        self._book.changed()
        return held

    async def write_ahead(self, batch: list[Operation]) -> None:
        """The store is never ahead of what the journal tells after a power loss.

        Rows of others, which the store has got already for instance, need not be durable for that.

        Raises:
            JournalError: it cannot be made durable.
        """
        journal = self._book.journal
        position = max(operation.position for operation in batch)
        if not journal.is_durable_to(position):
            await in_thread(journal.sync, position)

    def save(self, operation: Operation) -> None:
        """Journal the fields that the executor changed."""
        self._book.write(operation)

    def finish(self, operation: Operation, result: Base, *, vanished: bool = False) -> None:
        """An operation took effect: forget it, and free what waited for it.

        Args:
            operation: the one.
            result: what is under its destination now: the base of what follows there.
            vanished: it is forgotten without effect; its source is not under its destination.
        """
        book = self._book
        with book.step():
            book.strike(operation)
            for follower in book.order.followers(operation):
                inherit(book, follower, operation, result, vanished=vanished)
                if operation.decision is not None and _is_copy_of(follower, operation):
                    follower.options = operation.decision.apply(follower.options)
                    book.write(follower)
        book.leave(operation)
        operation.state = State.DONE
        book.changed()

    def tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """Everything below a tree is at its new place too.

        Args:
            operation: the rename.
            moved: by new path, the versions before and after, of the objects whose version changed.
        """
        with self._book.step():
            self._book.forget_changed(operation)
            operation.copied = True
            self._book.write(operation)
            rebase(self._book, operation, moved)

    def retry_later(self, operation: Operation, not_before: float, error: str) -> None:
        """An attempt failed and may succeed later."""
        operation.attempts += 1
        operation.not_before = not_before
        operation.error = error
        self._book.running.discard(operation)
        self._book.ready.add(operation)

    def park(self, operation: Operation, error: str) -> Operation | None:
        """An operation was refused for good: keep it, with its data, unless a later change takes its place.

        Returns:
            The operation, if it is given up.
        """
        with self._book.step():
            self._book.turn(operation, State.PARKED)
            operation.decision = None  # perhaps it was what the store refused
            operation.error = error
            self._book.write(operation)
            given_up = supersede(self._book, operation)  # else what follows would wait for nothing
        self._book.running.discard(operation)
        self._book.changed()
        return given_up

    def divert(self, operation: Operation, path: str) -> tuple[list[Operation], str]:
        """Give a conflicted operation, and what is queued behind it about the same content, another path.

        Returns:
            All that got one, and where the old path is once the directories above it have moved.
        """
        book, place, new = self._book, operation.path, path
        everything = sorted(book.order, key=lambda other: other.seq)
        waits = {other: book.order.predecessors(other) for other in everything}
        family: list[Operation] = []
        is_there = True  # until it is removed, or gets another name
        with book.step():
            operation.base = NOTHING
            for member in (one for one in everything if one.seq >= operation.seq):
                if member.kind is Kind.RENAME_TREE:
                    place, new = (moved_path(one, member.source, member.path) or one for one in (place, new))
                elif is_there and place in (member.path, member.source):
                    is_there = member.kind is not Kind.DELETE and member.source != place
                    if member.path == place:
                        member.path = new
                    else:
                        member.source = new
                    book.write(member)
                    family.append(member)
        book.reorder(waits)
        book.changed()
        return family, place


def _seal(operation: Operation) -> None:
    """What a program changes from now on is another operation's."""
    operation.state = State.SENT
    if operation.staged is not None:
        operation.staged.sealed = True


def _is_copy_of(follower: Operation, operation: Operation) -> bool:
    """Whether a follower stores an uploaded object once more, with other attributes or elsewhere."""
    is_copy = follower.kind in (Kind.SET, Kind.RENAME) and not operation.directory
    return is_copy and (follower.source or follower.path) == operation.path
