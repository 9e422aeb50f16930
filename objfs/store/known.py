"""Objects that somebody knows of, where a store may say for a while that there is no such object.

A MinIO of several nodes does so of what was written while one of them was away, when another is away later,
and for up to 30 s after it came back (the back-off of its health check): of the drives that answer, one has
the object and one lacks it; those that do not answer are not counted (`getObjectFileInfo`). With one of four
nodes away, those requests say so that take an object's bytes (GET, COPY), with two also HEAD. Its listings
tell the object all the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ListPage, ObjectInfo


async def head_known(store: AsyncObjectStore, key: str) -> ObjectInfo:
    """HEAD of an object that was there when it was last heard of.

    Raises:
        NotFoundError: it is gone.
        UnavailableError: it is there, but the store does not find it now.
    """
    found, _ = await find_known(store, key)
    if found is None:
        raise NotFoundError("The object is gone.", key=key)
    return found


async def find_known(store: AsyncObjectStore, key: str) -> tuple[ObjectInfo | None, ListPage | None]:
    """What is under a key; if nothing is, and a HEAD alone is no proof, a listing of the key that says so.

    Raises:
        UnavailableError: something is, but the store does not find it now.
    """
    for _ in range(2):  # what was put there meanwhile is found the second time
        try:
            return await store.head(key), None
        except NotFoundError:
            if store.capabilities.file_over_prefix:
                return None, None
        page = await store.list(key, max_keys=1)
        if not tells(page, key):
            return None, page
    raise hidden(key)


def tells(page: ListPage, key: str) -> bool:
    """Whether a listing of the prefix `key`, of one key at least, tells the object under that key."""
    return any(info.key == key for info in page.objects)


def hidden(key: str) -> UnavailableError:
    """The error that says so."""
    return UnavailableError("The store does not find an object that it lists.", key=key)
