"""Composition root: builds the parts of one mount, runs them, and lets them go in the right order."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from objfs.codec.foreign import DecodedStore
from objfs.config import write_record
from objfs.control.actions import Actions
from objfs.control.endpoint import open_metrics
from objfs.control.figures import Sources
from objfs.control.life import MountLife, drain_progress
from objfs.control.pinning import PINNED_SHARE
from objfs.control.protocol import runtime_dir, socket_name
from objfs.control.remount import rates_of, refuse_less_than_pinned
from objfs.control.rescue import Candidate, Rescued, base_id, find_candidates, read_mounted, rescue
from objfs.control.server import open_control_server
from objfs.control.service import Service
from objfs.control.values import DrainProgress
from objfs.control.view import Places, View
from objfs.errors import (
    BucketNotFoundError,
    MountError,
    ObjectStoreError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from objfs.fuse.session import FuseOptions, KernelCache, open_session
from objfs.fuse.traced import Describer
from objfs.observe.operations import Operations
from objfs.read.reader import open_reader
from objfs.read.values import Source
from objfs.store.count import CountingStore
from objfs.store.limit import LimitingStore, PacingStore
from objfs.store.pace import Traffic
from objfs.store.probe import ProbedStore, probe_conditions
from objfs.store.registry import open_store
from objfs.store.retry import RetryingStore, RetryPolicy
from objfs.store.threads import ThreadedStore
from objfs.store.urls import StoreOptions, StoreUrl, s3_endpoint
from objfs.upload.honour import honoured
from objfs.upload.rules import RuleSet, build_rule_set
from objfs.upload.uploader import UploadSettings, load_operations, open_uploader
from objfs.vfs.attributes import Defaults
from objfs.vfs.filesystem import open_filesystem
from objfs.vfs.values import VfsSettings
from objfs_cache.blocks import BlockCache, open_block_cache
from objfs_cache.directory import CacheDirectory, CacheError, open_cache_directory
from objfs_cache.journal import Journal, open_journal, peek_journal
from objfs_cache.staging import Staging, open_staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from objfs.config import MountSettings
    from objfs.store.pace import Rates
    from objfs.store.protocol import ObjectStore
    from objfs.store.values import Capabilities
    from objfs.upload.uploader import Uploader
    from objfs.vfs.filesystem import FileSystem

log = logging.getLogger("objfs.app")

SWITCH_INTERVAL_S = 0.0005  # design.md 8: worker threads keep the event loop waiting up to 5 ms otherwise
START_CHECK_POLICY = RetryPolicy(max_attempts=3, deadline_s=10.0)  # somebody waits at a terminal
UPLOAD_POLICY = RetryPolicy(max_attempts=3, deadline_s=5.0)  # the uploader tries again by itself, and tells
RESCUE_POLICY = RetryPolicy(max_attempts=1)  # a store that is away is not asked for long: there may be much
PROBED_SCHEMES = frozenset({"s3", "minio"})  # the other drivers know which conditions they honour
PROBE_VALID_S = 30 * 86400.0  # servers are upgraded
PROBE_FORMAT = 1
FREE_DISK_FRACTION = 0.05  # left for everybody else on the machine
PROGRESS_INTERVAL_S = 0.25  # smooth to the eye, nothing to the processor
NOTHING_WAITS = DrainProgress(
    waiting_files=0, waiting_bytes=0, waiting_changes=0, uploaded_files=0, uploaded_bytes=0, parked_count=0
)
_CONDITIONS = ("put_conditions", "complete_conditions", "copy_conditions")
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_mount(settings: MountSettings, *, on_ready: Callable[[], None]) -> None:
    """Mount and serve until the mountpoint was taken away or a signal asks to stop.

    Raises:
        MountError: the mount cannot be made.
        UsageError: the URL or an option is wrong.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    trio.run(_run, settings, on_ready)


def run_flush(settings: MountSettings, *, on_progress: Callable[[DrainProgress], None]) -> DrainProgress:
    """Upload what an earlier mount left in the journal, without a mount; returns what is left.

    What the store had refused is tried once more, as by a new mount.

    Raises:
        MountError: the cache is in use, or the store cannot be used.
        UsageError: the URL or an option is wrong.
    """
    return trio.run(_flush, settings, on_progress)


