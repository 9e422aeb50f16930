"""What requests cost, roughly: list prices of S3 Standard in us-east-1, in US dollars, as of 2025.

| requests                                                          | per 1,000 |
|-------------------------------------------------------------------|-----------|
| PUT, COPY, POST, LIST (parts, multipart uploads, listings)        | 0.005     |
| GET, HEAD                                                         | 0.0004    |
| DELETE, abort                                                     | free      |

Bytes out of the region come to 0.09 a GB in the Internet, and nothing within the region, so that they count
only if asked for. Storage, taxes and discounts are not in it. Source: https://aws.amazon.com/s3/pricing/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.control.figures import RequestFigures

_READS = frozenset({"head", "get"})
_FREE = frozenset({"delete", "abort"})
_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """US dollars (or whatever was given) for 1,000 requests, and for 1 GB received."""

    write: float = 0.005
    read: float = 0.0004
    out: float = 0.0

    @property
    def source(self) -> str:
        """What the estimate is made of."""
        usual = self == Prices()
        return "list prices of S3 Standard in us-east-1" if usual else "the prices given"

    def of(self, kind: str, requests: float) -> float:
        """What so many requests of a kind cost."""
        if kind in _FREE:
            return 0.0
        return requests / 1000 * (self.read if kind in _READS else self.write)

    def total(self, requests: Mapping[str, RequestFigures]) -> float:
        """What all requests cost, with the bytes they received."""
        return sum(
            self.of(kind, one.durations.count) + one.received_bytes / _GB * self.out
            for kind, one in requests.items()
        )


def parse_prices(text: str | None) -> Prices:
    """`write=0.005,read=0.0004,out=0.09`, or the usual ones.

    Raises:
        UsageError: it is something else.
    """
    values: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, number = part.strip().partition("=")
        try:
            if name not in Prices.__dataclass_fields__ or not 0 <= float(number) < 1e6:
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--prices: '{part}' is no price; write for instance write=0.005,read=0.0004,out=0.09 "
                "(for 1,000 requests, and for 1 GB received)."
            ) from None
        values[name] = float(number)
    return Prices(**values)
