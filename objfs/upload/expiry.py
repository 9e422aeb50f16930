"""When objects expire, as they tell it themselves.

| metadata | value |
|---|---|
| `objfs-expires` | the time from which on the file is gone, RFC 3339 in UTC |
| `objfs-expire-idle` | seconds without a read after which it is gone; `objfs-expires` moves with reads |
| `objfs-expire-latest` | where both hold: the time that no read can move |

Reads are noted at most once a day: then `objfs-expires` becomes the idle time and one day more from now, so
that no file goes earlier than its idle time after the last read.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.config.rules import Treatment
    from objfs.store.values import ObjectInfo

EXPIRES_METADATA = "objfs-expires"
IDLE_METADATA = "objfs-expire-idle"
LATEST_METADATA = "objfs-expire-latest"
EXPIRY_NAMES = frozenset({EXPIRES_METADATA, IDLE_METADATA, LATEST_METADATA})
RENEW_EVERY_S = 86_400  # each renewal is a server-side copy
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """When a file goes. Unix times in seconds.

    Attributes:
        at_s: from then on it is gone.
        idle_s: so long after the last read, if reads count.
        latest_s: no read moves it beyond this.
    """

    at_s: float
    idle_s: float | None = None
    latest_s: float | None = None

    def has_passed(self, now_s: float) -> bool:
        """Whether the file is gone."""
        return self.at_s <= now_s

    def renewed(self, now_s: float) -> Expiry | None:
        """The expiry after a read now, or None if nothing has to be noted."""
        latest_s = math.inf if self.latest_s is None else self.latest_s
        if self.idle_s is None or self.at_s >= min(now_s + self.idle_s, latest_s):
            return None
        at_s = min(now_s + self.idle_s + RENEW_EVERY_S, latest_s)
        return Expiry(at_s=at_s, idle_s=self.idle_s, latest_s=self.latest_s)

    def to_metadata(self) -> dict[str, str]:
        """As objects carry it."""
        metadata = {EXPIRES_METADATA: time_text(self.at_s)}
        if self.idle_s is not None:
            metadata[IDLE_METADATA] = f"{self.idle_s:.0f}"
        if self.latest_s is not None:
            metadata[LATEST_METADATA] = time_text(self.latest_s)
        return metadata


def read_expiry(metadata: Mapping[str, str]) -> Expiry | None:
    """The expiry that an object tells; None if it tells none that can be understood: then it stays."""
    at_s = parse_time(metadata.get(EXPIRES_METADATA))
    if at_s is None:
        return None
    idle = metadata.get(IDLE_METADATA, "")
    idle_s = float(idle) if idle.isascii() and idle.isdecimal() and len(idle) < 12 else None
    return Expiry(at_s=at_s, idle_s=idle_s, latest_s=parse_time(metadata.get(LATEST_METADATA)))


def expiry_of(treatment: Treatment, stored_ns: int) -> Expiry | None:
    """The expiry of a file that is stored at a time."""
    stored_s = stored_ns / _NS
    after_s, idle_s = treatment.expire_after_s, treatment.expire_idle_s
    latest_s = None if after_s is None else stored_s + after_s
    if idle_s is None:
        return None if latest_s is None else Expiry(at_s=latest_s)
    at_s = stored_s + idle_s
    return Expiry(at_s=at_s if latest_s is None else min(at_s, latest_s), idle_s=idle_s, latest_s=latest_s)


def expiry_metadata(treatment: Treatment, stored_ns: int) -> dict[str, str]:
    """What an object that is stored at a time tells of its expiry."""
    expiry = expiry_of(treatment, stored_ns)
    return expiry.to_metadata() if expiry is not None else {}


def without_expiry(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata without what tells an expiry."""
    return {name: text for name, text in metadata.items() if name not in EXPIRY_NAMES}


def has_expired(info: ObjectInfo) -> bool:
    """Whether an object tells that it is gone by now: nobody's, and free to be replaced."""
    expiry = read_expiry(info.metadata or {})
    return expiry is not None and expiry.has_passed(time.time())


def time_text(time_s: float) -> str:
    """RFC 3339 in UTC, whole seconds, rounded up: never earlier than promised."""
    return datetime.fromtimestamp(math.ceil(time_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str | None) -> float | None:
    """Unix time of RFC 3339, or None."""
    if not text or len(text) > 40:  # longer than any such time
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
