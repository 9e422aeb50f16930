"""The folder of all staged files of a mount, under one budget. What is on disk is described in FORMAT.md."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from objfs_cache.extents import Extents
from objfs_cache.staged import NoSpaceError, StagedFile, StagedState, clear_rest, without_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from objfs_cache.journal import Journal

log = logging.getLogger(__name__)

FREE_CHECK_BYTES = 8 * 1024 * 1024  # free disk is looked at at least once per so many staged bytes
JOURNAL_ROOM_BYTES = 16 * 1024 * 1024  # the journal and its WAL must always be able to grow a little


class Staging:
    """All staged files of one mount, under one budget."""

    def __init__(
        self,
        path: Path,
        *,
        budget_bytes: int,
        floor_fraction: float,
        next_id: int,
        journal: Journal | None = None,
    ) -> None:
        self._path = path
        self._budget_bytes = budget_bytes
        self._floor_fraction = floor_fraction
        self._ids = itertools.count(next_id)
        self._journal = journal
        self._used_bytes = 0
        self._doomed: list[Path] = []
        self._until_check_bytes = 0

    @property
    def path(self) -> Path:
        """The staging folder."""
        return self._path

    @property
    def used_bytes(self) -> int:
        """Staged bytes on disk."""
        return self._used_bytes

    @property
    def budget_bytes(self) -> int:
        """Most staged bytes."""
        return self._budget_bytes

    def room_bytes(self, clean_bytes: int) -> int:
        """Bytes that may still be staged, with so many of clean data on the same disk, that would give way.

        Raises:
            OSError: the disk cannot be asked.
        """
        return max(0, min(self._budget_bytes - self._used_bytes, self._room_bytes() + clean_bytes))

    def set_budget(self, budget_bytes: int) -> None:
        """Change the budget; what is staged stays."""
        self._budget_bytes = budget_bytes

    def create(self) -> StagedFile:
        """A new, empty staged file."""
        file_id = next(self._ids)
        path = self._file_path(file_id)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return StagedFile(self, file_id, path, os.open(path, flags, 0o600))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError from error
            raise without_folder(error) from error

    def reopen(self, state: StagedState) -> StagedFile:
        """The staged file of a journal record, after a restart.

        Raises:
            OSError: the file is gone or shorter than its record says.
        """
        path = self._file_path(state.file_id)
        staged = StagedFile(self, state.file_id, path, -1)
        staged.extents = Extents(state.extents)
        staged.length = state.length
        staged.base_limit = state.base_limit
        if state.fsynced:
            staged.mark_synced(staged.moment())
        else:
            staged.durable = state.durable
        last = max((stop for _, stop in state.extents), default=0)
        if path.stat().st_size < last:
            raise OSError(errno.EIO, f"staged file {path.name} is shorter than journaled")
        clear_rest(path, staged.extents, last, state.length)
        self.account(staged.extents.total_bytes)
        return staged

    def lost(self, state: StagedState) -> StagedFile:
        """Stands for a file whose bytes were lost or torn: reading it is an error."""
        staged = StagedFile(self, state.file_id, self._file_path(state.file_id), -1)
        staged.extents = Extents(state.extents)
        staged.length = state.length
        staged.base_limit = state.base_limit
        staged.sealed = staged.is_lost = True
        self.account(staged.extents.total_bytes)
        return staged

    def doom(self, path: Path) -> None:
        """Have a file deleted by the next `sweep` or at the next start: that takes long for a large one."""
        self._doomed.append(path)

    @property
    def has_doomed(self) -> bool:
        """Whether there is something to sweep."""
        return bool(self._doomed)

    def sweep(self) -> None:
        """Delete what was given up. Blocks; any thread, several at once too.

        The journal comes first: a power loss must not bring back a row whose bytes are gone.
        """
        paths: list[Path] = []
        with suppress(IndexError):
            while True:
                paths.append(self._doomed.pop())
        try:
            if self._journal is not None:
                self._journal.sync()
        except OSError as error:
            log.warning("staged files that have served are kept: %s", error)
            self._doomed += paths
            return
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s is left until the next start: %s", path, error.strerror)

    def reserve(self, length: int) -> None:
        """Raise NoSpaceError unless `length` more bytes fit the budget and leave the floor of free disk."""
        if self._used_bytes + length > self._budget_bytes:
            raise NoSpaceError
        self._until_check_bytes -= length
        if self._until_check_bytes <= 0:
            room = self._room_bytes() - length
            if room < 0 and self._doomed:
                self.sweep()
                room = self._room_bytes() - length
            if room < 0:
                self._until_check_bytes = 0
                raise NoSpaceError
            self._until_check_bytes = min(FREE_CHECK_BYTES, room // 2)

    def _room_bytes(self) -> int:
        """Free disk above the floor."""
        disk = os.statvfs(self._path)
        total = disk.f_blocks * disk.f_frsize
        floor = max(total * self._floor_fraction, min(JOURNAL_ROOM_BYTES, total / 4))
        return int(disk.f_bavail * disk.f_frsize - floor)

    def account(self, more_bytes: int) -> None:
        """Count staged bytes that came (or, negative, went)."""
        self._used_bytes += more_bytes

    def _file_path(self, file_id: int) -> Path:
        return self._path / f"{file_id:016x}"


@contextmanager
def open_staging(
    path: Path,
    *,
    budget_bytes: int,
    floor_fraction: float,
    referenced: Iterable[int],
    journal: Journal | None = None,
) -> Iterator[Staging]:
    """The staging folder; files that no journal record refers to are deleted first.

    Args:
        path: the staging folder.
        budget_bytes: most staged bytes.
        floor_fraction: share of the disk to leave free, 0 to 1.
        referenced: file ids that the journal refers to, durably.
        journal: tells when files may be deleted; without one they are at once.
    """
    wanted = set(referenced)
    greatest = max(wanted, default=0)
    for entry in os.scandir(path):
        try:
            file_id = int(entry.name, 16)
        except ValueError:
            continue
        if file_id not in wanted:
            os.unlink(entry.path)
    staging = Staging(
        path,
        budget_bytes=budget_bytes,
        floor_fraction=floor_fraction,
        next_id=greatest + 1,
        journal=journal,
    )
    try:
        yield staging
    finally:
        staging.sweep()
