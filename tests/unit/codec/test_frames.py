"""Frames: encoded for everybody, decoded only as declared."""

from __future__ import annotations

import random
import subprocess
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from objfs.codec.frames import FrameEncoder, decode_frames
from objfs.codec.table import SeekTable, parse_table
from objfs.codec.values import MAX_FRAME_BYTES, Frame
from objfs.errors import CorruptError
from objfs.store.values import MIB
from tests.unit.codec.fuzz import one_round
from tests.unit.codec.objects import compressed, content_of

contents = st.binary(max_size=3000) | st.builds(
    lambda unit, times: unit * times, st.binary(max_size=9), st.integers(0, 900)
)


@given(contents, st.integers(1, 999), st.integers(1, 22))
@settings(max_examples=60, deadline=None)
def test_any_content_comes_back(content: bytes, size: int, level: int) -> None:
    data = compressed(content, size=size, level=level)
    assert content_of(data) == content


@given(contents.filter(bool), st.integers(1, 999), st.data())
@settings(max_examples=60, deadline=None)
def test_a_range_needs_only_the_frames_it_touches(content: bytes, size: int, draw: st.DataObject) -> None:
    data = compressed(content, size=size)
    table = parse_table(data, len(data), len(content))
    start = draw.draw(st.integers(0, len(content) - 1))
    stop = draw.draw(st.integers(start + 1, len(content)))
    frames = table.covering(start, stop)
    low, high = table.stored_at(frames)
    got = b"".join(piece for _, piece in decode_frames(data[low:high], table, frames))
    first = table.content_at(frames)[0]
    assert got[start - first : stop - first] == content[start:stop]
    assert len(got) <= stop - start + 2 * size


def test_zstd_decompresses_it_as_it_is() -> None:
    content = random.Random(1).randbytes(100_000) + b"text " * 100_000
    data = compressed(content, size=65536)
    told = subprocess.run(["zstd", "-d", "-q", "-c"], input=data, capture_output=True, check=True, timeout=60)
    assert told.stdout == content


@given(st.integers(0, 2**32), st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_damage_is_noticed(seed: int, times: int) -> None:
    """Every change of a stored byte is noticed: in the table, in a header, or by a checksum."""
    chance = random.Random(seed)
    content = b"".join(chance.choice((b"abc", chance.randbytes(7))) for _ in range(600))
    data = compressed(content, size=512)
    damaged = bytearray(data)
    for _ in range(times):
        damaged[chance.randrange(len(damaged))] ^= chance.randrange(1, 256)
    if chance.random() < 0.3:
        del damaged[chance.randrange(len(damaged)) :]
    if bytes(damaged) == data:
        return
    try:
        got = content_of(bytes(damaged), content_bytes=len(content))
    except CorruptError:
        return
    assert got == content  # a bit of a header without meaning, for instance


def test_a_bomb_takes_no_memory() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(512 * MIB))
    for declared in (100, MAX_FRAME_BYTES):
        table = SeekTable([Frame(stored_bytes=len(bomb), content_bytes=declared)])
        tracemalloc.start()
        with pytest.raises(CorruptError, match="disagree about its size"):
            list(decode_frames(bomb, table, range(1)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MIB


def test_a_bomb_without_a_declared_size() -> None:
    maker = zstandard.ZstdCompressor(level=3, write_content_size=False).compressobj()
    bomb = b"".join(maker.compress(bytes(MIB)) for _ in range(256)) + maker.flush()
    table = SeekTable([Frame(stored_bytes=len(bomb), content_bytes=4096)])
    with pytest.raises(CorruptError):
        list(decode_frames(bomb, table, range(1)))


def test_frames_that_change_places() -> None:
    first, second = FrameEncoder(3).encode(b"a" * 1000), FrameEncoder(3).encode(b"b" * 1000)
    table = SeekTable([first[1], second[1]])
    assert len(first[0]) == len(second[0])
    assert [piece[:1] for _, piece in decode_frames(first[0] + second[0], table, range(2))] == [b"a", b"b"]
    with pytest.raises(CorruptError, match="disagree about its checksum"):
        list(decode_frames(second[0] + first[0], table, range(2)))


def test_two_frames_where_one_is_declared() -> None:
    one = FrameEncoder(3).encode(b"a" * 1000)[0]
    table = SeekTable([Frame(stored_bytes=2 * len(one), content_bytes=1000)])
    with pytest.raises(CorruptError):
        list(decode_frames(one + one, table, range(1)))
    with pytest.raises(CorruptError, match="bytes of frames instead of"):
        list(decode_frames(one, table, range(1)))


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_random_damage(first: int) -> None:
    """A short form of the fuzzing in `fuzz.py`."""
    outcomes = {one_round(seed) for seed in range(first, first + 500)}
    assert "refused" in outcomes
