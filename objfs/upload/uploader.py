"""The executor: takes operations from the ledger and carries them to the store, in parallel.

Life of an operation: waiting (may be coalesced) -> sent (requests may have taken effect) -> done, or parked
when the store refuses it for good. A failure that may pass sends it back to the ledger with a later start.
While the store is away, one operation at a time probes it.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import random
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from objfs.errors import (
    BucketNotFoundError,
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    ObjectStoreError,
    PermissionDeniedError,
    PreconditionFailedError,
    QuotaExceededError,
    StaleVersionError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
    first_error,
)
from objfs.store.values import ANY, ObjectInfo, Version
from objfs.upload.ledger import Ledger
from objfs.upload.operations import (
    NOTHING,
    TOKEN_METADATA,
    Base,
    Kind,
    Operation,
    State,
    from_record,
)
from objfs.upload.outage import Outage, back_off_s
from objfs.upload.present import present_versions
from objfs.upload.transfer import Transfer
from objfs_cache.journal import JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import PutOptions
    from objfs_cache.journal import Journal
    from objfs_cache.staging import Staging

log = logging.getLogger(__name__)

BUSY_S = 0.25  # a program changed something so lately that it is probably not done
BUSY_PATIENCE_S = 4.0  # changes rest so much longer meanwhile
BUSY_OPERATIONS = 3  # under way meanwhile: programs first, they share processor and interpreter with uploads
DELETE_BATCH = 1000  # S3: most keys of one DeleteObjects request
QUICK_ATTEMPTS = 3  # answers to a condition that was settled since are not waited for, unless they go on
NAME_MAX_BYTES = 255  # as everywhere on Linux (limits.h)
AWAY = (UnavailableError, ThrottledError, UnauthenticatedError, BucketNotFoundError)  # no fault of one key
HOPELESS_ATTEMPTS = 10  # some three minutes: then a single object's trouble stays its own
REFUSALS = (PermissionDeniedError, InvalidRequestError, NotSupportedError, QuotaExceededError)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadSettings:
    """How eagerly changes go out.

    Attributes:
        delay_s: rest of a change before it is sent, so that renames and deletes save requests.
        parallel_operations: operations under way at a time.
        parallel_parts: requests with more than 1 MiB of body at a time.
    """

    delay_s: float = 2.0
    parallel_operations: int = 16
    parallel_parts: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedOperation:
    """A change that the store refuses."""

    path: str
    kind: str
    error: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStatus:
    """What waits and what was done since the mount began. `offline_since_s` is Unix time."""

    waiting_files: int
    waiting_operations: int
    waiting_bytes: int
    in_flight_files: int
    uploaded_files: int
    uploaded_bytes: int
    conflicts: int
    parked: tuple[ParkedOperation, ...]
    offline_since_s: float | None
    last_error: str | None


class Observer(Protocol):
    """Whoever shows the tree to programs and has to know what became of its changes."""

    async def before_replace(self, operation: Operation) -> None:
        """The object at the operation's key is about to be replaced or deleted."""
        ...

    def done(self, operation: Operation, version: Version | None) -> None:
        """It took effect; `version` is what is under its key now (None: nothing)."""
        ...

    def tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """All objects of a tree are at their new keys too; versions before and after, where they changed."""
        ...

    def conflicted(self, operation: Operation, old_path: str) -> None:
        """Somebody else's object keeps the old path; ours goes to `operation.path`."""
        ...


class NoObserver:
    """For uploads without a mount: gives back staged files."""

    async def before_replace(self, operation: Operation) -> None:
        """See `Observer`."""

    def done(self, operation: Operation, version: Version | None) -> None:
        """See `Observer`."""
        if operation.staged is not None:
            operation.staged.discard()

    def tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        """See `Observer`."""

    def conflicted(self, operation: Operation, old_path: str) -> None:
        """See `Observer`."""


