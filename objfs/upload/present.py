"""What the store has under keys that are about to be deleted: for stores whose deletes know no conditions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from objfs.errors import NotFoundError
from objfs.store.known import head_known
from objfs.store.listing import MAX_PAGE_KEYS
from objfs.store.parallel import for_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import Version

HEADS_MAX = 4  # so few keys are asked for one by one; of more, one listing tells a thousand
PARALLEL_HEADS = 32
FRESH_S = 2.0  # an answer that is older when the last one comes is asked for again
TRIES = 3


async def present_versions(store: AsyncObjectStore, keys: Sequence[str]) -> dict[str, Version]:
    """The versions of those keys that exist: of many by a listing where it can be believed, else by HEAD.

    Keys are also asked for again if others kept them waiting: somebody may have replaced them meanwhile.
    """
    wanted = sorted(set(keys))
    found: dict[str, Version] = {}
    asked_at = dict.fromkeys(wanted, -math.inf)
    capabilities = store.capabilities
    is_told = capabilities.listing_ordered and capabilities.listing_consistent

    async def head(key: str) -> None:
        asked_at[key] = trio.current_time()
        try:
            found[key] = (await head_known(store, key)).version
        except NotFoundError:
            found.pop(key, None)

    for _ in range(TRIES):
        unknown = [key for key in wanted if trio.current_time() - asked_at[key] > FRESH_S]
        if len(unknown) > HEADS_MAX and is_told:
            begun_at = trio.current_time()
            told, left = await _listed(store, unknown)
            for key in set(unknown).difference(left):
                found.pop(key, None)
                asked_at[key] = begun_at
            found.update(told)
            unknown = left
        await for_each(unknown, head, at_once=PARALLEL_HEADS)
    return found


async def _listed(store: AsyncObjectStore, wanted: list[str]) -> tuple[dict[str, Version], list[str]]:
    """What a few pages of a flat listing tell of sorted keys, and the keys that they did not reach."""
    names = set(wanted)
    found: dict[str, Version] = {}
    prefix = _common_prefix(wanted[0], wanted[-1])
    after = wanted[0][:-1] if len(prefix) < len(wanted[0]) else ""  # sorts before all of them
    token: str | None = None
    last = ""
    for _ in range(1 + 2 * len(wanted) // MAX_PAGE_KEYS):
        page = await store.list(prefix, start_after="" if token else after, page=token)
        found.update({info.key: info.version for info in page.objects if info.key in names})
        token = page.next_page
        last = page.objects[-1].key if page.objects else last
        if token is None or last >= wanted[-1]:
            return found, []
    return found, [key for key in wanted if key > last]


def _common_prefix(first: str, last: str) -> str:
    """What the first and the last of sorted keys, and so all of them, begin with."""
    length = next((at for at, pair in enumerate(zip(first, last, strict=False)) if len(set(pair)) == 2), None)
    return first[: length if length is not None else min(len(first), len(last))]
