"""Requests that have moved nothing for a while: they keep no other from its turn."""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STALL_S = 2.0  # well above the slowest first byte of a store that is well (S3: some 100 ms, MinIO: 10 ms)
LOOK_S = 0.5  # how often who waits for a turn looks whether somebody has stalled
MAX_STALLED = 224  # beside those that move; each holds a thread and a connection until its timeout


class Pulse:
    """Whether anything of a request moves, in all of its attempts. Its thread beats, others look.

    Attributes:
        is_held_up: by ourselves, until its turn comes or a rate allows more; the store is not to blame.
        is_suspect: an attempt stalled and nothing has moved since: the next one takes nobody's turn.
    """

    __slots__ = ("beats", "is_held_up", "is_suspect")

    def __init__(self) -> None:
        self.beats = 0
        self.is_held_up = False
        self.is_suspect = False

    def beat(self) -> None:
        """Something moved."""
        self.beats += 1
        self.is_suspect = False


class Watch:
    """When a pulse was last seen to beat, on its owner's clock."""

    __slots__ = ("_seen", "_since_s", "pulse")

    def __init__(self, pulse: Pulse, now_s: float) -> None:
        self.pulse = pulse
        self._seen = pulse.beats
        self._since_s = -math.inf if pulse.is_suspect else now_s

    def has_stalled(self, now_s: float) -> bool:
        """Whether nothing has moved for `STALL_S`."""
        if self.pulse.beats != self._seen or self.pulse.is_held_up:
            self._seen, self._since_s = self.pulse.beats, now_s
        return now_s - self._since_s >= STALL_S


class Errand:
    """Requests of one purpose, as far as they are with the store now. Threads come and go, others look."""

    __slots__ = ("_watches",)

    def __init__(self) -> None:
        self._watches: set[Watch] = set()

    def has_stalled(self, now_s: float) -> bool:
        """Whether nothing of it moves, and the store is to blame for that."""
        watches = tuple(self._watches)
        return bool(watches) and all(watch.has_stalled(now_s) for watch in watches)

    @contextmanager
    def watched(self, watch: Watch) -> Iterator[None]:
        """A request is under way in here."""
        self._watches.add(watch)
        try:
            yield
        finally:
            self._watches.discard(watch)


_PULSE: ContextVar[Pulse] = ContextVar("pulse of the request under way")
_ERRAND: ContextVar[Errand] = ContextVar("purpose of the requests under way")


@contextmanager
def running(errand: Errand) -> Iterator[None]:
    """Requests in here, also those of tasks and threads begun in here, are of this purpose."""
    token = _ERRAND.set(errand)
    try:
        yield
    finally:
        _ERRAND.reset(token)


def current_errand() -> Errand:
    """What the requests in here are for; an errand of their own if nobody said."""
    return _ERRAND.get(None) or Errand()


@contextmanager
def pulsing(pulse: Pulse | None = None) -> Iterator[Pulse]:
    """Requests in here, also those in threads begun in here, have this pulse: by default what is there."""
    current = pulse or _PULSE.get(None) or Pulse()
    token = _PULSE.set(current)
    try:
        yield current
    finally:
        _PULSE.reset(token)


@contextmanager
def held_up() -> Iterator[None]:
    """The request under way in here is held up by ourselves meanwhile."""
    pulse = _PULSE.get(None)
    if pulse is None:
        yield
        return
    pulse.is_held_up = True
    try:
        yield
    finally:
        pulse.is_held_up = False
        pulse.beats += 1


def beat() -> None:
    """Something of the request under way in here has moved; drivers tell it, piece by piece."""
    pulse = _PULSE.get(None)
    if pulse is not None:
        pulse.beat()
