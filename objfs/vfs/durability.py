"""When staged bytes and journal rows are durable against power loss.

The order is always: data file, its directory, the row that says so, the journal. The kernel does not pass
sync(2) on to a FUSE daemon, so everything staged is made durable every few seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from objfs.store.threads import in_thread
from objfs.upload.operations import Operation, State

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from objfs.upload.ledger import Ledger
    from objfs.vfs.changes import Changes
    from objfs.vfs.nodes import FileNode
    from objfs_cache.staged import Moment, StagedFile

log = logging.getLogger(__name__)

BATCH = 200  # journal rows marked between two turns of the event loop
SINGLY_MAX = 32  # so many files are synced one by one; more by one sync of their file system
BUSY_EVERY = 6  # a file that is being written all the time is synced every so many turns only


@dataclass(frozen=True, slots=True, kw_only=True)
class _Volatile:
    """A staged file that is about to be synced, and what it holds."""

    operation: Operation
    staged: StagedFile
    moment: Moment


class Durability:
    """Makes acknowledged changes survive power loss."""

    def __init__(self, ledger: Ledger, changes: Changes, staging_path: Path) -> None:
        self._ledger = ledger
        self._changes = changes
        self._staging_path = staging_path

    async def sync_file(self, node: FileNode) -> None:
        """fsync(2) of a file. The node's lock is held by the caller.

        Its bytes may be in several staged files: one that is being sent, and later changes over it.
        """
        self._changes.commit(node)
        synced: set[Operation] = set()
        # What is refused meanwhile gives its bytes to what follows it, whose row has to tell of them, too.
        while volatile := _volatile(one for one in node.pending() if one not in synced):
            await self._sync_each(volatile)
            synced.update(one.operation for one in volatile)
        await self.sync_journal()

    async def sync_journal(self) -> None:
        """fsync(2) of a directory: all changes acknowledged so far are durable."""
        await in_thread(self._ledger.journal.sync)

    async def run(self, every_s: float) -> None:
        """Commit and sync everything staged every `every_s` seconds, until cancelled."""
        for turn in itertools.count(1):
            await trio.sleep(every_s)
            try:
                self._commit_quiet_files(every_s)
                await self.sync_everything(busy_too=turn % BUSY_EVERY == 0)
            except OSError as error:
                log.error("staged data could not be made durable: %s", error)

    async def sync_everything(self, *, busy_too: bool = True) -> None:
        """Make all journaled content durable.

        Args:
            busy_too: also of files that are being written to right now.
        """
        volatile = _volatile(one for one in self._ledger if busy_too or not one.held)
        try:
            if len(volatile) > SINGLY_MAX and await self._sync_at_once():
                await self._mark(volatile)
            else:
                await self._sync_each(volatile)
        finally:
            if not self._ledger.journal.is_durable:
                await self.sync_journal()

    async def _sync_at_once(self) -> bool:
        """Sync the file system of all staged files; where that fails, each is to be asked by itself."""
        try:
            await in_thread(_syncfs, self._staging_path)
        except OSError as error:
            log.warning("staged files are synced one by one: %s", error)
            return False
        return True

    async def _sync_each(self, volatile: list[_Volatile]) -> None:
        if not volatile:
            return
        with contextlib.ExitStack() as pins:
            for one in volatile:
                pins.enter_context(one.staged.pinned())
            errors = await in_thread(_sync_data, [one.staged for one in volatile])
            await self._mark([one for one in volatile if one.staged not in errors])
        for error in errors.values():
            raise error

    async def _mark(self, volatile: list[_Volatile]) -> None:
        """Journal what is durable now: what each file held before it was synced."""
        for start in range(0, len(volatile), BATCH):
            batch = volatile[start : start + BATCH]
            try:
                with self._ledger.step():
                    for one in batch:
                        has_it = one.operation.staged is one.staged and one.operation.state is not State.DONE
                        if has_it and one.staged.mark_synced(one.moment):
                            self._ledger.mark_durable(one.operation)
            except BaseException:
                for one in batch:
                    one.staged.synced = False  # the journal does not tell: the next sync has to
                raise
            if start + BATCH < len(volatile):
                await trio.lowlevel.checkpoint()

    def _commit_quiet_files(self, quiet_s: float) -> None:
        """Journal what open files were written; a file that is not being written any more may be uploaded."""
        now = trio.current_time()
        for node in list(self._changes.open):
            if not node.exclusively().locked():  # else a write is under way, and its bytes not yet counted
                self._changes.commit(node, held=now - node.written_at < quiet_s)


def _volatile(operations: Iterable[Operation]) -> list[_Volatile]:
    return [
        _Volatile(operation=one, staged=one.staged, moment=one.staged.moment())
        for one in operations
        if one.staged is not None and not one.staged.synced and one.state is not State.DONE
    ]


def _sync_data(files: list[StagedFile]) -> dict[StagedFile, OSError]:
    """Make each durable; returns those of which that failed, and why."""
    errors: dict[StagedFile, OSError] = {}
    for staged in files:
        try:
            staged.sync_data()
        except OSError as error:
            errors[staged] = error
    return errors


def _syncfs(path: Path) -> None:
    """syncfs(2), which Python does not offer."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", str(path))
    finally:
        os.close(descriptor)
