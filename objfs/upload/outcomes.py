"""What becomes of operations that were tried: done, to be tried again, parked, in conflict, or pointless."""

from __future__ import annotations

import errno
import logging
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from objfs.errors import (
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    ObjectStoreError,
    PermissionDeniedError,
    PreconditionFailedError,
    QuotaExceededError,
    StaleVersionError,
)
from objfs.upload.conflicts import conflict_path
from objfs.upload.expiry import has_expired
from objfs.upload.lookups import find, find_ours, is_ours, is_superseded
from objfs.upload.observer import NoObserver, Observer
from objfs.upload.operations import NOTHING, Base, Kind, Operation
from objfs.upload.outage import AWAY, HOPELESS_ATTEMPTS, Outage, back_off_s

if TYPE_CHECKING:
    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ObjectInfo, Version
    from objfs.upload.ledger import Ledger
    from objfs.upload.progress import Progress
    from objfs.upload.status import Counts

log = logging.getLogger(__name__)

QUICK_ATTEMPTS = 3  # answers to a condition that was settled since are not waited for, unless they go on
REFUSALS = (PermissionDeniedError, InvalidRequestError, NotSupportedError, QuotaExceededError)
WANTS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # there may be more soon
WITH_TOKEN = (Kind.PUT, Kind.MARKER, Kind.SET)  # one object tells whether they took effect