class Uploader:
    """Runs the ledger's operations. Made by `open_uploader`."""

    def __init__(self, store: AsyncObjectStore, ledger: Ledger, settings: UploadSettings) -> None:
        self.ledger = ledger
        self.observer: Observer = NoObserver()
        self._store = store
        self._settings = settings
        self._transfer = Transfer(
            store, parallel_parts=settings.parallel_parts, save=ledger.save, on_bytes=self._count_bytes
        )
        self._slots = settings.parallel_operations
        self._changed = trio.Event()
        self._drainers = 0
        self._in_flight: set[Operation] = set()
        self._uploaded_files = 0
        self._uploaded_bytes = 0
        self._conflicts = 0
        self._outage = Outage()
        self._last_error: str | None = None
        self._settlers = 0
        self._wakes_at = math.inf
        ledger.subscribe(self._ledger_changed)

    # -- for the mount ------------------------------------------------------------------------------

    def status(self) -> UploadStatus:
        """Figures of this moment."""
        operations = list(self.ledger)
        files = [operation for operation in operations if operation.kind is Kind.PUT]
        return UploadStatus(
            waiting_files=len(files),
            waiting_operations=len(operations),
            waiting_bytes=sum(operation.size_bytes for operation in files),
            in_flight_files=sum(1 for operation in self._in_flight if operation.kind is Kind.PUT),
            uploaded_files=self._uploaded_files,
            uploaded_bytes=self._uploaded_bytes,
            conflicts=self._conflicts,
            parked=tuple(
                ParkedOperation(
                    path=operation.path,
                    kind=operation.kind,
                    error=operation.error,
                    size_bytes=operation.size_bytes,
                )
                for operation in operations
                if operation.state is State.PARKED
            ),
            offline_since_s=self._outage.since_s,
            last_error=self._last_error,
        )

    async def drain(self) -> None:
        """Send everything without delay; returns when only parked operations and their followers wait."""
        self._drainers += 1
        self._wake()
        try:
            while not self._idle():
                await self._changed.wait()
        finally:
            self._drainers -= 1

    async def settle(self, operation: Operation) -> None:
        """Wait until one operation took effect.

        Raises:
            ObjectStoreError: it was refused; it stays parked.
        """
        self.ledger.hurry(operation)
        self._settlers += 1
        try:
            while operation.state is not State.DONE:
                if operation.state is State.PARKED:
                    raise ObjectStoreError(operation.error, key=operation.path)
                await self._changed.wait()
        finally:
            self._settlers -= 1

    async def claim(self, path: str, options: PutOptions) -> Version:
        """Make an empty object where none is, at once.

        Raises:
            PreconditionFailedError: there is one.
        """
        for operation in list(self.ledger):
            if operation.concerns(path):  # what was removed here a moment ago
                await self.settle(operation)
        operation = Operation(kind=Kind.PUT, path=path, options=options, base=NOTHING, body=b"")
        try:
            return await self._transfer.put(operation)
        except PreconditionFailedError:
            ours = await self._ours(operation)
            if ours is None:
                raise
            return ours.version  # an answer was lost

    # -- the loop -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry operations until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                for batch in self._next_batches():
                    self._in_flight.update(batch)
                    nursery.start_soon(self._carry, batch)
                self._wakes_at = self._next_start()
                with trio.move_on_at(self._wakes_at):
                    await changed.wait()

    def _next_start(self) -> float:
        start = self.ledger.next_start()
        if start is None or self._free_slots() <= 0:
            return math.inf  # a change, or a finished operation, wakes the loop
        if self._busy():
            start = min(start + BUSY_PATIENCE_S, self.ledger.touched_at + BUSY_S)
        return max(start, self._outage.probe_at, trio.current_time() + 0.01)

    def _busy(self) -> bool:
        """Whether programs are changing things, and nobody waits for uploads."""
        return not self._drainers and trio.current_time() - self.ledger.touched_at < BUSY_S

    def _free_slots(self) -> int:
        slots = self._slots
        if self._outage.lasts:
            slots = 1
        elif self._busy():
            slots = min(slots, BUSY_OPERATIONS)
        return slots - len(self._in_flight)

    def _next_batches(self) -> list[list[Operation]]:
        """Operations to start now: deletes together, everything else one by one."""
        free = self._free_slots()
        if free <= 0 or trio.current_time() < self._outage.probe_at:
            return []
        taken = self.ledger.take_ready(
            free,
            deletes=1 if self._outage.lasts else DELETE_BATCH,
            impatient=self._drainers > 0,
            patience_s=BUSY_PATIENCE_S if self._busy() else 0.0,
        )
        batch = [operation for operation in taken if operation.kind is Kind.DELETE]
        others = [[operation] for operation in taken if operation.kind is not Kind.DELETE]
        return [batch, *others] if batch else others

    async def _carry(self, batch: list[Operation]) -> None:
        try:
            if batch[0].kind is Kind.DELETE:
                await self._delete(batch)
            else:
                await self._attempt(batch[0])
        except JournalError as error:
            log.error("done, but not to be noted: %s", error)
            for operation in batch:
                if operation.state is State.SENT:  # done again later: every request may be repeated
                    self.ledger.retry_later(operation, trio.current_time() + back_off_s(3), str(error))
        finally:
            self._in_flight.difference_update(batch)
            self._wake()

    async def _attempt(self, operation: Operation) -> None:
        try:
            await self._perform(operation)
        except JournalError:
            raise
        except Exception as group:  # sorted out below; nothing may end the loop
            error = first_error(group)
            if isinstance(error, PreconditionFailedError):
                await self._precondition_failed(operation, error)
            elif isinstance(error, NotFoundError) and operation.kind is Kind.PUT:
                await self._upload_lost(operation, error)
            elif isinstance(error, (ObjectStoreError, StaleVersionError, OSError, ValueError)):
                self._failed(operation, error)
            else:
                log.exception("upload of %r failed by a bug", operation.path)
                self.ledger.park(operation, f"internal error: {error}")

    async def _perform(self, operation: Operation) -> None:
        if operation.kind is Kind.RENAME_TREE:
            await self._rename_tree(operation)
            return
        await self.observer.before_replace(operation)
        if operation.kind is Kind.PUT:
            version = await self._transfer.put(operation)
            self._uploaded_files += 1
        elif operation.kind is Kind.MARKER:
            version = await self._store.put(operation.key, b"", options=operation.stored_options())
        elif operation.kind is Kind.SET:
            version = await self._transfer.copy(
                operation.key, operation.key, operation.base.version, operation.stored_options(), ANY
            )
        else:
            version = await self._rename(operation)
        self._succeeded(operation, version)

    async def _rename(self, operation: Operation) -> Version:
        source_version = operation.source_base.version
        try:
            version = await self._transfer.copy(
                operation.source,
                operation.path,
                source_version,
                operation.stored_options(),
                operation.base.condition,
            )
        except (NotFoundError, PreconditionFailedError):
            ours = await self._ours(operation)
            if ours is None:
                raise
            version = ours.version  # copied before, and perhaps deleted: the answer, or a life, was lost
            source = await self._head(operation.source)
            if source is None or source_version not in (None, source.version):
                return version
        await self._delete_keys([operation.source])
        return version

    async def _rename_tree(self, operation: Operation) -> None:
        """Copy every object, show the new place, delete the old ones. Each step may be repeated."""
        old, new = f"{operation.source}/", f"{operation.path}/"
        present = {info.key: info.version async for info in self._walk(new)}
        copied: dict[str, Version] = {}
        moved: dict[str, tuple[Version, Version]] = {}
        limit = trio.CapacityLimiter(self._slots)

        async def copy(info: ObjectInfo) -> None:
            target = new + info.key[len(old) :]
            async with limit:
                if (operation.copied and target in present) or present.get(target) == info.version:
                    return
                version = await self._transfer.copy(info.key, target, info.version, None, ANY)
                if version != info.version:
                    moved[target] = (info.version, version)

        async with trio.open_nursery() as nursery:
            async for info in self._walk(old):
                copied[info.key] = info.version
                nursery.start_soon(copy, info)
        if not operation.copied:
            self.ledger.tree_copied(operation, moved)
            self.observer.tree_copied(operation, moved)
        await self._delete_moved(copied)
        self._succeeded(operation, None)

    async def _walk(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        token: str | None = None
        while True:
            page = await self._store.list(prefix, page=token)
            for info in page.objects:
                yield info
            token = page.next_page
            if token is None:
                return

    async def _delete(self, batch: list[Operation]) -> None:
        async with trio.open_nursery() as nursery:
            for operation in batch:
                nursery.start_soon(self.observer.before_replace, operation)
        try:
            batch = await self._without_others(batch)
            keys = [operation.key for operation in batch]
            answer = await self._store.delete(keys) if keys else []
        except Exception as group:  # sorted out below
            error = first_error(group)
            if not isinstance(error, ObjectStoreError):
                raise
            for operation in batch:
                self._failed(operation, error)
            return
        failures = {failure.key: failure.error for failure in answer}
        for operation in batch:
            failure = failures.get(operation.key)
            if failure is None:
                self._succeeded(operation, None)
            else:
                self._failed(operation, failure)

    async def _without_others(self, batch: list[Operation]) -> list[Operation]:
        """The deletes whose object is still the one that the program removed; a short window remains."""
        files = [one.key for one in batch if one.base.version is not None and not one.directory]
        found = await present_versions(self._store, files)
        ours: list[Operation] = []
        for operation in batch:
            base, version = operation.base.version, found.get(operation.key)
            if base is None or version is None or base.etag == version.etag:
                ours.append(operation)
            else:
                self._vanished(operation, "somebody replaced the object", operation.base)
        return ours

    async def _delete_moved(self, versions: Mapping[str, Version]) -> None:
        """Delete what was copied elsewhere, but not what somebody put in its place meanwhile."""
        keys = sorted(versions)
        for start in range(0, len(keys), DELETE_BATCH):
            batch = keys[start : start + DELETE_BATCH]
            found = await present_versions(self._store, batch)
            await self._delete_keys([key for key in batch if found.get(key, versions[key]) == versions[key]])

    async def _delete_keys(self, keys: Sequence[str]) -> None:
        for failure in await self._store.delete(keys) if keys else ():
            raise failure.error

    # -- outcomes -----------------------------------------------------------------------------------

    def _succeeded(self, operation: Operation, version: Version | None) -> None:
        self._outage.ended()
        self._last_error = None
        self.ledger.finish(operation, NOTHING if version is None else Base(version=version))
        self.observer.done(operation, version)
        log.info("%s %r done", operation.kind, operation.path)

    def _failed(self, operation: Operation, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if isinstance(error, NotFoundError) and operation.kind in (Kind.SET, Kind.RENAME):
            left = NOTHING if operation.kind is Kind.SET else operation.base
            self._vanished(operation, "somebody deleted the object", left)
            return
        if isinstance(error, (*REFUSALS, StaleVersionError, ValueError)) or _is_damage(error):
            log.error("%s %r is refused and parked: %s", operation.kind, operation.path, text)
            self.ledger.park(operation, text)
            return
        now = trio.current_time()
        if isinstance(error, AWAY):
            self._outage.failed(now, text)
        elif operation.attempts >= HOPELESS_ATTEMPTS:
            log.error("%s %r fails again and again and is parked: %s", operation.kind, operation.path, text)
            self.ledger.park(operation, text)
            return
        self._last_error = text
        self.ledger.retry_later(operation, now + back_off_s(operation.attempts), text)
        log.info("%s %r will be tried again: %s", operation.kind, operation.path, text)

    def _vanished(self, operation: Operation, why: str, left: Base) -> None:
        """What the operation was about is gone from the store; there is nothing of ours to keep.

        Args:
            operation: the one that is given up.
            why: for the log.
            left: what its followers may expect under its destination: never what somebody else put there.
        """
        log.warning("%s %r has nothing to act on: %s", operation.kind, operation.path, why)
        self.ledger.finish(operation, left)
        self.observer.done(operation, None)

    async def _precondition_failed(self, operation: Operation, error: PreconditionFailedError) -> None:
        """Somebody was first: ourselves (a lost answer), somebody else, or somebody who deleted it."""
        try:
            found = await self._head(operation.key)
            source = await self._head(operation.source) if operation.kind is Kind.RENAME else None
        except ObjectStoreError as failure:
            self._failed(operation, failure)
            return
        source_is_gone = operation.kind is Kind.RENAME and (
            source is None or operation.source_base.version not in (None, source.version)
        )
        if found is not None and _is_ours(found, operation) and operation.kind is not Kind.RENAME:
            self._succeeded(operation, found.version)
        elif operation.kind is Kind.SET or source_is_gone:
            self._vanished(operation, "somebody replaced the object", operation.base)
        elif found is None or (operation.kind is Kind.RENAME and _is_ours(found, operation)):
            operation.base = NOTHING if found is None else Base(version=found.version)
            self.ledger.save(operation)
            wait_s = 0.0 if operation.attempts < QUICK_ATTEMPTS else back_off_s(operation.attempts)
            self.ledger.retry_later(operation, trio.current_time() + wait_s, str(error))
        else:
            self._conflict(operation)

    async def _upload_lost(self, operation: Operation, error: NotFoundError) -> None:
        """The multipart upload is gone: completed by a request whose answer was lost, or given up."""
        try:
            ours = await self._ours(operation)
        except ObjectStoreError as failure:
            self._failed(operation, failure)
            return
        if ours is not None:
            self._succeeded(operation, ours.version)
        else:
            self._failed(operation, error)

    def _conflict(self, operation: Operation) -> None:
        old_path = operation.path
        path = conflict_path(old_path, time.time())
        while self.ledger.is_taken(path):
            path = conflict_path(old_path, time.time(), random.randrange(2, 10_000))  # noqa: S311  # no secret
        self._conflicts += 1
        self.ledger.divert(operation, path)
        self.observer.conflicted(operation, old_path)
        log.warning("conflict: somebody changed %r first; our version is kept as %r", old_path, path)
        self.ledger.retry_later(operation, 0.0, "")

    async def _ours(self, operation: Operation) -> ObjectInfo | None:
        found = await self._head(operation.key)
        return found if found is not None and _is_ours(found, operation) else None

    async def _head(self, key: str) -> ObjectInfo | None:
        try:
            return await self._store.head(key)
        except NotFoundError:
            return None

    # -- parts --------------------------------------------------------------------------------------

    def _idle(self) -> bool:
        """Whether nothing is under way and nothing free waits."""
        return not self._in_flight and self.ledger.next_start() is None

    def _ledger_changed(self) -> None:
        """Wake the loop only for what is due before it looks again: programs change things often."""
        if self._settlers or self._drainers or self._next_start() < self._wakes_at:
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _count_bytes(self, sent: int) -> None:
        self._uploaded_bytes += sent
        self._wake()


def _is_ours(found: ObjectInfo, operation: Operation) -> bool:
    """Whether an object is what this operation made."""
    return (found.metadata or {}).get(TOKEN_METADATA) == operation.token


def _is_damage(error: Exception) -> bool:
    """Whether the local disk failed us, for good."""
    return isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE)


def conflict_path(path: str, now_s: float, number: int = 0) -> str:
    """`name.conflict-<host>-<UTC time>[-n]` beside a path, cut to 255 bytes."""
    folder, slash, name = path.rpartition("/")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c in "-_")[:64] or "host"
    suffix = f".conflict-{host}-{stamp}" + (f"-{number}" if number else "")
    kept = os.fsencode(name)[: NAME_MAX_BYTES - len(os.fsencode(suffix))]
    return f"{folder}{slash}{kept.decode(errors='ignore')}{suffix}"


@asynccontextmanager
async def open_uploader(
    store: AsyncObjectStore, journal: Journal, settings: UploadSettings
) -> AsyncIterator[Uploader]:
    """An uploader at work for the life of the block. What is not sent at its end stays in the journal."""
    ledger = Ledger(journal, clock=trio.current_time, delay_s=settings.delay_s)
    uploader = Uploader(store, ledger, settings)
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
        if state is not None and not state.torn:
            try:
                operation.staged = staging.reopen(state)
            except OSError as error:
                log.error("staged data of %r cannot be used: %s", operation.path, error)
        operations.append(operation)
    return operations
