"""The core without a kernel: journal, staging, uploader, reader and file system over a simulated store."""

from __future__ import annotations

import errno
import itertools
import random
import shutil
import sqlite3
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, TypeVar
from unittest import mock

import trio
import trio.testing

import objfs.drivers.memory
import objfs.upload.copies
import objfs.upload.outage
import objfs.upload.outcomes
import objfs.upload.pacing
import objfs.upload.parts
import objfs.upload.removal
import objfs.upload.transfer
import objfs.upload.trees
import objfs.vfs.attributes
import objfs.vfs.content
import objfs.vfs.pictures
import objfs.vfs.remembering
from objfs.read.reader import open_reader
from objfs.store.values import KIB
from objfs.upload.rules import RuleSet
from objfs.upload.uploader import Uploader, UploadSettings, open_uploader
from objfs.vfs.attributes import Defaults
from objfs.vfs.filesystem import FileSystem, open_filesystem
from objfs.vfs.values import VfsSettings
from objfs_cache.blocks import open_block_cache
from objfs_cache.directory import open_cache_directory
from objfs_cache.journal import Journal, JournalError, open_journal
from objfs_cache.metadata import MetadataCache, open_metadata_cache
from objfs_cache.staged import StagedFile
from objfs_cache.staging import Staging, open_staging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from objfs.store.protocol import AsyncObjectStore
    from tests.sim.store import KillSwitch

T = TypeVar("T")

DEFAULTS = Defaults(uid=1000, gid=1000)
EPOCH_NS = 1_700_000_000_000_000_000


class NullKernel:
    """A kernel that remembers nothing."""

    def invalidate_entry(self, parent_ino: int, name: str) -> None:
        """See `Kernel`."""


@dataclass
class Mount:
    """One life of a mount."""

    filesystem: FileSystem
    uploader: Uploader
    journal: Journal
    staging: Staging


@dataclass(frozen=True, kw_only=True)
class MountOptions:
    """What tests vary."""

    delay_s: float = 2.0
    parallel_operations: int = 8
    metadata_ttl_s: float = 5.0
    budget_bytes: int = 1 << 30
    cache_bytes: int = 0  # of cached blocks
    through: bool = False
    fsync: Literal["local", "remote"] = "local"
    rules: RuleSet = field(default_factory=RuleSet)
    metadata: bool = False  # a metadata cache


PLAIN = MountOptions()


@asynccontextmanager
async def mounted(
    store: AsyncObjectStore, cache: Path, options: MountOptions = PLAIN
) -> AsyncIterator[Mount]:
    """One life over the cache directory, as the composition root would build it."""
    with ExitStack() as stack:
        directory = stack.enter_context(open_cache_directory(cache))
        journal = stack.enter_context(open_journal(directory.journal_path))
        staging = stack.enter_context(
            open_staging(
                directory.staging_path,
                budget_bytes=options.budget_bytes,
                floor_fraction=0.0,
                referenced=[one.staged.file_id for one in journal.load() if one.staged is not None],
                journal=journal,
            )
        )
        blocks = (
            stack.enter_context(
                open_block_cache(directory.blocks_path, limit_bytes=options.cache_bytes, floor_fraction=0.0)
            )
            if options.cache_bytes
            else None
        )
        metadata = (
            stack.enter_context(open_metadata_cache(directory.metadata_path)) if options.metadata else None
        )
        settings = UploadSettings(
            delay_s=options.delay_s, parallel_operations=options.parallel_operations, rules=options.rules
        )
        async with (
            open_reader(store, blocks, memory_limit_bytes=1024 * KIB, block_bytes=4 * KIB) as reader,
            open_uploader(store, journal, settings, metadata) as uploader,
            open_filesystem(
                store,
                reader,
                uploader,
                staging,
                blocks,
                metadata,
                VfsSettings(
                    defaults=DEFAULTS,
                    metadata_ttl_s=options.metadata_ttl_s,
                    write_mode="through" if options.through else "back",
                    fsync=options.fsync,
                    rules=options.rules,
                ),
                NullKernel(),
            ) as filesystem,
        ):
            yield Mount(filesystem=filesystem, uploader=uploader, journal=journal, staging=staging)