class Outcomes:
    """Notes outcomes in the book, and tells the observer."""

    def __init__(self, store: AsyncObjectStore, ledger: Ledger, progress: Progress, counts: Counts) -> None:
        self.observer: Observer = NoObserver()
        self.outage = Outage()
        self.last_error: str | None = None
        self._store = store
        self._ledger = ledger
        self._progress = progress
        self._counts = counts

    def succeeded(self, operation: Operation, version: Version | None) -> None:
        """It took effect; `version` is what is under its key now."""
        self.outage.ended()
        self.last_error = None
        self._progress.finish(operation, NOTHING if version is None else Base(version=version))
        self.observer.done(operation, version)
        log.info("%s %r done", operation.kind.told, operation.path)

    async def sort_out(self, operation: Operation, error: BaseException) -> None:
        """Decide what a failed attempt means."""
        if isinstance(error, PreconditionFailedError) and operation.kind is not Kind.RENAME_TREE:
            await self._precondition_failed(operation, error)
        elif isinstance(error, (NotFoundError, StaleVersionError)) and operation.kind is Kind.PUT:
            await self._upload_lost(operation, error)
        elif isinstance(error, REFUSALS) and operation.kind in WITH_TOKEN:
            await self._refused(operation, error)
        elif isinstance(error, (ObjectStoreError, StaleVersionError, OSError, EOFError, ValueError)):
            self.failed(operation, error)
        else:
            log.error("upload of %r failed by a bug", operation.path, exc_info=error)
            self._park(operation, f"internal error: {error}")

    async def _refused(self, operation: Operation, error: ObjectStoreError) -> None:
        """An attempt before this one may have taken effect: its answer, or a life, was lost."""
        try:
            ours = await find_ours(self._store, operation)
        except ObjectStoreError:
            ours = None
        if ours is None:
            self.failed(operation, error)
        else:
            self.succeeded(operation, ours.version)

    def failed(self, operation: Operation, error: Exception) -> None:
        """An attempt failed, by itself or with others."""
        text = str(error) or type(error).__name__
        if isinstance(error, NotFoundError) and operation.kind in (Kind.SET, Kind.RENAME):
            left = NOTHING if operation.kind is Kind.SET else operation.base
            self.vanished(operation, "somebody deleted the object", left)
            return
        if isinstance(error, (*REFUSALS, StaleVersionError, ValueError)) or _is_damage(error):
            log.error("%s %r is refused and parked: %s", operation.kind.told, operation.path, text)
            self._park(operation, text)
            return
        now = trio.current_time()
        if isinstance(error, AWAY):
            self.outage.failed(now, text)
        else:
            operation.faults += 1
            if operation.faults > HOPELESS_ATTEMPTS:
                log.error(
                    "%s %r fails again and again and is parked: %s", operation.kind.told, operation.path, text
                )
                self._park(operation, text)
                return
        self.last_error = text
        self._progress.retry_later(operation, now + back_off_s(operation.attempts), text)
        log.info("%s %r will be tried again: %s", operation.kind.told, operation.path, text)

    def vanished(self, operation: Operation, why: str, left: Base) -> None:
        """What the operation was about is gone from the store; there is nothing of ours to keep.

        Args:
            operation: the one that is given up.
            why: for the log.
            left: what its followers may expect under its destination: never what somebody else put there.
        """
        log.warning("%s %r has nothing to act on: %s", operation.kind.told, operation.path, why)
        self._progress.finish(operation, left, vanished=True)
        self.observer.done(operation, None)

    def copied_beside(self, key: str, path: str) -> None:
        """An object of a renamed directory is kept beside one that somebody else put at its new place."""
        self._counts.conflicts += 1
        log.warning("conflict: somebody changed %r first; our version is kept as %r", key, path)

    async def _precondition_failed(self, operation: Operation, error: PreconditionFailedError) -> None:
        """Somebody was first: ourselves (a lost answer), somebody else, or somebody who deleted it."""
        is_rename = operation.kind is Kind.RENAME
        try:
            found = await find(self._store, operation.key)
            source = await find(self._store, operation.source) if is_rename else None
        except ObjectStoreError as failure:
            self.failed(operation, failure)
            return
        source_is_gone = is_rename and (
            source is None or operation.source_base.version not in (None, source.version)
        )
        if found is not None and is_ours(found, operation) and not is_rename:
            self.succeeded(operation, found.version)
        elif operation.lacks_base and not _is_base(found, operation):
            await self._base_lost(operation, found)
        elif operation.kind is Kind.SET or source_is_gone:
            self.vanished(operation, "somebody replaced the object", operation.base)
        elif found is None or self._is_free(found, operation):
            version = None if found is None else found.version
            operation.base = replace(operation.base, version=version, absent=found is None)
            self._progress.save(operation)
            wait_s = 0.0 if operation.attempts < QUICK_ATTEMPTS else back_off_s(operation.attempts)
            self._progress.retry_later(operation, trio.current_time() + wait_s, str(error))
        else:
            self._conflict(operation)

    def _is_free(self, found: ObjectInfo, operation: Operation) -> bool:
        """Whether what is there may be replaced: it is ours, or has expired and is nobody's."""
        is_copied = operation.kind is Kind.RENAME and is_ours(found, operation)
        return is_copied or is_superseded(found, operation) or has_expired(found)

    async def _upload_lost(self, operation: Operation, error: NotFoundError | StaleVersionError) -> None:
        """The multipart upload is gone: completed by a request whose answer was lost, or given up.

        Or what it copies from is gone.
        """
        try:
            found = await find(self._store, operation.key)
        except ObjectStoreError as failure:
            self.failed(operation, failure)
            return
        if found is not None and is_ours(found, operation):
            self.succeeded(operation, found.version)
        elif operation.lacks_base and not _is_base(found, operation):
            await self._base_lost(operation, found)
        else:
            self.failed(operation, error)

    async def _base_lost(self, operation: Operation, found: ObjectInfo | None) -> None:
        """Somebody replaced or deleted the object that a put is a change of: keep what can be had of it."""
        try:
            await self.observer.salvage(operation)
        except (ObjectStoreError, OSError) as failure:
            self.failed(operation, failure)
            return
        missing = operation.missing_bytes
        operation.note_content()
        operation.lost = operation.lost or operation.base.version
        operation.base = NOTHING
        self._progress.save(operation)
        if found is not None:
            self._conflict(operation)
        elif not missing:
            self._progress.retry_later(operation, 0.0, "")
        if missing:
            text = (
                f"somebody replaced the object that this is a change of, and {missing} bytes of it can no "
                "longer be had; what was written is kept, 'objfs rescue' copies it"
            )
            log.error("put %r is parked: %s", operation.path, text)
            self._park(operation, text)

    def _park(self, operation: Operation, error: str) -> None:
        if self._progress.park(operation, error) is not None:
            self.observer.given_up(operation)

    def _conflict(self, operation: Operation) -> None:
        old_path = operation.path
        path = conflict_path(old_path, time.time())
        while self._ledger.is_taken(path):
            path = conflict_path(old_path, time.time(), random.randrange(2, 10_000))  # noqa: S311  # no secret
        self._counts.conflicts += 1
        family, place = self._progress.divert(operation, path)
        for member in family:
            self.observer.conflicted(member, place)
        log.warning("conflict: somebody changed %r first; our version is kept as %r", old_path, path)
        if operation.missing_bytes == 0:
            self._progress.retry_later(operation, 0.0, "")


def _is_base(found: ObjectInfo | None, operation: Operation) -> bool:
    """Whether what is there is still what the operation is a change of."""
    base = operation.base.version
    return found is not None and base is not None and found.version.etag == base.etag


def _is_damage(error: Exception) -> bool:
    """Whether the local disk failed us, for good."""
    if isinstance(error, EOFError):  # a staged file is shorter than it was
        return True
    return isinstance(error, OSError) and error.errno not in WANTS
