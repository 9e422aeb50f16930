"""The executor: takes operations from the ledger and carries them to the store, in parallel.

Life of an operation: waiting (may be coalesced) -> sent (requests may have taken effect) -> done, or parked
when the store refuses it for good. A failure that may pass sends it back to the ledger with a later start.
While the store is away, one operation at a time probes it.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.errors import ObjectStoreError, PreconditionFailedError
from objfs.store.stalls import LOOK_S, Errand, running
from objfs.upload.book import Book
from objfs.upload.deadline import DeadlineStore
from objfs.upload.executor import Executor
from objfs.upload.ledger import Ledger
from objfs.upload.lookups import find_ours
from objfs.upload.operations import NOTHING, Base, Kind, Operation, State, from_record
from objfs.upload.outcomes import Outcomes
from objfs.upload.pacing import Pace
from objfs.upload.progress import Progress
from objfs.upload.rules import RuleSet
from objfs.upload.status import Counts, ParkedOperation, UploadStatus
from objfs.upload.transfer import Transfer
from objfs.upload.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import PutOptions, Version
    from objfs.upload.observer import Observer
    from objfs_cache.journal import Journal
    from objfs_cache.metadata import MetadataCache
    from objfs_cache.staging import Staging

log = logging.getLogger(__name__)

STALLED_MAX = 48  # batches that the store has stalled on, beside those whose turn it is; each holds threads


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """How eagerly changes go out.

    Attributes:
        delay_s: rest of a change before it is sent, so that renames and deletes save requests.
        parallel_operations: operations under way at a time.
        parallel_parts: requests with more than 1 MiB of body at a time.
        rules: how files are stored.
    """

    delay_s: float = 2.0
    parallel_operations: int = 16
    parallel_parts: int = 4
    rules: RuleSet = field(default_factory=RuleSet)


class Uploader:
    """Runs the ledger's operations. Made by `open_uploader`."""

    def __init__(self, store: AsyncObjectStore, book: Book, settings: UploadSettings) -> None:
        self.ledger = Ledger(book)
        self._store = store
        self._slots = settings.parallel_operations
        self._progress = Progress(book)
        self._counts = Counts()
        self._uploads = Uploads(store, book.journal, self._wake)
        self._transfer = Transfer(
            store,
            parallel_parts=settings.parallel_parts,
            uploads=self._uploads,
            on_bytes=self._count_bytes,
        )
        self._changed = trio.Event()
        self._outcomes = Outcomes(store, self.ledger, self._progress, self._counts)
        self._executor = Executor(
            store,
            self._transfer,
            self._progress,
            self._outcomes,
            self._counts,
            parallel_copies=settings.parallel_operations,
            rules=settings.rules,
        )
        self._drainers = 0
        self._settlers = 0
        self._under_way: dict[Errand, list[Operation]] = {}  # batches
        self._wakes_at = math.inf
        book.subscribe(self._book_changed)

    # -- for the mount ------------------------------------------------------------------------------

    @property
    def observer(self) -> Observer:
        """Who is told what becomes of changes."""
        return self._outcomes.observer

    @observer.setter
    def observer(self, observer: Observer) -> None:
        self._outcomes.observer = observer

    def status(self) -> UploadStatus:
        """Figures of this moment."""
        operations = list(self.ledger)
        files = [operation for operation in operations if operation.kind is Kind.PUT]
        return UploadStatus(
            waiting_files=len(files),
            waiting_operations=len(operations),
            waiting_bytes=sum(operation.size_bytes for operation in files),
            in_flight_files=sum(batch[0].kind is Kind.PUT for batch in self._under_way.values()),
            uploaded_files=self._counts.uploaded_files,
            uploaded_bytes=self._counts.uploaded_bytes,
            conflicts=self._counts.conflicts,
            parked=tuple(
                ParkedOperation(
                    path=operation.path,
                    kind=operation.kind.told,
                    error=self._reason(operation),
                    size_bytes=operation.size_bytes,
                )
                for operation in operations
                if operation.state is State.PARKED
            ),
            offline_since_s=self._outcomes.outage.since_s,
            last_error=self._outcomes.last_error,
        )

    async def drain(self) -> None:
        """Send everything without delay; returns when only parked operations and their followers wait.

        What waits now is sent as it is now, whatever programs write meanwhile.
        """
        self.hurry(self.ledger)
        self._drainers += 1
        self._wake()
        try:
            while not self._idle():
                await self._changed.wait()
        finally:
            self._drainers -= 1

    def hurry(self, operations: Iterable[Operation]) -> list[Operation]:
        """See `Progress`."""
        return self._progress.hurry(operations)

    async def settle(self, operation: Operation) -> None:
        """Wait until one operation took effect.

        Raises:
            ObjectStoreError: it, or what it waits for, was refused and stays parked.
        """
        self._settlers += 1
        try:
            self.hurry([operation])
            while operation.state is not State.DONE:
                is_parked = operation.state is State.PARKED
                refused = operation if is_parked else self.ledger.obstacle(operation)
                if refused is not None:
                    raise ObjectStoreError(refused.error, key=refused.path)
                await self._changed.wait()
        finally:
            self._settlers -= 1

    async def claim(self, path: str, options: PutOptions, base: Base = NOTHING) -> Version:
        """Make an empty object where none is, or only what has expired, at once.

        Raises:
            PreconditionFailedError: there is one.
        """
        operation = Operation(kind=Kind.PUT, path=path, options=options, base=base, body=b"")
        for earlier in self.ledger.before(operation):  # what was removed here a moment ago
            await self.settle(earlier)
        try:
            return await self._transfer.put(operation)
        except PreconditionFailedError:
            ours = await find_ours(self._store, operation)
            if ours is None:
                raise
            return ours.version  # an answer was lost
        finally:
            self.ledger.forget_changed(operation)

    # -- the loop -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry operations until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._uploads.run)
            while True:
                changed = self._changed
                for batch in self._next_batches():
                    errand = Errand()
                    self._under_way[errand] = batch
                    nursery.start_soon(self._carry, batch, errand)
                self._wakes_at = self._next_start()
                with trio.move_on_at(self._wakes_at):
                    await changed.wait()

    def _pace(self) -> Pace:
        return Pace(
            self._slots,
            self._outcomes.outage,
            now=trio.current_time(),
            touched_at=self.ledger.touched_at,
            removed_at=self.ledger.removed_at,
            hurried=self._drainers > 0,
            awaited=self._settlers > 0,
        )

    def _turns_taken(self) -> int:
        """How many batches are under way, but for those that the store has stalled on."""
        now_s = time.monotonic()
        stalled = sum(errand.has_stalled(now_s) for errand in self._under_way)
        return len(self._under_way) - min(stalled, STALLED_MAX)

    def _next_start(self) -> float:
        pace, taken = self._pace(), self._turns_taken()
        if taken < pace.slots:
            return pace.begins_at(self._progress.ready)
        return trio.current_time() + LOOK_S if self._progress.has_ready() else math.inf

    def _next_batches(self) -> list[list[Operation]]:
        """Operations to start now: deletes together, everything else one by one."""
        pace = self._pace()
        room = pace.room(self._turns_taken())
        if not room:
            return []
        taken = self._progress.take_ready(
            room,
            deletes=pace.deletes(self._progress.ready.deletes),
            impatient=self._drainers > 0,
            patience_s=pace.patience_s,
        )
        batch = [operation for operation in taken if operation.kind is Kind.DELETE]
        others = [[operation] for operation in taken if operation.kind is not Kind.DELETE]
        return [batch, *others] if batch else others

    async def _carry(self, batch: list[Operation], errand: Errand) -> None:
        try:
            with running(errand):
                await self._executor.carry(batch)
        finally:
            del self._under_way[errand]
            self._wake()

    # -- parts --------------------------------------------------------------------------------------

    def _reason(self, parked: Operation) -> str:
        """Why a change is parked, and how many of the same file or tree need what it would have stored."""
        behind = self.ledger.count_behind(parked)
        return f"{parked.error} ({behind} later changes wait for it)" if behind else parked.error

    def _idle(self) -> bool:
        """Whether nothing is under way, nothing free waits, and no upload is left over."""
        return not (self._under_way or self._uploads.left_over or self._progress.has_ready())

    def _book_changed(self) -> None:
        """Wake the loop only for what is due before it looks again: programs change things often."""
        if self._settlers or self._drainers or self._next_start() < self._wakes_at:
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _count_bytes(self, sent: int) -> None:
        self._counts.uploaded_bytes += sent
        self._wake()


