"""Bodies that come too slowly, without waiting."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest

from objfs.drivers.s3api.body import LEAST_BYTES_S, SteadyBody
from objfs.errors import UnavailableError


@dataclass
class Line:
    """A body that comes in pieces, each after some seconds."""

    piece_bytes: int
    gap_s: float
    now_s: float = 0.0
    body: io.BytesIO = field(default_factory=io.BytesIO)

    def read1(self, amt: int, *, decode_content: bool) -> bytes:
        assert not decode_content
        self.now_s += self.gap_s
        return self.body.read(min(amt, self.piece_bytes))

    def receive(self, data: bytes, window_s: float) -> bytes:
        self.body = io.BytesIO(data)
        return SteadyBody(self, window_s, now=lambda: self.now_s).read_all()


def test_a_body_that_drips_is_given_up() -> None:
    line = Line(piece_bytes=1, gap_s=1.0)
    with pytest.raises(UnavailableError):
        line.receive(bytes(100_000), 30.0)
    assert line.now_s < 35


def test_a_slow_body_is_waited_for() -> None:
    data = bytes(range(256)) * 400
    line = Line(piece_bytes=2 * LEAST_BYTES_S, gap_s=1.5)
    assert line.receive(data, 30.0) == data
    assert line.now_s > 60


def test_a_short_body_may_drip() -> None:
    assert Line(piece_bytes=1, gap_s=1.0).receive(b"short", 10.0) == b"short"
