"""The book: unfinished operations in memory and their journal rows, which change together or not at all."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from objfs.upload.operations import Operation, State, from_record
from objfs.upload.order import Order
from objfs.upload.ready import ReadyQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from objfs_cache.journal import Journal
    from objfs_cache.metadata import MetadataCache
    from objfs_cache.staged import StagedFile

_IDENTITY = (
    "kind",
    "path",
    "directory",
    "source",
    "base",
    "source_base",
    "options",
    "committed",
    "lost",
    "made",
    "bare",
    "copied",
    "seq",
)


class Book:
    """All unfinished operations of a mount: rows, order, and what may start."""

    def __init__(
        self,
        journal: Journal,
        metadata: MetadataCache | None = None,
        *,
        clock: Callable[[], float],
        delay_s: float,
    ) -> None:
        self.journal = journal
        self._metadata = metadata
        self.order = Order()
        self.ready = ReadyQueue()
        self.running: set[Operation] = set()
        self._clock = clock
        self._delay_s = delay_s
        self._is_stepping = False
        self._contents: dict[str, StagedFile | None] = {}
        self._holds: dict[str, bool] = {}
        self._states: dict[Operation, State] = {}
        self._unsealed: set[StagedFile] = set()
        self._revoked: dict[Operation, tuple[Operation, ...]] = {}
        self._on_change: Callable[[], None] = lambda: None

    def now(self) -> float:
        """Trio time."""
        return self._clock()

    def subscribe(self, on_change: Callable[[], None]) -> None:
        """Have `on_change` called after each change."""
        self._on_change = on_change

    def changed(self) -> None:
        """Tell whoever looks for work."""
        self._on_change()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Journal and memory change together: if the journal refuses, memory goes back to what it holds.

        Steps may nest; the outermost one counts.
        """
        if self._is_stepping:
            yield
            return
        self._is_stepping = True
        self._states.clear()
        self._unsealed.clear()
        self._revoked.clear()
        self._contents.clear()
        self._holds.clear()
        try:
            with self.journal.transaction():
                yield
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._is_stepping = False

    def replace_content(self, operation: Operation, staged: StagedFile | None, body: bytes | None) -> None:
        """Give an operation other content, within a step."""
        self._contents.setdefault(operation.token, operation.staged)
        operation.staged, operation.body = staged, body

    def turn(self, operation: Operation, state: State) -> None:
        """Change where an operation stands, within a step."""
        self._states.setdefault(operation, operation.state)
        operation.state = state

    def unseal(self, staged: StagedFile) -> None:
        """Let programs go on writing to a staged file of which nothing was sent, within a step."""
        if staged.sealed:
            self._unsealed.add(staged)
        staged.sealed = False

    def hold(self, operation: Operation, held: bool) -> None:
        """Hold an operation back, or not any more, within a step."""
        self._holds.setdefault(operation.token, operation.held)
        operation.held = held

    def append(self, operation: Operation, *, after: Iterable[Operation] = ()) -> None:
        """Journal a new operation, behind all others."""
        operation.seq = self.journal.next_seq()
        operation.not_before = self._clock() + self._delay_s
        self.write(operation)
        self.enter(operation, after=after)

    def write(self, operation: Operation) -> None:
        """Journal the fields of an operation that were changed."""
        self.journal.write(operation.record())
        operation.position = self.journal.position

    def strike(self, operation: Operation) -> None:
        """Remove an operation's row: from then on only the store tells of it, if anything was sent."""
        if operation.state is not State.WAITING:
            self.forget_changed(operation)
        self.journal.remove(operation.seq)

    def forget_changed(self, operation: Operation) -> None:
        """Directories in which an operation changed something are not in the store as they were kept."""
        if self._metadata is not None:
            for prefix, below in operation.changed_prefixes():
                self._metadata.forget(prefix, below=below)
        for marker in {one for path in operation.parents() for one in self.order.at(path) if one.bare}:
            marker.bare = False
            self.write(marker)

    def revoke(self, operation: Operation) -> None:
        """Take an operation back."""
        self.strike(operation)
        self._revoked.setdefault(operation, self.order.told_to_wait_for(operation))
        self.leave(operation)
        self.turn(operation, State.DONE)

    def substitute(self, operation: Operation, new: Operation) -> None:
        """Take an operation back, and journal a new one in its place: what came later waits for that."""
        self.revoke(operation)
        new.seq, new.not_before = operation.seq, self._clock()
        self.write(new)
        waits = {one: self.order.predecessors(one) for one in self.order} | {new: []}
        self.reorder({one: waits[one] for one in sorted(waits, key=lambda one: one.seq)})

    def enter(self, operation: Operation, *, after: Iterable[Operation] = ()) -> None:
        """Give an operation that is journaled already its place in the order."""
        if self.order.add(operation, after=after):
            self._free(operation)

    def leave(self, operation: Operation) -> None:
        """Take an operation out of the order, and free what waited for it."""
        self.ready.discard(operation)
        self.running.discard(operation)
        for freed in self.order.remove(operation):
            self._free(freed)

    def loosen(self, marker: Operation) -> None:
        """The directory of a marker is not new any more: what is below it need not wait."""
        marker.made = False
        self.write(marker)
        for freed in self.order.loosen(marker):
            self._free(freed)

    def settle(self, operation: Operation) -> None:
        """Let a change rest before it is sent."""
        operation.not_before = self._clock() + self._delay_s
        self.ready.reschedule(operation)

    def reorder(self, waits: Mapping[Operation, Iterable[Operation]]) -> None:
        """Enter operations anew, whose paths were changed.

        Args:
            waits: all unfinished operations, in order, each with what it has to wait for in any case.
        """
        self.order = Order()
        self.ready.clear()
        for operation, after in waits.items():
            self.enter(operation, after=after)

    def _free(self, operation: Operation) -> None:
        operation.position = self.journal.position  # what it waited for is gone from the journal
        if operation.state is not State.PARKED and operation not in self.running:
            self.ready.add(operation)

    def _roll_back(self) -> None:
        present = {operation.token: operation for operation in (*self.order, *self._revoked)}
        restored: list[Operation] = []
        for record in self.journal.load():
            before = from_record(record)
            operation = present.pop(before.token)
            for name in _IDENTITY:
                setattr(operation, name, getattr(before, name))
            operation.body = before.body
            if operation.token in self._contents:
                operation.staged = self._contents[operation.token]
            operation.held = self._holds.get(operation.token, operation.held)
            operation.state = self._states.get(operation, operation.state)
            restored.append(operation)
        for operation in present.values():
            operation.state = State.DONE
        for staged in self._unsealed:
            staged.sealed = True
        told = {one: self.order.told_to_wait_for(one) for one in restored}
        waits = told | self._revoked
        self.reorder(  # what was told to wait for one that went behind it since does not wait any more
            {
                one: [other for other in waits[one] if other in waits and other.seq < one.seq]
                for one in restored
            }
        )
