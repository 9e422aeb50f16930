"""The life of one mount: serving, being asked how it is, and leaving in order."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from typing import TYPE_CHECKING, Literal, Protocol

import trio

from objfs import __version__
from objfs.control.values import (
    CacheStatus,
    DrainProgress,
    MountStatus,
    StoreStatus,
    drain_progress,
    shorten,
    uploads_status,
)
from objfs.errors import MountError, ObjectStoreError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from objfs.config import MountSettings
    from objfs.store.protocol import AsyncObjectStore
    from objfs.upload.status import UploadStatus
    from objfs.upload.uploader import Uploader
    from objfs_cache.staging import Staging

log = logging.getLogger("objfs.life")

STATUS_CHECK_TIMEOUT_S = 3.0  # a status is looked at by people
SYNC_TIMEOUT_S = 10.0  # pages of shared maps on their way to staging, which is local disk
BUSY_GRACE_S = 2.0  # for what programs with open files have under way after a lazy unmount


class Session(Protocol):
    """The kernel's side of the mount."""

    async def serve(self) -> None:
        """Answer the kernel until the mountpoint was taken away."""
        ...

    def tune(self) -> None:
        """Raise the kernel's limits, after its first request was answered; for a thread, since it blocks."""
        ...

    def detach(self, *, lazy: bool) -> None:
        """Take the mountpoint away; for a thread, since it blocks. Raises MountError if it is in use."""
        ...


class CacheFigures(Protocol):
    """What a status tells of the block cache."""

    @property
    def bytes(self) -> int: ...
    @property
    def limit_bytes(self) -> int: ...
    @property
    def hits(self) -> int: ...
    @property
    def misses(self) -> int: ...


