"""A mount, from its cache directory to its last upload."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

import trio

from objfs.app.knobs import MountKnobs
from objfs.app.local import as_mount_errors, open_local
from objfs.app.stores import open_driver, store_stacks, upload_settings
from objfs.app.warnings import warn_of_store
from objfs.config import write_record
from objfs.control.actions import Actions
from objfs.control.endpoint import open_metrics
from objfs.control.figures import Sources
from objfs.control.life import MountLife
from objfs.control.protocol import socket_of
from objfs.control.remount import rates_of
from objfs.control.server import open_control_server
from objfs.control.service import Service
from objfs.control.view import Places, View
from objfs.fuse.session import FuseOptions, KernelCache, open_session
from objfs.fuse.traced import Describer
from objfs.observe.operations import Operations
from objfs.read.reader import open_reader
from objfs.store.pace import Traffic
from objfs.upload.uploader import open_uploader
from objfs.vfs.attributes import Defaults
from objfs.vfs.filesystem import open_filesystem
from objfs.vfs.values import VfsSettings
from objfs_cache.directory import open_cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.config import MountSettings
    from objfs.upload.rules import RuleSet

log = logging.getLogger("objfs.app")

SWITCH_INTERVAL_S = 0.0005  # design.md 8: worker threads keep the event loop waiting up to 5 ms otherwise
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_MEANINGLESS_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # of other file systems: here they end no mount


def run_mount(
    settings: MountSettings, *, free_mountpoint: Callable[[], None], on_ready: Callable[[str], None]
) -> None:
    """Mount and serve until the mountpoint was taken away or a signal asks to stop.

    Args:
        settings: what, where and how.
        free_mountpoint: takes away what is left of an earlier mount there, right before this one is made:
            programs would write into the folder below.
        on_ready: called once programs can use the mount, with what its user should know, or "".

    Raises:
        MountError: the mount cannot be made.
        UsageError: the URL or an option is wrong.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    for number in _MEANINGLESS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    trio.run(_run, settings, free_mountpoint, on_ready)


async def _run(
    settings: MountSettings, free_mountpoint: Callable[[], None], on_ready: Callable[[str], None]
) -> None:
    """What stands first is let go last."""
    note = ""

    def is_away(why: str) -> None:
        nonlocal note
        note = (
            f"{settings.url}: the store is not reachable ({why.rstrip('.')}); mounted all the same: "
            "what is here can be used, and changes wait."
        )
        log.warning("%s", note)

    async with AsyncExitStack() as stack:
        enter, open_ = stack.enter_context, stack.enter_async_context

        # The store, and what is on the local disk.
        enter(as_mount_errors())
        directory = enter(open_cache_directory(settings.cache_path))
        traffic = Traffic(rates_of(settings))
        driver = await open_(open_driver(settings, directory, traffic, on_away=is_away))
        warn_of_store(settings, driver.capabilities)
        write_record(settings)
        local = enter(open_local(directory, settings))

        # What carries bytes between them; a second signal ends all from here on at once.
        everything = enter(trio.CancelScope())
        service = enter(
            closing(Service(os.environ, settings.mountpoint, drain_timeout_s=settings.drain_timeout_s))
        )
        stores = store_stacks(settings, driver, traffic)
        uploads = await upload_settings(settings, driver, delay_s=settings.upload_delay_s)
        reader = await open_(
            open_reader(stores.reading, local.blocks, memory_limit_bytes=settings.memory_limit_bytes)
        )
        uploader = await open_(open_uploader(stores.uploading, local.journal, uploads, local.metadata))

        # What tells of it, and changes it.
        life = MountLife(
            settings,
            uploader=uploader,
            cache_figures=local.blocks.stats,
            staging=local.staging,
            direct_store=stores.direct,
        )
        operations, places = Operations(), Places()
        sources = Sources(
            operations=operations,
            describer=Describer(operations, places.path_of),
            requests=stores.counting,
            reader=reader,
            uploader=uploader,
            blocks=local.blocks,
            staging=local.staging,
        )
        view = View(settings, sources, places)
        knobs = MountKnobs(local, life, traffic)
        actions = Actions(settings, local.blocks, knobs)
        await open_(open_control_server(socket_of(settings.mountpoint), life, actions, view))
        await open_(open_metrics(settings.metrics, view.figures))
        nursery = await open_(trio.open_nursery())
        nursery.start_soon(_watch_signals, life, everything)
        nursery.start_soon(service.run, life)

        def ready() -> None:
            service.ready()
            on_ready(note)

        # What programs see.
        async with open_filesystem(
            stores.reading,
            reader,
            uploader,
            local.staging,
            local.blocks,
            local.metadata,
            _vfs_settings(settings, uploads.rules),
            KernelCache(),
        ) as filesystem:
            knobs.filesystem = filesystem
            places.inspection = filesystem.inspection
            await trio.to_thread.run_sync(free_mountpoint)
            fuse = open_session(filesystem, settings.mountpoint, _fuse_options(settings), operations)
            async with fuse as session, actions.serving(filesystem):
                await life.serve(session, filesystem.commit_everything, ready)
            await filesystem.commit_everything()
            await life.drain_at_end()
            service.last_words(life.progress())
        nursery.cancel_scope.cancel()


async def _watch_signals(life: MountLife, everything: trio.CancelScope) -> None:
    """The first signal takes the mount away in order, the second ends the process as fast as possible."""
    with trio.open_signal_receiver(*_STOP_SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            asked = False
            async for number in signals:
                log.info("%s received", signal.Signals(number).name)
                if asked:
                    everything.cancel()
                asked = True
                nursery.start_soon(life.leave)


def _vfs_settings(settings: MountSettings, rules: RuleSet) -> VfsSettings:
    return VfsSettings(
        defaults=Defaults(
            uid=os.geteuid() if settings.uid is None else settings.uid,
            gid=os.getegid() if settings.gid is None else settings.gid,
            umask=settings.umask,
            time_ns=time.time_ns(),
        ),
        metadata_ttl_s=settings.metadata_ttl_s,
        write_mode=settings.write_mode,
        fsync=settings.fsync,
        store_timeout_s=settings.store_timeout_s,
        read_only=settings.read_only,
        rules=rules,
    )


def _fuse_options(settings: MountSettings) -> FuseOptions:
    return FuseOptions(
        source=settings.url,
        read_only=settings.read_only,
        allow_other=settings.allow_other,
        xattrs=settings.xattrs,
        extra=frozenset(settings.kernel_options),
        deadline_s=settings.store_timeout_s,
    )
