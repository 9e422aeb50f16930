"""Deleting objects that somebody else may have replaced meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.store.values import MAX_DELETE_KEYS
from objfs.upload.present import present_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import Version


async def delete_versions(store: AsyncObjectStore, versions: Mapping[str, Version]) -> None:
    """Delete versions by key, but not what somebody put in their place; a short window remains."""
    keys = sorted(versions)
    for start in range(0, len(keys), MAX_DELETE_KEYS):
        batch = keys[start : start + MAX_DELETE_KEYS]
        found = await present_versions(store, batch)
        await delete_keys(store, [key for key in batch if found.get(key, versions[key]) == versions[key]])


async def delete_keys(store: AsyncObjectStore, keys: Sequence[str]) -> None:
    """Delete keys, or raise the first failure."""
    for failure in await store.delete(keys) if keys else ():
        raise failure.error