async def _flush(settings: MountSettings, on_progress: Callable[[DrainProgress], None]) -> DrainProgress:
    with ExitStack() as stack:
        stack.enter_context(_as_mount_errors())
        directory = stack.enter_context(open_cache_directory(settings.cache_path))
        journal, staging = stack.enter_context(_open_changes(directory, settings))
        if not journal.load() and not journal.notes():
            return NOTHING_WAITS
        traffic = Traffic(rates_of(settings))
        driver = await _open_driver(stack, settings, directory, traffic)
        limited = PacingStore(LimitingStore(driver, max_requests=settings.max_requests), traffic)
        store = ThreadedStore(RetryingStore(limited, UPLOAD_POLICY))
        upload_settings = await _upload_settings(settings, driver, delay_s=0.0)
        async with open_uploader(store, journal, upload_settings) as uploader:
            uploader.ledger.restore(load_operations(journal, staging))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_report_progress, uploader, on_progress)
                await uploader.drain()
                nursery.cancel_scope.cancel()
            return drain_progress(uploader.status())


def run_rescue(settings: MountSettings, folder: Path, *, everything: bool) -> list[Rescued]:
    """Copy what could not be uploaded out of the cache of a mount that is gone.

    Raises:
        MountError: the cache is in use, or the folder cannot be used.
    """
    return trio.run(_rescue, settings, folder, everything)


async def _rescue(settings: MountSettings, folder: Path, everything: bool) -> list[Rescued]:
    async with AsyncExitStack() as stack:
        stack.enter_context(_as_mount_errors())
        directory = stack.enter_context(open_cache_directory(settings.cache_path))
        candidates = find_candidates(peek_journal(directory.journal_path), everything=everything)
        if not candidates:
            return []
        url = StoreUrl.parse(settings.url)
        driver = stack.enter_context(closing(open_store(url, store_options(settings))))
        blocks = stack.enter_context(
            open_block_cache(directory.blocks_path, limit_bytes=settings.cache_size_bytes)
        )
        store = ThreadedStore(RetryingStore(driver, RESCUE_POLICY))
        reader = await stack.enter_async_context(
            open_reader(store, blocks, memory_limit_bytes=settings.memory_limit_bytes)
        )

        async def read_base(one: Candidate, start: int, stop: int) -> bytes:
            if one.base is None:
                raise MountError("the object below the change is not known")
            source = Source(object_id=base_id(one), key=one.base_key, version=one.base)
            return await reader.read(source, start, stop - start, reader.new_stream())

        return await rescue(candidates, directory.staging_path, folder, read_base)


def run_rescue_mounted(
    cache_path: Path, mountpoint: Path, folder: Path, *, everything: bool
) -> list[Rescued]:
    """Copy what could not be uploaded out of the cache of a mount that answers.

    Raises:
        MountError: the journal cannot be read, or the folder cannot be used.
    """

    async def read_base(one: Candidate, start: int, stop: int) -> bytes:
        return await trio.to_thread.run_sync(read_mounted, mountpoint / one.path, start, stop)

    directory = CacheDirectory(path=cache_path)
    with _as_mount_errors():
        candidates = find_candidates(peek_journal(directory.journal_path), everything=everything)
        if not candidates:
            return []
        return trio.run(rescue, candidates, directory.staging_path, folder, read_base)


async def _report_progress(uploader: Uploader, on_progress: Callable[[DrainProgress], None]) -> None:
    while True:
        on_progress(drain_progress(uploader.status()))
        await trio.sleep(PROGRESS_INTERVAL_S)


async def _open_driver(
    stack: ExitStack, settings: MountSettings, directory: CacheDirectory, traffic: Traffic
) -> ObjectStore:
    """The store, which answers, with its conditions as found by trying."""
    url = StoreUrl.parse(settings.url)
    options = replace(store_options(settings), traffic=traffic)
    driver: ObjectStore = stack.enter_context(closing(open_store(url, options)))
    await trio.to_thread.run_sync(check_store, driver, settings)
    if url.scheme in PROBED_SCHEMES and not settings.read_only:
        driver = await trio.to_thread.run_sync(probed, driver, directory.path / "conditions.json")
    return driver


async def _run(settings: MountSettings, on_ready: Callable[[], None]) -> None:
    url = StoreUrl.parse(settings.url)
    with ExitStack() as stack, trio.CancelScope() as everything:
        stack.enter_context(_as_mount_errors())
        directory = stack.enter_context(open_cache_directory(settings.cache_path))
        traffic = Traffic(rates_of(settings))
        driver = await _open_driver(stack, settings, directory, traffic)
        _warn(settings, url, driver.capabilities)
        write_record(settings)
        local = stack.enter_context(_open_local(directory, settings))
        await _serve(settings, driver, local, traffic, on_ready, everything)