@contextmanager
def small_world(seed: int) -> Iterator[None]:
    """Small limits, simulated time, no threads and one seed: the same run every time."""
    with ExitStack() as stack:

        def patch(owner: object, name: str, value: object) -> None:
            stack.enter_context(mock.patch.object(owner, name, value))

        patch(trio.to_thread, "run_sync", _run_inline)
        patch(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        trio._core._run._r.seed(seed)
        random.seed(seed)
        for module in (
            objfs.drivers.memory,
            objfs.vfs.attributes,
            objfs.upload.outcomes,
            objfs.upload.outage,
            objfs.upload.trees,
        ):
            patch(module, "time", _SIMULATED_TIME)
        patch(objfs.vfs.remembering, "KEEP_EVERY_S", 1.0)
        patch(objfs.vfs.remembering, "BATCH_ENTRIES", 3)
        patch(objfs.vfs.pictures, "TURN", 2)
        patch(objfs.upload.parts, "MIB", KIB)
        patch(objfs.upload.parts, "PART_BYTES", 16 * KIB)
        patch(objfs.upload.transfer, "MIB", 16 * KIB)
        patch(objfs.upload.transfer, "SINGLE_PUT_BYTES", 48 * KIB)
        patch(objfs.upload.transfer, "FILL_BYTES", 8 * KIB)
        patch(objfs.upload.copies, "COPY_PART_BYTES", 16 * KIB)
        patch(objfs.upload.copies, "PUT_COPY_BYTES", 2 * KIB)
        patch(objfs.upload.pacing, "MAX_DELETE_KEYS", 5)
        patch(objfs.upload.removal, "MAX_DELETE_KEYS", 5)
        patch(objfs.vfs.content, "COPY_LAYER_BYTES", 24 * KIB)
        patch(objfs.vfs.content, "INLINE_BYTES", 8 * KIB)
        yield


def run(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run under a clock that jumps whenever everybody waits."""
    with small_world(seed):
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def mortal(switch: KillSwitch) -> Iterator[None]:
    """Each write to journal or staging is a step at which the process may be killed."""
    execute, pwrite, unlink = Journal._execute, StagedFile._pwrite, StagedFile.discard
    truncate, create, locked = StagedFile.truncate, Staging.create, MetadataCache._locked

    def ticking_execute(self: Journal, sql: str, *values: object) -> list[tuple[object, ...]]:
        rows = execute(self, sql, *values)
        if not sql.startswith(("SELECT", "BEGIN", "ROLLBACK")) and not self._connection.in_transaction:
            switch.tick()
        return rows

    def ticking(method: Callable[..., T]) -> Callable[..., T]:
        def call(*args: object) -> T:
            result = method(*args)
            switch.tick()
            return result

        return call

    with (
        mock.patch.object(Journal, "_execute", ticking_execute),
        mock.patch.object(StagedFile, "_pwrite", ticking(pwrite)),
        mock.patch.object(StagedFile, "truncate", ticking(truncate)),
        mock.patch.object(StagedFile, "discard", ticking(unlink)),
        mock.patch.object(Staging, "create", ticking(create)),
        mock.patch.object(MetadataCache, "_locked", ticking(locked)),
    ):
        yield


@dataclass
class Disk:
    """The local disk, which fails now and then: no room, or no answer.

    Attributes:
        dice: of the run.
        chance: of a write to journal or staging to fail.
        calm: how many are looking what is there now, and want no failures meanwhile.
    """

    dice: random.Random
    chance: float = 0.0
    calm: int = 0

    def write(self) -> None:
        """Something is about to be written.

        Raises:
            OSError: it was not.
        """
        if self.chance and not self.calm and self.dice.random() < self.chance:
            raise OSError(self.dice.choice((errno.ENOSPC, errno.EIO)), "the disk fails")

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Let writes of journal and staging fail in the block."""
        execute, pwrite, create = Journal._execute, StagedFile._pwrite, Staging.create
        locked = MetadataCache._locked

        def failing_execute(journal: Journal, sql: str, *values: object) -> list[tuple[object, ...]]:
            if not sql.startswith(("SELECT", "ROLLBACK")):
                try:
                    self.write()
                except OSError as error:
                    raise JournalError("The journal cannot be written.", error.errno or 0) from error
            return execute(journal, sql, *values)

        def failing_pwrite(staged: StagedFile, *args: object) -> None:
            self.write()
            pwrite(staged, *args)  # type: ignore[arg-type]

        def failing_create(staging: Staging) -> StagedFile:
            self.write()
            return create(staging)

        def failing_locked(cache: MetadataCache, use: Callable[[sqlite3.Connection], T]) -> T | None:
            def failing_use(connection: sqlite3.Connection) -> T:
                try:
                    self.write()
                except OSError as error:
                    raise sqlite3.OperationalError(str(error)) from error
                return use(connection)

            return locked(cache, failing_use)

        with (
            mock.patch.object(MetadataCache, "_locked", failing_locked),
            mock.patch.object(Journal, "_execute", failing_execute),
            mock.patch.object(StagedFile, "_pwrite", failing_pwrite),
            mock.patch.object(Staging, "create", failing_create),
        ):
            yield


@dataclass
class Caches:
    """Cache directories of successive lives; a killed life leaves the next one a picture of its disk."""

    top: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.path = self.top / "cache-0"
        next(self.numbers)

    def take_picture(self) -> None:
        """What a kill at this instant would leave on the disk."""
        old, self.path = self.path, self.top / f"cache-{next(self.numbers) + 1}"
        shutil.copytree(old, self.path, ignore=shutil.ignore_patterns("*-shm", "lock"))

    def fork(self) -> Caches:
        """What a kill at this instant would leave on the disk, for a life beside this one."""
        forked = Caches(self.top / f"fork-{next(self.numbers)}")
        shutil.copytree(self.path, forked.path, ignore=shutil.ignore_patterns("*-shm", "lock"))
        return forked


async def _run_inline(call: Callable[..., T], *args: object, **_options: object) -> T:
    await trio.lowlevel.checkpoint()
    result = call(*args)
    await trio.lowlevel.checkpoint()
    return result


def _now_ns() -> int:
    try:
        return EPOCH_NS + int(trio.current_time() * 1e9)
    except RuntimeError:
        return EPOCH_NS


_SIMULATED_TIME = SimpleNamespace(
    time_ns=_now_ns, time=lambda: _now_ns() / 1e9, strftime=time.strftime, gmtime=time.gmtime
)
