"""One staged file: local bytes that are not yet in the bucket.

A staged file is sparse; its extents say which of its bytes count, the rest shows through from what lies
below (up to `base_limit`) or is zero. What is on disk is described in FORMAT.md.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from objfs_cache.directory import fsync_directory
from objfs_cache.extents import Extents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs_cache.staging import Staging

log = logging.getLogger(__name__)

_ZERO_BYTES = 1024 * 1024


class NoSpaceError(OSError):
    """The staging budget, or the disk under it, has no room."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "no room for staged data")


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedContent:
    """Which bytes of a staged file count; see `StagedState`."""

    length: int
    base_limit: int
    extents: tuple[tuple[int, int], ...]

    def cut(self, length: int) -> StagedContent:
        """What is left below a length."""
        return StagedContent(
            length=min(self.length, length),
            base_limit=min(self.base_limit, length),
            extents=tuple((start, min(stop, length)) for start, stop in self.extents if start < length),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedState:
    """What the journal records of a staged file.

    Attributes:
        file_id: name of the file in the staging folder.
        length: logical length in bytes.
        base_limit: bytes of the base that show through where nothing is staged.
        extents: staged ranges.
        fsynced: whether the file's bytes were made durable before the record was.
        torn: the machine went down before they were, so that they may be anything.
        durable: where they were not `fsynced`, what of them was made durable earlier.
        reverted: the machine went down, and this is what had been made durable of something newer.
    """

    file_id: int
    length: int
    base_limit: int
    extents: tuple[tuple[int, int], ...]
    fsynced: bool = False
    torn: bool = False
    durable: StagedContent | None = None
    reverted: bool = False

    def after_power_loss(self) -> StagedState:
        """What is left of it: all that was made durable last, or nothing that may be used."""
        if self.fsynced:
            return self
        kept = self.durable
        if kept is None:
            return replace(self, torn=True)
        return StagedState(
            file_id=self.file_id,
            length=kept.length,
            base_limit=kept.base_limit,
            extents=kept.extents,
            fsynced=True,
            reverted=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A staged file's content at a time, and how often it had been changed and made shorter until then."""

    content: StagedContent
    changes: int
    cuts: int


class StagedFile:
    """One staged file. Not thread-safe but for `sync_data`, `read` and the `path`."""

    __slots__ = (
        "_fd",
        "_has_excess",
        "_is_doomed",
        "_pins",
        "_staging",
        "base_limit",
        "changes",
        "cuts",
        "durable",
        "extents",
        "file_id",
        "is_lost",
        "is_unsafe",
        "length",
        "path",
        "sealed",
        "synced",
    )

    def __init__(self, staging: Staging, file_id: int, path: Path, fd: int) -> None:
        self._staging = staging
        self._fd = fd
        self._pins = 0
        self._is_doomed = False
        self._has_excess = False
        self.file_id = file_id
        self.path = path
        self.extents = Extents()
        self.length = 0
        self.base_limit = 0
        self.is_lost = False
        self.is_unsafe = False
        """The disk has not taken all of it, which no later success of a sync can make good."""
        self.sealed = False
        self.synced = False
        self.durable: StagedContent | None = None
        self.changes = 0
        self.cuts = 0

    @property
    def complete(self) -> bool:
        """Whether nothing of the base shows through."""
        return self.extents.covers(0, min(self.base_limit, self.length))

    def state(self) -> StagedState:
        """The file as the journal records it."""
        return StagedState(
            file_id=self.file_id,
            length=self.length,
            base_limit=self.base_limit,
            extents=tuple(self.extents),
            fsynced=self.synced,
            durable=None if self.synced else self.durable,
        )

    def moment(self) -> Moment:
        """What counts now, for `mark_synced`."""
        content = StagedContent(length=self.length, base_limit=self.base_limit, extents=tuple(self.extents))
        return Moment(content=content, changes=self.changes, cuts=self.cuts)

    def mark_synced(self, then: Moment) -> bool:
        """Note that `sync_data` was called and returned since a moment; returns whether that is worth noting.

        What was written since is not durable, what was cut off since is not there any more.
        """
        if self.is_unsafe or self.cuts != then.cuts:
            return False
        self.durable = then.content
        self.synced = self.changes == then.changes
        return True

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write, or raise NoSpaceError with nothing acknowledged."""
        self.begin_write(len(data))
        self.write_bytes(offset, data)
        self.end_write(offset, len(data))

    def begin_write(self, length: int) -> None:
        """Make sure that there is room; `write_bytes` and `end_write`, or `take_back`, follow.

        Raises:
            NoSpaceError: there is none.
        """
        assert not self.sealed, "a sealed staged file is being uploaded"  # noqa: S101  # a bug, never input
        self._staging.reserve(length)

    def write_bytes(self, offset: int, data: bytes | memoryview) -> None:
        """The part of a write that blocks. Any thread, one at a time."""
        self.trim()
        self._pwrite(offset, data)

    def take_back(self, offset: int, length: int) -> None:
        """A write failed half-way: where nothing is staged, there are zeros again."""
        for start, stop, is_staged in self.extents.pieces(offset, offset + length):
            if not is_staged:
                _clear_range(self._descriptor(), start, stop)

    def end_write(self, offset: int, length: int) -> None:
        """Count what was written."""
        stop = offset + length
        self._staging.account(self.extents.add(offset, stop))
        self.length = max(self.length, stop)
        self._changed()

    def mark_filled(self, offset: int, length: int) -> None:
        """Count filled bytes as staged; allowed on sealed files, whose content stays the same."""
        self._staging.account(self.extents.add(offset, offset + length))
        self._changed()

    def truncate(self, length: int) -> None:
        """Set the length; bytes beyond the old one read as zeros.

        A shorter length is journaled before the file itself is cut, which `trim` or the next change does: a
        crash in between leaves what the journal tells of. Where bytes were made `durable`, that has to be so
        for the loss of power, too.
        """
        if length < self.length:
            before = self.extents.total_bytes
            self.extents.cut(length)
            self._staging.account(self.extents.total_bytes - before)
            self.base_limit = min(self.base_limit, length)
            self._has_excess = True
            self.cuts += 1
            if self.durable is not None:
                self.durable = self.durable.cut(length)
        else:
            self.trim()
            os.ftruncate(self._descriptor(), length)
        self.length = length
        self._changed()

    @contextmanager
    def or_as_before(self) -> Iterator[None]:
        """A length that is set in the block, and not `trim`med to, stays only if the block ends well."""
        before = (
            self.state(),
            self.durable,
            self.synced,
            self._has_excess,
            self.changes,
            self.cuts,
            self.sealed,
        )
        try:
            yield
        except BaseException:
            state, self.durable, self.synced, self._has_excess, self.changes, self.cuts, self.sealed = before
            self.length, self.base_limit = state.length, state.base_limit
            self._staging.account(-self.extents.total_bytes)
            self.extents = Extents(state.extents)
            self._staging.account(self.extents.total_bytes)
            raise

    def trim(self) -> None:
        """Cut off what is beyond the length."""
        if self._has_excess:
            os.ftruncate(self._descriptor(), self.length)
            self._has_excess = False

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the local file; zeros where it has none.

        Raises:
            OSError: staged bytes are not there any more.
        """
        data = os.pread(self._descriptor(), length, offset)
        if len(data) == length:
            return data
        missing = self.extents.pieces(offset + len(data), offset + length)
        if any(is_staged for _, _, is_staged in missing):
            log.error("%s is shorter than what was staged in it: something else cut it", self.path)
            raise OSError(errno.EIO, "staged bytes were lost")
        return data + bytes(length - len(data))

    def sync_data(self) -> None:
        """Make bytes and name durable. Blocks; run in a thread.

        Raises:
            OSError: they are not. Linux tells once that writing back failed, and counts the pages as clean
                from then on, so that the next sync succeeds without them: this remembers.
        """
        descriptor = self._descriptor()
        if self.is_unsafe:
            raise OSError(errno.EIO, "the disk did not take staged bytes")
        try:
            os.fdatasync(descriptor)
        except OSError:
            self.is_unsafe = True
            raise
        fsync_directory(self.path.parent)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """The file is neither closed nor deleted within the block: somebody reads, perhaps in a thread."""
        self._pins += 1
        try:
            yield
        finally:
            self._pins -= 1
            if self._is_doomed and not self._pins:
                self.discard()

    def close(self) -> None:
        """Give the descriptor back, unless pinned; the next use opens the file again."""
        if self._fd >= 0 and not self._pins:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Give the file up, once nobody pins it: its bytes are in the bucket, or nobody wants them."""
        self._is_doomed = True
        if self._pins:
            return
        self.close()
        self._staging.account(-self.extents.total_bytes)
        self._staging.doom(self.path)

    def _changed(self) -> None:
        self.synced = False
        self.changes += 1

    def _descriptor(self) -> int:
        if self.is_lost:
            raise OSError(errno.EIO, "the staged bytes were lost")
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError as error:
                raise without_folder(error) from error
        return self._fd

    def _pwrite(self, offset: int, data: bytes | memoryview) -> None:
        descriptor = self._descriptor()
        try:
            write_all(descriptor, data, offset)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpaceError from error
            raise


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """A disk that becomes full takes the first bytes of a write, and refuses only the next."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


def without_folder(error: OSError) -> OSError:
    """A missing file or folder of ours is an error of the disk; programs would take ENOENT for their own."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return error
    log.error("the staging folder, or a file in it, was deleted while it was in use: %s", error)
    return OSError(errno.EIO, "staged data was deleted")


def clear_rest(path: Path, extents: Extents, last: int, length: int) -> None:
    """Zero what was written after the last journal entry: never acknowledged, it must not be uploaded."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.ftruncate(descriptor, last)
        os.ftruncate(descriptor, length)
        for start, stop, is_staged in extents.pieces(0, last):
            if not is_staged:
                _clear_range(descriptor, start, stop)
    finally:
        os.close(descriptor)


def _clear_range(descriptor: int, start: int, stop: int) -> None:
    while start < stop:
        try:
            first = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from here on
                return
            raise
        start = min(os.lseek(descriptor, first, os.SEEK_HOLE), first + _ZERO_BYTES, stop)
        if first < start:
            os.pwrite(descriptor, bytes(start - first), first)
