"""The store of a mount: its driver, checked, and the wrappers around it."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from objfs.app.conditions import probed, remembered
from objfs.codec.foreign import DecodedStore
from objfs.errors import (
    BucketNotFoundError,
    MountError,
    ObjectStoreError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from objfs.store.count import CountingStore
from objfs.store.limit import LimitingStore, PacingStore
from objfs.store.probe import ProbedStore, probe_listing
from objfs.store.registry import open_store
from objfs.store.retry import RetryingStore, RetryPolicy
from objfs.store.stalls import MAX_STALLED
from objfs.store.threads import ThreadedStore
from objfs.store.urls import StoreOptions, StoreUrl, s3_endpoint
from objfs.upload.honour import honoured
from objfs.upload.rules import build_rule_set
from objfs.upload.uploader import UploadSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from objfs.config import MountSettings
    from objfs.store.pace import Traffic
    from objfs.store.protocol import ObjectStore
    from objfs_cache.directory import CacheDirectory

START_CHECK_POLICY = RetryPolicy(max_attempts=3, deadline_s=10.0)  # somebody waits at a terminal
UPLOAD_POLICY = RetryPolicy(max_attempts=3, deadline_s=5.0)  # the uploader tries again by itself, and tells
PROBED_SCHEMES = frozenset({"s3", "minio"})  # the other drivers know which conditions they honour


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStacks:
    """One driver in the wrappers that its users need.

    Attributes:
        counting: sees every request.
        direct: for a question now and then: one try, no limit.
    """

    counting: CountingStore
    direct: ThreadedStore
    reading: ThreadedStore
    uploading: ThreadedStore


def store_stacks(settings: MountSettings, driver: ObjectStore, traffic: Traffic) -> StoreStacks:
    """The wrappers of a mount."""
    counting = CountingStore(driver)
    limited = PacingStore(LimitingStore(counting, max_requests=settings.max_requests), traffic)
    policy = RetryPolicy(deadline_s=settings.store_timeout_s)
    seen = DecodedStore(limited) if settings.decode else limited
    return StoreStacks(
        counting=counting,
        direct=ThreadedStore(counting, metadata_threads=1),
        reading=ThreadedStore(RetryingStore(seen, policy, on_retry=counting.retried)),
        uploading=ThreadedStore(RetryingStore(limited, UPLOAD_POLICY, on_retry=counting.retried)),
    )


@asynccontextmanager
async def open_driver(
    settings: MountSettings,
    directory: CacheDirectory,
    traffic: Traffic,
    *,
    on_away: Callable[[str], None] | None = None,
) -> AsyncIterator[ObjectStore]:
    """The store, which answers, with its conditions as found by trying.

    Args:
        settings: which store.
        directory: where is remembered what was found.
        traffic: what is measured of it.
        on_away: told why the store is not reachable; one that this cache was used with before need not be.

    Raises:
        MountError: it does not answer as it should.
    """
    url, memory = StoreUrl.parse(settings.url), directory.path / "conditions.json"
    with closing(open_store(url, replace(store_options(settings), traffic=traffic))) as driver:
        try:
            await trio.to_thread.run_sync(check_store, driver)
        except ObjectStoreError as error:
            known = await trio.to_thread.run_sync(remembered, driver, memory)
            if on_away is None or known is None or not isinstance(error, UnavailableError):
                raise MountError(explain_store_error(error, settings)) from error
            on_away(str(error))
            yield known
            return
        if url.scheme in PROBED_SCHEMES and not settings.read_only:
            yield await trio.to_thread.run_sync(probed, driver, memory)
        elif url.scheme in PROBED_SCHEMES:
            yield ProbedStore(driver, await trio.to_thread.run_sync(probe_listing, driver))
        else:
            yield driver


async def upload_settings(settings: MountSettings, driver: ObjectStore, *, delay_s: float) -> UploadSettings:
    """How files are uploaded: the rules as far as the store honours them."""
    rules = build_rule_set(settings.rules, origin=settings.origin_metadata, sha256=settings.sha256)
    if not settings.read_only:
        rules = await trio.to_thread.run_sync(honoured, rules, driver)
    return UploadSettings(delay_s=delay_s, rules=rules)


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
        max_connections=usual.max_connections + settings.max_requests + MAX_STALLED,
    )


def s3_endpoint_of(settings: MountSettings) -> str | None:
    """Where an s3:// URL leads to, or None: AWS, or another scheme."""
    url = StoreUrl.parse(settings.url)
    return s3_endpoint(url, store_options(settings)) if url.scheme == "s3" else None


def check_store(store: ObjectStore) -> None:
    """Ask the store for one key.

    Raises:
        ObjectStoreError: it did not answer as it should.
    """
    RetryingStore(store, START_CHECK_POLICY).list("", max_keys=1)


def explain_store_error(error: ObjectStoreError, settings: MountSettings) -> str:
    """What went wrong at the start, why, and what to do about it."""
    url = settings.url
    why = str(error).rstrip(".")
    match error:
        case BucketNotFoundError():
            endpoint = s3_endpoint_of(settings)
            where = f" at {endpoint}" if endpoint else ""
            return f"{url}: there is no such bucket or folder{where}; check the name, or create it first."
        case UnauthenticatedError():
            return f"{url}: the credentials are missing or wrong ({why}); check them, or use --profile."
        case PermissionDeniedError():
            return f"{url}: these credentials may not list the bucket ({why}); ask its owner for that right."
        case UnavailableError():
            return f"{url}: the store is not reachable ({why}); check the endpoint and the network."
    return f"{url}: the store refuses to list its content ({why}); check the URL."