@asynccontextmanager
async def open_uploader(
    store: AsyncObjectStore,
    journal: Journal,
    settings: UploadSettings,
    metadata: MetadataCache | None = None,
) -> AsyncIterator[Uploader]:
    """An uploader at work for the life of the block. What is not sent at its end stays in the journal."""
    book = Book(journal, metadata, clock=trio.current_time, delay_s=settings.delay_s)
    uploader = Uploader(DeadlineStore(store), book, settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uploader.run)
        yield uploader
        nursery.cancel_scope.cancel()


def load_operations(journal: Journal, staging: Staging) -> list[Operation]:
    """The journal's operations, each with its staged file.

    A staged file that is lost, or that a power loss may have torn, leaves its operation without content;
    it is parked when its turn comes, and never sent.
    """
    operations = []
    for record in journal.load():
        operation = from_record(record)
        state = record.staged
        if state is not None and state.torn and not state.length and operation.base.version is None:
            staging.lost(state).discard()
            operation.staged = staging.create()  # a new file, still empty: there was nothing to lose
            operation.committed = operation.staged.state()
            journal.write(operation.record())
        elif state is not None and not state.torn:
            try:
                operation.staged = staging.reopen(state)
            except OSError as error:
                log.error("staged data of %r cannot be used: %s", operation.path, error)
        operations.append(operation)
    return operations
