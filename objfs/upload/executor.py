"""Carries out one operation, or one batch of deletes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import trio

from objfs.errors import (
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    first_error,
)
from objfs.store.values import ANY
from objfs.upload.lookups import find, find_ours, is_superseded
from objfs.upload.operations import Kind, Operation, State
from objfs.upload.outage import AWAY, back_off_s
from objfs.upload.present import present_versions
from objfs.upload.removal import delete_keys
from objfs.upload.rules import Decision
from objfs.upload.trees import move_tree
from objfs_cache.journal import JournalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import Version
    from objfs.upload.operations import Base
    from objfs.upload.outcomes import Outcomes
    from objfs.upload.progress import Progress
    from objfs.upload.rules import RuleSet
    from objfs.upload.status import Counts
    from objfs.upload.transfer import Transfer

log = logging.getLogger(__name__)


class Executor:
    """Sends requests, and hands what came of them to `Outcomes`. Knows nothing of order or pace."""

    def __init__(
        self,
        store: AsyncObjectStore,
        transfer: Transfer,
        progress: Progress,
        outcomes: Outcomes,
        counts: Counts,
        *,
        parallel_copies: int,
        rules: RuleSet,
    ) -> None:
        self._store = store
        self._transfer = transfer
        self._progress = progress
        self._outcomes = outcomes
        self._counts = counts
        self._parallel_copies = parallel_copies
        self._rules = rules

    async def carry(self, batch: list[Operation]) -> None:
        """Carry out deletes together, or one operation of another kind."""
        try:
            await self._progress.write_ahead(batch)
            if batch[0].kind is Kind.DELETE:
                await self._delete(batch)
            else:
                await self._attempt(batch[0])
        except Exception as group:  # nothing may end the loop
            error = first_error(group)
            if isinstance(error, JournalError):
                log.error("done, but not to be noted: %s", error)
            else:
                log.error("failed by a bug", exc_info=group)
            for operation in batch:
                if operation.state is State.SENT:  # done again later: every request may be repeated
                    self._progress.retry_later(operation, trio.current_time() + back_off_s(3), str(error))

    async def _attempt(self, operation: Operation) -> None:
        key = operation.key
        try:
            await self._perform(operation)
        except Exception as group:  # sorted out there; nothing may end the loop
            error = first_error(group)
            if isinstance(error, JournalError):  # of copies made side by side, too
                raise error from group
            await self._outcomes.sort_out(operation, error)
        if operation.state is not State.SENT or operation.key != key:
            self._transfer.give_up(key)

    async def _perform(self, operation: Operation) -> None:
        if operation.kind is Kind.RENAME_TREE:
            await move_tree(
                self._store,
                self._transfer.copies,
                operation,
                self._tree_copied,
                self._outcomes.copied_beside,
                parallel=self._parallel_copies,
            )
            self._outcomes.succeeded(operation, None)
            return
        await self._outcomes.observer.before_replace(operation)
        if operation.kind is Kind.PUT:
            self._decide(operation)
            version = await self._transfer.put(operation)
            self._counts.uploaded_files += 1
        elif operation.kind is Kind.MARKER:
            version = await self._store.put(operation.key, b"", options=operation.stored_options())
        elif operation.kind is Kind.SET:
            _check_there(operation.base, operation.key)
            version = await self._transfer.copies.make(
                operation.key, operation.key, operation.base.version, operation.stored_options(), ANY
            )
        else:
            version = await self._rename(operation)
        self._outcomes.succeeded(operation, version)

    def _decide(self, operation: Operation) -> None:
        """Decide how the object is stored, once: whoever repeats the upload does the same."""
        if operation.decision is None:
            operation.decision = self._rules.decide(
                operation.path, operation.size_bytes, operation.options, time.time_ns()
            )
            if operation.decision != Decision():
                self._progress.save(operation)

    async def _rename(self, operation: Operation) -> Version:
        source_base = operation.source_base
        try:
            _check_there(source_base, operation.source)
            version = await self._transfer.copies.make(
                operation.source,
                operation.path,
                source_base.version,
                operation.stored_options(),
                operation.base.condition,
            )
        except (NotFoundError, PreconditionFailedError, PermissionDeniedError):
            ours = await find_ours(self._store, operation)
            if ours is None:
                raise
            version = ours.version  # copied before, and perhaps deleted: the answer, or a life, was lost
            source = await find(self._store, operation.source)
            if source is None or source_base.is_nothing:
                return version
            if source_base.version not in (None, source.version):
                return version
        await delete_keys(self._store, [operation.source])
        return version

    def _tree_copied(self, operation: Operation, moved: Mapping[str, tuple[Version, Version]]) -> None:
        self._progress.tree_copied(operation, moved)
        self._outcomes.observer.tree_copied(operation, moved)

    async def _delete(self, batch: list[Operation]) -> None:
        async with trio.open_nursery() as nursery:
            for operation in batch:
                nursery.start_soon(self._outcomes.observer.before_replace, operation)
        try:
            batch = await self._without_others(batch)
            keys = [operation.key for operation in batch]
            answer = await self._store.delete(keys) if keys else []
        except Exception as group:  # sorted out below
            error = first_error(group)
            if isinstance(error, JournalError) or not isinstance(error, Exception):
                raise
            left = [one for one in batch if one.state is State.SENT]  # nobody is told twice
            middle = len(left) // 2
            if middle and not isinstance(error, AWAY):  # what is wrong with one name stays its own
                await self._delete(left[:middle])
                await self._delete(left[middle:])
                return
            for operation in left:
                self._outcomes.failed(operation, error)
            return
        failures = {failure.key: failure.error for failure in answer}
        for operation in batch:
            failure = failures.get(operation.key)
            if failure is None:
                self._outcomes.succeeded(operation, None)
            else:
                self._outcomes.failed(operation, failure)

    async def _without_others(self, batch: list[Operation]) -> list[Operation]:
        """The deletes whose object is still the one that the program removed; a short window remains."""
        files = [one for one in batch if not one.directory and not one.base.is_unknown]
        found = await present_versions(self._store, [one.key for one in files])
        ours: list[Operation] = []
        for operation in batch:
            version = found.get(operation.key)
            if version is None or _is_base(operation, version) or await self._is_left(operation):
                ours.append(operation)
            else:
                self._outcomes.vanished(operation, "somebody replaced the object", operation.base)
        return ours

    async def _is_left(self, operation: Operation) -> bool:
        """Whether what is there was stored by a refused operation whose place this one took."""
        if not operation.base.tokens:
            return False
        present = await find(self._store, operation.key)
        return present is not None and is_superseded(present, operation)


def _check_there(base: Base, key: str) -> None:
    """Act on nothing where what was to be acted on never came: what is there is somebody else's.

    Raises:
        NotFoundError: there is nothing of ours.
    """
    if base.is_nothing:
        raise NotFoundError("What was to be put there had gone before.", key=key)


def _is_base(operation: Operation, version: Version) -> bool:
    """Whether it is what the program saw when it removed it."""
    base = operation.base.version
    return base is not None and base.etag == version.etag