class MountLife:
    """One mount as the control socket and the signals see it.

    Serving ends when the kernel says so: after `unmount`, `leave`, or `fusermount3 -u` by anybody. Uploads
    go on afterwards for `drain_timeout_s`; what is left stays in the journal.
    """

    def __init__(
        self,
        settings: MountSettings,
        *,
        uploader: Uploader,
        cache_figures: Callable[[], CacheFigures],
        staging: Staging,
        direct_store: AsyncObjectStore,
    ) -> None:
        self._settings = settings
        self._uploader = uploader
        self._cache_figures = cache_figures
        self._staging = staging
        self._direct_store = direct_store
        self._started_s = time.time()
        self._state: Literal["serving", "leaving"] = "serving"
        self._session: Session | None = None
        self._commit: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._unmounting = trio.Lock()
        self._serving = trio.CancelScope()
        self._served = trio.Event()
        self._drain_timeout_s = settings.drain_timeout_s

    # -- what the control socket asks ---------------------------------------------------------------

    async def status(self) -> MountStatus:
        """Everything `objfs status` shows; asks the store whether it is there."""
        uploads = self._uploader.status()
        figures = self._cache_figures()
        settings = self._settings
        return MountStatus(
            url=settings.url,
            mountpoint=str(settings.mountpoint),
            state=self._state,
            pid=os.getpid(),
            version=__version__,
            started_s=self._started_s,
            read_only=settings.read_only,
            write_mode=settings.write_mode,
            log_path=str(settings.log_path),
            store=await self._store_status(uploads),
            uploads=uploads_status(uploads),
            cache=CacheStatus(
                path=str(settings.cache_path),
                bytes=figures.bytes,
                limit_bytes=figures.limit_bytes,
                staged_bytes=self._staging.used_bytes,
                staged_limit_bytes=self._staging.budget_bytes,
                room_bytes=self._room_bytes(figures.bytes),
                hits=figures.hits,
                misses=figures.misses,
            ),
        )

    def _room_bytes(self, clean_bytes: int) -> int | None:
        try:
            return self._staging.room_bytes(clean_bytes)
        except OSError:
            return None

    def progress(self) -> DrainProgress:
        """How far the uploads are."""
        return drain_progress(self._uploader.status())

    @property
    def leaving(self) -> bool:
        """Whether the mountpoint was taken away, or is about to be."""
        return self._state == "leaving"

    async def drain(self, *, retry_parked: bool) -> None:
        """Upload everything that waits now, also of open files; what the store refuses for good is left."""
        if self._session is not None:
            await self._sync()
            await self._commit()
        if retry_parked:
            count = self._uploader.ledger.unpark()
            log.info("%d refused changes are tried again", count)
        await self._uploader.drain()

    async def unmount(self, *, drain: bool) -> None:
        """Free the mountpoint; the mount then leaves. If it leaves already, there is nothing to do.

        Raises:
            MountError: programs use it.
        """
        async with self._unmounting:  # the root that one syncs is in use for the other
            if self.leaving:
                return
            session = self._session
            if session is None:
                raise MountError("the mount is not there yet; try again in a moment.")
            await self._sync()
            before_s, self._drain_timeout_s = self._drain_timeout_s, self._drain_timeout_s if drain else 0.0
            try:
                await trio.to_thread.run_sync(lambda: session.detach(lazy=False))
            except MountError:
                self._drain_timeout_s = before_s
                raise
            self._state = "leaving"
        log.info("unmounted on request%s", "" if drain else ", without waiting for uploads")
        with trio.move_on_after(BUSY_GRACE_S):
            await self._served.wait()
        self._serving.cancel()  # a copy in another mount namespace would keep it alive for ever

    def set_drain_timeout(self, timeout_s: float) -> None:
        """How long uploads go on once the mount was taken away."""
        self._drain_timeout_s = timeout_s

    # -- what the composition root does -------------------------------------------------------------

    async def serve(
        self, session: Session, commit: Callable[[], Awaitable[None]], on_ready: Callable[[], None]
    ) -> None:
        """Serve until the mountpoint was taken away.

        Args:
            session: with the kernel.
            commit: journals what open files were written.
            on_ready: called once the mount answers.
        """
        self._commit = commit
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce, session, on_ready)
            with self._serving:
                await session.serve()
            self._served.set()
            self._session = None
            self._state = "leaving"
            nursery.cancel_scope.cancel()
        log.info("no longer mounted at %s", self._settings.mountpoint)

    async def leave(self) -> None:
        """Take the mountpoint away even if it is in use; `serve` then returns."""
        session, self._session = self._session, None
        self._state = "leaving"
        if session is not None:
            await self._sync()
            try:
                await trio.to_thread.run_sync(lambda: session.detach(lazy=True))
            except MountError as error:
                log.error("%s", error)
            await trio.sleep(BUSY_GRACE_S)
        self._serving.cancel()

    async def drain_at_end(self) -> None:
        """Upload for the rest of the drain timeout, and say what is left."""
        if self._drain_timeout_s > 0:  # even the shortest drain would begin to send
            with trio.move_on_after(self._drain_timeout_s):
                await self._uploader.drain()
        left = self._uploader.status()
        if left.waiting_operations:
            log.warning(
                "left in the journal for the next mount: %d files, %d bytes and %d other changes",
                left.waiting_files,
                left.waiting_bytes,
                left.waiting_operations - left.waiting_files,
            )
        else:
            log.info("all uploads are done")

    async def _announce(self, session: Session, on_ready: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(os.statvfs, self._settings.mountpoint, abandon_on_cancel=True)
        self._session = session
        log.info("mounted %s at %s", self._settings.url, self._settings.mountpoint)
        on_ready()
        await trio.to_thread.run_sync(session.tune, abandon_on_cancel=True)

    async def _sync(self) -> None:
        """Have the kernel write dirty pages of shared maps, while somebody still answers it."""
        with trio.move_on_after(SYNC_TIMEOUT_S):
            await trio.to_thread.run_sync(
                _sync_file_system, self._settings.mountpoint, abandon_on_cancel=True
            )

    async def _store_status(self, uploads: UploadStatus) -> StoreStatus:
        error: str | None = "no answer"
        with trio.move_on_after(STATUS_CHECK_TIMEOUT_S):
            error = await self._ask_store()
        return StoreStatus(
            url=self._settings.url,
            endpoint_url=self._settings.endpoint_url,
            reachable=error is None,
            offline_since_s=uploads.offline_since_s,
            error=shorten(error or uploads.last_error),
        )

    async def _ask_store(self) -> str | None:
        try:
            await self._direct_store.list("", max_keys=1)
        except UnavailableError as error:
            return str(error)
        except ObjectStoreError:  # a refusal is an answer
            return None
        return None


def _sync_file_system(mountpoint: Path) -> None:
    """syncfs(2), which Python lacks; errors are those of single files and have been told to their writers."""
    descriptor = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ctypes.CDLL(None, use_errno=True).syncfs(descriptor)
    finally:
        os.close(descriptor)
