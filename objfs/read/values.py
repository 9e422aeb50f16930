"""Frozen values of the reading side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from objfs.store.values import Version


class DiskBlocks(Protocol):
    """What a reader needs of the disk cache; methods block, but for `may_hold`."""

    def get_many(self, object_id: str, indexes: Sequence[int]) -> list[bytes | None]:
        """Several blocks, None where missing."""
        ...

    def may_hold(self, object_id: str) -> bool:
        """False if it surely holds no block of an object."""
        ...

    def put_batch(self, blocks: Sequence[tuple[str, int, bytes | memoryview]]) -> bool:
        """Keep blocks (object id, index, bytes); False if they were dropped."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a handle reads: one version of one object.

    Attributes:
        object_id: opaque name of exactly these bytes, in memory and in the disk cache.
        key: where the object lies in the store.
        version: sent as If-Match with every request; the length of its content bounds every read.
    """

    object_id: str
    key: str
    version: Version


def object_name(key: str, version: Version) -> str:
    """An opaque name of a version's content, for memory and the disk cache."""
    identity = f"{key}\0{version.etag}\0{version.size_bytes}"
    if version.decoded_bytes is not None:
        identity += f"\0{version.decoded_bytes}"
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStats:
    """Counts since the reader was opened; `memory_bytes` and `running_fetches` are of now.

    Attributes:
        peak_bytes: most that `memory_bytes` has been, fetches under way included.
        requests: GETs sent.
        memory_hits: reads answered without waiting.
        memory_read_bytes, disk_read_bytes, store_read_bytes: parts of `read_bytes` by where they came from:
            the first reading of a byte is the disk cache's or the store's, each further one is memory's.
        disk_blocks: blocks that came from the disk cache.
        dropped_prefetches: runs not fetched ahead for want of room or of a free request.
        dropped_inserts: blocks not given to the disk cache, because it was slower than the store.
    """

    memory_bytes: int
    memory_limit_bytes: int
    peak_bytes: int
    running_fetches: int
    reads: int
    read_bytes: int
    memory_hits: int
    memory_read_bytes: int
    disk_read_bytes: int
    store_read_bytes: int
    disk_blocks: int
    requests: int
    fetched_bytes: int
    failed_fetches: int
    dropped_prefetches: int
    dropped_inserts: int
