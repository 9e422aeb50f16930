"""Pages of a listing out of sorted keys, for drivers that have the keys at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from objfs.errors import InvalidRequestError
from objfs.store.values import ListPage, ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_PAGE_KEYS = 1000  # S3: ListObjectsV2 returns no more, whatever max-keys says


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a listing goes on: after a key, or after everything below a common prefix."""

    after: str
    whole_prefix: bool = False

    @classmethod
    def decode(cls, page: str | None, start_after: str) -> Self:
        """The cursor of a page token, or of the beginning."""
        if page is None:
            return cls(after=start_after)
        if page[:1] not in ("k", "p"):
            raise InvalidRequestError("Not a page of this listing.")
        return cls(after=page[1:], whole_prefix=page[0] == "p")

    def encode(self) -> str:
        """The page token."""
        return ("p" if self.whole_prefix else "k") + self.after

    def is_past(self, key: str) -> bool:
        """Whether the listing has not told of `key` yet."""
        return key > self.after and not (self.whole_prefix and key.startswith(self.after))


def build_page(
    keys: Iterable[str],
    describe: Callable[[str], ObjectInfo | None],
    *,
    prefix: str,
    delimiter: str,
    cursor: Cursor,
    max_keys: int,
) -> ListPage:
    """One page. Code-point order of `str` is the byte order of UTF-8.

    Args:
        keys: sorted keys, from at most `cursor.after` on; doubles are told once. All below `prefix` must be
            there; with delimiter `/`, a key `dir/` may stand for all keys below.
        describe: facts of a key, or None if it is gone meanwhile.
        prefix: as in `ObjectStore.list`.
        delimiter: as in `ObjectStore.list`.
        cursor: where the page begins.
        max_keys: most objects and prefixes together.
    """
    limit = max(1, min(max_keys, MAX_PAGE_KEYS))
    objects: list[ObjectInfo] = []
    prefixes: list[str] = []
    last = cursor
    for key in keys:
        if not key.startswith(prefix):
            if key > prefix:
                break
            continue
        if not last.is_past(key):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        full = len(objects) + len(prefixes) >= limit
        if cut >= 0:
            if full:
                return _page(objects, prefixes, last)
            last = Cursor(after=key[: cut + len(delimiter)], whole_prefix=True)
            prefixes.append(last.after)
        elif (info := describe(key)) is not None:
            if full:
                return _page(objects, prefixes, last)
            last = Cursor(after=key)
            objects.append(info)
    return _page(objects, prefixes, None)


def _page(objects: list[ObjectInfo], prefixes: list[str], last: Cursor | None) -> ListPage:
    return ListPage(
        objects=tuple(objects), prefixes=tuple(prefixes), next_page=None if last is None else last.encode()
    )
