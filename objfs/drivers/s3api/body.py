"""The body of an answer, as it comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from objfs.errors import UnavailableError
from objfs.store.stalls import beat
from objfs.store.values import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

# A socket's timeout begins anew with each byte: without a least rate a body could drip for hours, and keep
# a thread and a connection meanwhile.
LEAST_BYTES_S = 1 * KIB
_PIECE_BYTES = 1 * MIB  # most that one call takes from the kernel


class Response(Protocol):
    """What is needed of urllib3's responses."""

    def read1(self, amt: int, *, decode_content: bool) -> bytes:
        """What one read gives, b"" at the end."""
        ...


class SteadyBody:
    """A body that brings `LEAST_BYTES_S` on the average of each `window_s` spent waiting for it.

    Raises:
        UnavailableError: it does not.
    """

    def __init__(
        self,
        response: Response,
        window_s: float,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._response = response
        self._window_s = window_s
        self._now = now
        self._waited_s = 0.0
        self._came_bytes = 0

    def read(self, most: int) -> bytes:
        """What has come, at most so many bytes; b"" at the end."""
        began = self._now()
        data = self._response.read1(most, decode_content=False)
        self._waited_s += self._now() - began
        self._came_bytes += len(data)
        beat()
        if self._waited_s > self._window_s:
            if data and self._came_bytes < LEAST_BYTES_S * self._window_s:
                raise UnavailableError(f"Of the store's answer only {self._came_bytes} bytes came in time.")
            self._waited_s, self._came_bytes = 0.0, 0
        return data

    def read_all(self) -> bytes:
        """The whole body."""
        pieces = []
        while piece := self.read(_PIECE_BYTES):
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
