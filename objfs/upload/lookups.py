"""Questions to the store about what is there now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.codec.marks import content_version
from objfs.errors import PreconditionFailedError
from objfs.store.known import find_known
from objfs.store.values import ANY
from objfs.upload.operations import TOKEN_METADATA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import Condition, ObjectInfo
    from objfs.upload.operations import Operation


def is_ours(found: ObjectInfo, operation: Operation) -> bool:
    """Whether an object is what this operation made."""
    return (found.metadata or {}).get(TOKEN_METADATA) == operation.token


def is_superseded(found: ObjectInfo, operation: Operation) -> bool:
    """Whether an object was made by an operation of ours whose place this one took."""
    return (found.metadata or {}).get(TOKEN_METADATA) in operation.base.tokens


async def find(store: AsyncObjectStore, key: str) -> ObjectInfo | None:
    """What is under a key, or None; its version tells of the content, too."""
    info, _ = await find_known(store, key)
    return None if info is None else replace(info, version=content_version(info))


async def find_ours(store: AsyncObjectStore, operation: Operation) -> ObjectInfo | None:
    """What the operation made, if it took effect: an answer, or a life, may have been lost."""
    found = await find(store, operation.key)
    return found if found is not None and is_ours(found, operation) else None


async def compare(store: AsyncObjectStore, key: str, condition: Condition) -> None:
    """Check a condition by HEAD, for requests with which the store would ignore it; a short window remains.

    Raises:
        PreconditionFailedError: it does not hold.
    """
    if condition == ANY:
        return
    found = await find(store, key)
    if (None if found is None else found.version.etag) != condition.if_match:
        raise PreconditionFailedError("somebody else changed the object", key=key)


async def walk(store: AsyncObjectStore, prefix: str) -> AsyncIterator[ObjectInfo]:
    """All objects below a prefix."""
    token: str | None = None
    while True:
        page = await store.list(prefix, page=token)
        for info in page.objects:
            yield info
        token = page.next_page
        if token is None:
            return
