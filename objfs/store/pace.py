"""Rates: bytes and requests per second, shared by all threads of a mount, changeable at any time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.store.stalls import held_up
from objfs.store.values import KIB

if TYPE_CHECKING:
    from collections.abc import Callable

BURST_S = 0.1  # what an idle line may catch up on: smooth to a router, and large enough for timers
PIECES_PER_S = 20  # a paced transfer moves in pieces of a twentieth of a second
PIECE_BYTES = (4 * KIB, 256 * KIB)  # least and greatest piece: below, system calls cost more than data


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Limits per second; None: no limit."""

    upload_bytes_s: float | None = None
    download_bytes_s: float | None = None
    requests_s: float | None = None


class Bucket:
    """A rate that many threads share, in the order in which they come. Thread-safe.

    Each `take` books its time on one line, and sleeps until that has come: so no thread overtakes another,
    and the sum never exceeds the rate by more than a burst.
    """

    def __init__(
        self,
        rate_s: float | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate_s = rate_s
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._booked_until = -BURST_S
        self._urgent_until = 0.0

    @property
    def rate_s(self) -> float | None:
        """What may pass in a second, None without a limit."""
        return self._rate_s

    def set_rate(self, rate_s: float | None) -> None:
        """Change the limit; who sleeps already sleeps on."""
        with self._lock:
            self._rate_s = rate_s
            self._booked_until = min(self._booked_until, self._now())

    def take(self, amount: float, *, urgent: bool = False) -> None:
        """Wait until `amount` may pass. `urgent` waits for others of its kind only, and delays the rest."""
        wait_s = self._book(amount, urgent=urgent)
        if wait_s > 0:
            with held_up():
                self._sleep(wait_s)

    @property
    def piece_bytes(self) -> int:
        """How much to move between two calls of `take`."""
        least, greatest = PIECE_BYTES
        return (
            greatest if self._rate_s is None else int(min(max(self._rate_s / PIECES_PER_S, least), greatest))
        )

    def _book(self, amount: float, *, urgent: bool) -> float:
        with self._lock:
            if self._rate_s is None:
                return 0.0
            now = self._now()
            cost_s = amount / self._rate_s
            self._booked_until = max(self._booked_until, now - BURST_S) + cost_s
            if not urgent:
                return self._booked_until - now
            self._urgent_until = max(self._urgent_until, now - BURST_S) + cost_s
            return self._urgent_until - now


class Traffic:
    """The three rates of a mount."""

    def __init__(self, rates: Rates | None = None) -> None:
        self.upload = Bucket()
        self.download = Bucket()
        self.requests = Bucket()
        self.set(rates or Rates())

    def set(self, rates: Rates) -> None:
        """Change all limits, from the next piece or request on."""
        self.upload.set_rate(rates.upload_bytes_s)
        self.download.set_rate(rates.download_bytes_s)
        self.requests.set_rate(rates.requests_s)


def receive_paced(read: Callable[[int], bytes], bucket: Bucket) -> bytes:
    """All that `read(most)` gives until b"", no faster than the bucket allows."""
    pieces: list[bytes] = []
    while piece := read(bucket.piece_bytes):
        bucket.take(len(piece))
        pieces.append(piece)
    return b"".join(pieces)
