"""Finds and deletes objects that have expired, straight in a store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from objfs.errors import NotFoundError
from objfs.store.values import MAX_DELETE_KEYS
from objfs.upload.expiry import has_expired, read_expiry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from objfs.store.protocol import ObjectStore
    from objfs.store.values import ObjectInfo

HEADS_AT_ONCE = 32  # as many requests as a mount has at a time


@dataclass(slots=True, kw_only=True)
class ExpiryCounts:
    """How far it is.

    Attributes:
        looked_at: objects listed so far.
        expired: of these.
        renewed: that were put off, or replaced, while this was at work: they stay.
        failed: keys that the store did not delete, and why.
    """

    looked_at: int = 0
    expired: int = 0
    expired_bytes: int = 0
    deleted: int = 0
    renewed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def find_expired(
    store: ObjectStore, counts: ExpiryCounts, on_progress: Callable[[], None]
) -> Iterator[ObjectInfo]:
    """All objects that have expired. One HEAD each where the listing tells no metadata. Blocks."""
    with ThreadPoolExecutor(HEADS_AT_ONCE, thread_name_prefix="objfs-expire") as pool:
        for page in _pages(store):
            if any(info.metadata is None for info in page):
                page = [
                    info for info in pool.map(lambda one: _head(store, one.key), page) if info is not None
                ]
            for info in page:
                counts.looked_at += 1
                if has_expired(info):
                    counts.expired += 1
                    counts.expired_bytes += info.version.size_bytes
                    yield info
            on_progress()


def delete_expired(store: ObjectStore, counts: ExpiryCounts, on_progress: Callable[[], None]) -> None:
    """Delete all that has expired, a thousand at a time; each is looked at once more just before. Blocks."""
    batch: list[ObjectInfo] = []
    for info in find_expired(store, counts, on_progress):
        batch.append(info)
        if len(batch) == MAX_DELETE_KEYS:
            _delete(store, batch, counts)
            batch = []
            on_progress()
    if batch:
        _delete(store, batch, counts)
        on_progress()


def expires_at(info: ObjectInfo) -> float:
    """Unix time from which on an object that tells it is gone."""
    expiry = read_expiry(info.metadata or {})
    return 0.0 if expiry is None else expiry.at_s


def _delete(store: ObjectStore, batch: Sequence[ObjectInfo], counts: ExpiryCounts) -> None:
    with ThreadPoolExecutor(HEADS_AT_ONCE, thread_name_prefix="objfs-expire") as pool:
        found = pool.map(lambda one: _head(store, one.key), batch)
        keys: list[str] = []
        for before, now in zip(batch, found, strict=True):
            if now is not None and now.version == before.version and has_expired(now):
                keys.append(before.key)
            else:
                counts.renewed += now is not None
    failures = store.delete(keys) if keys else []
    counts.failed += [(failure.key, str(failure.error)) for failure in failures]
    counts.deleted += len(keys) - len(failures)


def _pages(store: ObjectStore) -> Iterator[list[ObjectInfo]]:
    page: str | None = None
    while True:
        answer = store.list("", page=page, with_metadata=store.capabilities.listing_metadata)
        yield [info for info in answer.objects if not info.key.endswith("/")]
        page = answer.next_page
        if page is None:
            return


def _head(store: ObjectStore, key: str) -> ObjectInfo | None:
    try:
        return store.head(key)
    except NotFoundError:
        return None
