"""A natively async store with latency, faults and other writers, for the reader's tests."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

import trio
import trio.testing

from objfs.errors import NotFoundError, PreconditionFailedError
from objfs.read.values import Source
from objfs.store.values import Blob, ByteRange, ObjectInfo, Version

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from objfs.store.protocol import AsyncObjectStore

T = TypeVar("T")


def content(size: int, seed: int = 0) -> bytes:
    """Bytes of which every aligned eight tell their place."""
    return b"".join((at * 8191 + seed).to_bytes(8, "little") for at in range(-(-size // 8)))[:size]


@dataclass(kw_only=True)
class SimulatedStore:
    """Objects by key. `faults` are raised, one per request, before requests succeed.

    Attributes:
        gate: if set, requests wait for it after their latency.
        spoil: changes a body on its way.
        running, most_running: requests under way.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    latency_s: float = 0.01
    faults: deque[Exception] = field(default_factory=deque)
    gate: trio.Event | None = None
    spoil: Callable[[bytes], bytes] = field(default=lambda data: data)
    honours_if_match: bool = True
    requests: list[tuple[str, ByteRange]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    def add(self, key: str, data: bytes, etag: str = "v1") -> Source:
        """Store an object and say how to read it."""
        self.objects[key] = data
        self.etags[key] = etag
        version = Version(etag=etag, size_bytes=len(data))
        return Source(object_id=f"{key}@{etag}", key=key, version=version)

    async def get(
        self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> Blob:
        assert byte_range is not None
        self.requests.append((key, byte_range))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await trio.sleep(self.latency_s)
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.running -= 1
        if self.faults:
            raise self.faults.popleft()
        if key not in self.objects:
            raise NotFoundError(key, key=key)
        if self.honours_if_match and if_match is not None and self.etags[key] != if_match:
            raise PreconditionFailedError(key, key=key)
        data = self.objects[key]
        info = ObjectInfo(key=key, version=Version(etag=self.etags[key], size_bytes=len(data)))
        return Blob(info=info, data=self.spoil(data[byte_range.start : byte_range.stop]))

    @property
    def fetched_bytes(self) -> int:
        """Bytes asked for in all requests."""
        return sum(byte_range.length for _, byte_range in self.requests)

    def as_store(self) -> AsyncObjectStore:
        """Itself, as the reader wants it: only `get` is ever called."""
        return cast("AsyncObjectStore", self)


def run(test: Callable[[], Awaitable[T]]) -> T:
    """Run a test under a clock that jumps whenever everybody waits."""
    return trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))