async def _serve(
    settings: MountSettings,
    driver: ObjectStore,
    local: _Local,
    traffic: Traffic,
    on_ready: Callable[[], None],
    everything: trio.CancelScope,
) -> None:
    policy = RetryPolicy(deadline_s=settings.store_timeout_s)
    counting = CountingStore(driver)
    limited = PacingStore(LimitingStore(counting, max_requests=settings.max_requests), traffic)
    seen = DecodedStore(limited) if settings.decode else limited
    store = ThreadedStore(RetryingStore(seen, policy, on_retry=counting.retried))
    upload_store = ThreadedStore(RetryingStore(limited, UPLOAD_POLICY, on_retry=counting.retried))
    upload_settings = await _upload_settings(settings, driver, delay_s=settings.upload_delay_s)
    async with (
        AsyncExitStack() as stack,
        open_reader(store, local.blocks, memory_limit_bytes=settings.memory_limit_bytes) as reader,
        open_uploader(upload_store, local.journal, upload_settings) as uploader,
    ):
        life = MountLife(
            settings,
            uploader=uploader,
            cache_figures=local.blocks.stats,
            staging=local.staging,
            direct_store=ThreadedStore(counting, metadata_threads=1),
        )
        operations, places = Operations(), Places()
        sources = Sources(
            operations=operations,
            describer=Describer(operations, places.path_of),
            requests=counting,
            reader=reader,
            uploader=uploader,
            blocks=local.blocks,
            staging=local.staging,
        )
        view = View(settings, sources, places)
        service = stack.enter_context(
            closing(Service(os.environ, settings.mountpoint, drain_timeout_s=settings.drain_timeout_s))
        )
        knobs = _Knobs(local, life, traffic)
        actions = Actions(settings, local.blocks, knobs)
        async with (
            open_control_server(_control_path(settings), life, actions, view),
            open_metrics(settings.metrics, view.figures),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_watch_signals, life, everything)
            nursery.start_soon(service.run, life)

            def ready() -> None:
                service.ready()
                on_ready()

            vfs_settings = _vfs_settings(settings, upload_settings.rules)
            async with open_filesystem(
                store, reader, uploader, local.staging, local.blocks, vfs_settings, KernelCache()
            ) as filesystem:
                knobs.filesystem = filesystem
                places.inspection = filesystem.inspection
                async with (
                    open_session(
                        filesystem, settings.mountpoint, _fuse_options(settings), operations
                    ) as session,
                    actions.serving(filesystem),
                ):
                    await life.serve(session, ready)
                await filesystem.commit_everything()
                await life.drain_at_end()
                service.last_words(life.progress())
            nursery.cancel_scope.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Local:
    """What is on the local disk."""

    blocks: BlockCache
    journal: Journal
    staging: Staging


@contextmanager
def _open_local(directory: CacheDirectory, settings: MountSettings) -> Iterator[_Local]:
    with (
        open_block_cache(
            directory.blocks_path, limit_bytes=settings.cache_size_bytes, floor_fraction=FREE_DISK_FRACTION
        ) as blocks,
        _open_changes(directory, settings) as (journal, staging),
    ):
        yield _Local(blocks=blocks, journal=journal, staging=staging)


@contextmanager
def _open_changes(directory: CacheDirectory, settings: MountSettings) -> Iterator[tuple[Journal, Staging]]:
    with (
        open_journal(directory.journal_path) as journal,
        open_staging(
            directory.staging_path,
            budget_bytes=settings.cache_size_bytes,
            floor_fraction=FREE_DISK_FRACTION,
            referenced=[record.staged.file_id for record in journal.load() if record.staged is not None],
            journal=journal,
        ) as staging,
    ):
        yield journal, staging


async def _upload_settings(settings: MountSettings, driver: ObjectStore, *, delay_s: float) -> UploadSettings:
    rules = build_rule_set(settings.rules, origin=settings.origin_metadata, sha256=settings.sha256)
    if not settings.read_only:
        rules = await trio.to_thread.run_sync(honoured, rules, driver)
    return UploadSettings(delay_s=delay_s, rules=rules)


