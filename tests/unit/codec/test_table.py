"""Seek tables: what is written is read, what contradicts itself is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objfs.codec.table import SeekTable, parse_footer, parse_table, tail_bytes
from objfs.codec.values import MAX_FRAME_BYTES, MAX_FRAMES, Frame, frame_bytes
from objfs.errors import CorruptError
from objfs.store.values import GIB, TIB

frames = st.lists(
    st.builds(
        lambda content, share, checksum: Frame(
            stored_bytes=12 + int(content * share), content_bytes=content, checksum=checksum
        ),
        content=st.integers(0, 4 * 1024 * 1024),
        share=st.floats(0, 1),
        checksum=st.integers(0, 2**32 - 1),
    ),
    max_size=40,
)


def entries(*sizes: tuple[int, ...], count: int | None = None, descriptor: int = 0) -> bytes:
    """A table of these entries, as anybody may write it."""
    body = b"".join(struct.pack(f"<{len(size)}I", *size) for size in sizes)
    footer = struct.pack("<IBI", len(sizes) if count is None else count, descriptor, 0x8F92EAB1)
    return struct.pack("<II", 0x184D2A5E, len(body) + len(footer)) + body + footer


@given(frames, st.booleans())
def test_a_table_reads_back(listed: list[Frame], checked: bool) -> None:
    if not checked:
        listed = [
            Frame(stored_bytes=frame.stored_bytes, content_bytes=frame.content_bytes) for frame in listed
        ]
    table = SeekTable(listed)
    data = table.encode()
    assert len(data) == table.table_bytes
    again = parse_table(b"some frames" + data, table.stored_bytes + len(data), table.content_bytes)
    assert [again.frame(number) for number in range(len(again))] == listed


@given(frames.filter(lambda listed: sum(frame.content_bytes for frame in listed) > 0), st.data())
def test_frames_that_cover_a_range(listed: list[Frame], data: st.DataObject) -> None:
    table = SeekTable(listed)
    start = data.draw(st.integers(0, table.content_bytes - 1))
    stop = data.draw(st.integers(start + 1, table.content_bytes))
    covering = table.covering(start, stop)
    low, high = table.content_at(covering)
    assert low <= start < stop <= high
    assert table.content_at(covering[:1])[1] > start
    assert table.content_at(covering[-1:])[0] < stop


@given(st.binary(max_size=200), st.integers(0, 2**70), st.none() | st.integers(0, 2**70))
def test_any_bytes_are_refused_cleanly(data: bytes, stored: int, content: int | None) -> None:
    footer = struct.pack("<IBI", stored % 2**32, 0x80, 0x8F92EAB1)
    for tail in (data, data + footer):
        try:
            parse_table(tail, stored, content)
        except CorruptError:
            continue


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "too short"),
        (b"x" * 40, "does not end"),
        (entries((50, 100), count=2), "cut off"),
        (entries((50, 100), count=200), "longer than the object"),
        (entries((50, 100), count=MAX_FRAMES + 1), "more than can be read"),
        (entries((50, 100), count=2**32 - 1), "more than can be read"),
        (entries((50, 100), descriptor=0x04), "unknown kind"),
        (entries((50, 100), (1, 1), count=1), "contradicts its own size"),
        (entries((50, MAX_FRAME_BYTES + 1)), "larger than can be read"),
        (entries((50, 2**32 - 1)), "larger than can be read"),
        (entries((2**32 - 1, 5)), "more bytes than zstd could need"),
        (entries((49, 100)), "contradicts the object's length"),
        (entries((51, 100)), "contradicts the object's length"),
        (entries((25, 100), (25, 1)), "holds 101 bytes"),
    ],
)
def test_tables_that_lie(data: bytes, why: str) -> None:
    with pytest.raises(CorruptError, match=why):
        parse_table(data, 50 + len(data), 100)


def test_a_table_that_is_cut_off() -> None:
    data = entries((50, 100), (50, 100))
    assert parse_footer(data[-9:], 100 + len(data)) == len(data)
    with pytest.raises(CorruptError, match="cut off"):
        parse_table(data[1:], 100 + len(data), 200)
    with pytest.raises(CorruptError, match="own size"):
        parse_table(b"?" + data[1:], 100 + len(data), 200)


def test_the_largest_objects_fit() -> None:
    for length in (1, GIB, 64 * GIB, 64 * GIB + 1, 5 * TIB):
        size = frame_bytes(length)
        assert size <= MAX_FRAME_BYTES
        assert size & (size - 1) == 0
        assert -(-length // size) <= MAX_FRAMES
        assert tail_bytes(length) <= 4 * 1024 * 1024
