"""One fetch of adjacent blocks, and who waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.store.stalls import Pulse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from objfs.read.memory import Chunk
    from objfs.read.values import Source


@dataclass(eq=False, slots=True, kw_only=True)
class Fetch:
    """Blocks [first, stop) of a source on their way.

    Attributes:
        is_demand: begun because a read needs it, not ahead of one.
        charged_bytes: what it holds, or will hold, of the budget; `is_charged` once it does.
        ahead_bytes: its part of what is being fetched ahead.
        pulse: of its request.
        waiters: readers waiting for `done` or, thereafter, about to copy.
        error: set before `done` if it failed.
    """

    source: Source
    first: int
    stop: int
    is_demand: bool
    charged_bytes: int = 0
    is_charged: bool = False
    ahead_bytes: int = 0
    waiters: int = 0
    error: Exception | None = None
    done: trio.Event = field(default_factory=trio.Event)
    pulse: Pulse = field(default_factory=Pulse)
    _pinned: list[Chunk] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for it, or will."""
        return self.is_demand or self.waiters > 0

    @property
    def object_id(self) -> str:
        """The source's."""
        return self.source.object_id

    def split(self, first: int, stop: int) -> Fetch:
        """A fetch of some of these blocks; who waits for them finds it after this one is done."""
        return Fetch(
            source=self.source, first=first, stop=stop, is_demand=self.is_wanted, is_charged=self.is_charged
        )

    def pin(self, chunks: Iterable[Chunk]) -> None:
        """Keep chunks from being evicted until the waiters have copied."""
        for chunk in chunks:
            chunk.pins += 1
            self._pinned.append(chunk)

    def take_pinned(self) -> list[Chunk]:
        """The pinned chunks; the caller unpins them."""
        pinned, self._pinned = self._pinned, []
        return pinned