class _Knobs:
    """See `remount.Knobs`."""

    def __init__(self, local: _Local, life: MountLife, traffic: Traffic) -> None:
        self.filesystem: FileSystem | None = None
        self._local = local
        self._life = life
        self._traffic = traffic

    def set_cache_bytes(self, count: int) -> None:
        refuse_less_than_pinned(self._local.blocks.pinned_bytes(), int(count * PINNED_SHARE))
        self._local.blocks.set_limit(count)
        self._local.staging.set_budget(count)

    def set_drain_timeout_s(self, timeout_s: float) -> None:
        self._life.set_drain_timeout(timeout_s)

    def set_metadata_ttl_s(self, ttl_s: float) -> None:
        if self.filesystem is not None:
            self.filesystem.set_metadata_ttl(ttl_s)

    def set_rates(self, rates: Rates) -> None:
        self._traffic.set(rates)


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


def store_options(settings: MountSettings) -> StoreOptions:
    """What the drivers need of the settings."""
    usual = StoreOptions()
    return StoreOptions(
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        profile=settings.profile,
        credentials_file=str(settings.credentials_file) if settings.credentials_file else None,
        # A second try has to fit into the deadline of an operation.
        connect_timeout_s=min(usual.connect_timeout_s, settings.store_timeout_s / 2),
        read_timeout_s=min(usual.read_timeout_s, settings.store_timeout_s / 2),
    )


def check_store(store: ObjectStore, settings: MountSettings) -> None:
    """Ask the store for one key.

    Raises:
        MountError: one sentence about why it did not answer as it should.
    """
    try:
        RetryingStore(store, START_CHECK_POLICY).list("", max_keys=1)
    except ObjectStoreError as error:
        raise MountError(explain_store_error(error, settings)) from error


def explain_store_error(error: ObjectStoreError, settings: MountSettings) -> str:
    """What went wrong at the start, why, and what to do about it."""
    url = settings.url
    why = str(error).rstrip(".")
    match error:
        case BucketNotFoundError():
            where = _at(settings)
            return f"{url}: there is no such bucket or folder{where}; check the name, or create it first."
        case UnauthenticatedError():
            return f"{url}: the credentials are missing or wrong ({why}); check them, or use --profile."
        case PermissionDeniedError():
            return f"{url}: these credentials may not list the bucket ({why}); ask its owner for that right."
        case UnavailableError():
            return f"{url}: the store is not reachable ({why}); check the endpoint and the network."
    return f"{url}: the store refuses to list its content ({why}); check the URL."


def _at(settings: MountSettings) -> str:
    url = StoreUrl.parse(settings.url)
    endpoint = s3_endpoint(url, store_options(settings)) if url.scheme == "s3" else None
    return f" at {endpoint}" if endpoint else ""


def probed(store: ObjectStore, memory: Path) -> ObjectStore:
    """The store with its conditions as found by trying; the finding is remembered in the file `memory`."""
    capabilities = _read_probe(memory, store.capabilities)
    if capabilities is None:
        capabilities = probe_conditions(store)
        _write_probe(memory, capabilities)
    return ProbedStore(store, capabilities)


def _read_probe(memory: Path, known: Capabilities) -> Capabilities | None:
    try:
        value = json.loads(memory.read_text())
        if value["format"] != PROBE_FORMAT or not 0 <= time.time() - value["probed_s"] < PROBE_VALID_S:
            return None
        return replace(known, **{name: value[name] is True for name in _CONDITIONS})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_probe(memory: Path, found: Capabilities) -> None:
    value = {name: getattr(found, name) for name in _CONDITIONS}
    temporary = memory.with_suffix(".tmp")
    temporary.write_text(json.dumps({"format": PROBE_FORMAT, "probed_s": time.time(), **value}))
    temporary.replace(memory)


def _warn(settings: MountSettings, url: StoreUrl, capabilities: Capabilities) -> None:
    """Say what the store at hand cannot keep, and what others may read on the way."""
    if not settings.read_only and not capabilities.put_conditions:
        log.warning("the store has no conditional writes: of two changes made at once, one may be lost")
    if not capabilities.user_metadata:
        log.warning("the store keeps no user metadata: modes, owners, times and symlinks are lost")
    endpoint = s3_endpoint(url, store_options(settings)) if url.scheme == "s3" else None
    plain = endpoint.startswith("http://") if endpoint else url.scheme == "minio" and not url.tls
    host = urlsplit(endpoint or f"//{url.host}").hostname
    if plain and host not in ("localhost", "127.0.0.1", "::1"):
        log.warning("the store is reached by plain http: names and data can be read on the way")


@contextmanager
def _as_mount_errors() -> Iterator[None]:
    """The cache's own family of errors in the words of this one."""
    try:
        yield
    except CacheError as error:
        raise MountError(str(error)) from error


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


def _control_path(settings: MountSettings) -> Path:
    return runtime_dir(os.environ, os.geteuid()) / socket_name(settings.mountpoint)
