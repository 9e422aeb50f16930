"""Whether the store is away, since when, and when to try again."""

from __future__ import annotations

import logging
import random
import time

from objfs.errors import BucketNotFoundError, ThrottledError, UnauthenticatedError, UnavailableError

log = logging.getLogger(__name__)

AWAY = (UnavailableError, ThrottledError, UnauthenticatedError, BucketNotFoundError)  # no fault of one key
HOPELESS_ATTEMPTS = 10  # some three minutes: then a single object's trouble stays its own
BACK_OFF_S = (1.0, 30.0)  # first and greatest wait between two probes


class Outage:
    """While the store is away one operation at a time probes it, more and more seldom."""

    def __init__(self) -> None:
        self.since_s: float | None = None
        """Unix time of the first failure that still lasts."""
        self.probe_at = 0.0
        """Trio time before which nothing is sent."""
        self._failures = 0

    @property
    def lasts(self) -> bool:
        """Whether the store is away."""
        return self.since_s is not None

    def failed(self, now: float, why: str) -> None:
        """A request found nobody."""
        if self.since_s is None:
            self.since_s = time.time()
            log.warning("the store is away, changes wait in the journal: %s", why)
        self.probe_at = now + back_off_s(self._failures)
        self._failures += 1

    def ended(self) -> None:
        """A request was answered."""
        if self.since_s is not None:
            log.info("the store answers again after %.0f s", time.time() - self.since_s)
        self.since_s = None
        self.probe_at = 0.0
        self._failures = 0


def back_off_s(failures: int) -> float:
    """Seconds to wait after so many earlier failures, jittered."""
    first, most = BACK_OFF_S
    wait = min(most, first * float(2 ** min(failures, 6)))
    return wait * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
