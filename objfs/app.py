"""Composition root: builds the parts of one mount, runs them, and lets them go in the right order."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from objfs.control.protocol import runtime_dir, socket_name
from objfs.errors import (
    BucketNotFoundError,
    MountError,
    ObjectStoreError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from objfs.store.probe import ProbedStore, probe_conditions
from objfs.store.retry import RetryingStore, RetryPolicy
from objfs.store.urls import StoreOptions, StoreUrl, s3_endpoint
from objfs_cache.directory import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from objfs.config import MountSettings
    from objfs.control.life import MountLife
    from objfs.store.protocol import ObjectStore
    from objfs.store.values import Capabilities

log = logging.getLogger("objfs.app")

SWITCH_INTERVAL_S = 0.0005  # design.md 8: worker threads keep the event loop waiting up to 5 ms otherwise
START_CHECK_POLICY = RetryPolicy(max_attempts=3, deadline_s=10.0)  # somebody waits at a terminal
PROBED_SCHEMES = frozenset({"s3", "minio"})  # the other drivers know which conditions they honour
PROBE_VALID_S = 30 * 86400.0  # servers are upgraded
PROBE_FORMAT = 1
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


def store_options(settings: MountSettings) -> StoreOptions:
    """What the drivers need of the settings."""
    return StoreOptions(endpoint_url=settings.endpoint_url, region=settings.region, profile=settings.profile)


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
    where = f" at {settings.endpoint_url}" if settings.endpoint_url else ""
    match error:
        case BucketNotFoundError():
            return f"{url}{where}: there is no such bucket or folder; check the name, or create it first."
        case UnauthenticatedError():
            return (
                f"{url}{where}: the credentials are missing or wrong ({error}); set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or name a profile with --profile."
            )
        case PermissionDeniedError():
            return f"{url}{where}: these credentials may not list the bucket ({error}); ask for ListBucket."
        case UnavailableError():
            return f"{url}{where}: the store is not reachable ({error}); check the endpoint and the network."
    return f"{url}{where}: {error}"


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


def _promises_not_kept(capabilities: Capabilities) -> Iterator[str]:
    if not capabilities.put_conditions:
        yield "no conditional writes: a file changed by two writers at once may lose one side's change"
    if not capabilities.user_metadata:
        yield "no user metadata: modes, owners, times and symlinks are not kept"
    if not capabilities.file_over_prefix:
        yield "an object and objects below it cannot exist together"


def _warn_of_plain_http(settings: MountSettings, url: StoreUrl) -> None:
    endpoint = s3_endpoint(url, store_options(settings)) if url.scheme == "s3" else None
    plain = endpoint is not None and endpoint.startswith("http://")
    host = urlsplit(endpoint).hostname if endpoint else url.host.rpartition(":")[0]
    if (plain or (url.scheme == "minio" and not url.tls)) and host not in ("localhost", "127.0.0.1", "::1"):
        log.warning("the store is reached by plain http: names, data and signatures can be read on the way")


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
