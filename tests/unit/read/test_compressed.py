"""Reading compressed objects: the table once, then only the frames that are touched."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from objfs.codec.frames import FrameEncoder
from objfs.codec.table import SeekTable
from objfs.codec.values import FRAME_BYTES
from objfs.errors import CorruptError, StaleVersionError
from objfs.read.reader import open_reader
from objfs.store.values import KIB, MIB, TIB
from tests.unit.codec.objects import compressed
from tests.unit.read.simulated import SimulatedStore, content, run

if TYPE_CHECKING:
    from objfs.read.reader import Reader
    from objfs.read.values import Source

LIMIT = 64 * MIB


def add(store: SimulatedStore, key: str, data: bytes, size: int) -> Source:
    """A compressed object of a content of `size` bytes."""
    source = store.add(key, data)
    return replace(source, version=replace(source.version, decoded_bytes=size))


def test_content_is_read_not_what_is_stored() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), content(5 * MIB + 77)
        source = add(store, "a", compressed(plain, size=FRAME_BYTES), len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            stream = reader.new_stream()
            got = b"".join(
                [await reader.read(source, at, 128 * KIB, stream) for at in range(0, len(plain), 128 * KIB)]
            )
            assert got == plain
            assert await reader.read(source, len(plain) - 5, 100, stream) == plain[-5:]
            assert await reader.read(source, len(plain), 100, stream) == b""

    run(main)


def test_a_small_object_costs_one_request() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), b"small and compressible " * 9000
        source = add(store, "a", compressed(plain, size=FRAME_BYTES), len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            assert await reader.read(source, 0, len(plain), reader.new_stream()) == plain
            assert len(store.requests) == 1
            assert reader.stats().requests == 1

    run(main)


def test_random_reads_fetch_the_table_once_and_one_frame_each() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), random.Random(1).randbytes(8 * MIB)
        source = add(store, "a", compressed(plain, size=FRAME_BYTES, level=1), len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            for number, frame in enumerate((9, 3, 14, 6), start=1):
                at = frame * FRAME_BYTES + 300 * KIB
                assert await reader.read(source, at, 4096, reader.new_stream()) == plain[at : at + 4096]
                assert len(store.requests) == 1 + number
                # The other block of the frame came along.
                assert await reader.read(source, at - 300 * KIB, 9, reader.new_stream())
                assert len(store.requests) == 1 + number
            assert store.fetched_bytes < 5 * (FRAME_BYTES + 20 * KIB)

    run(main)


def test_frames_of_any_length() -> None:
    async def main() -> None:
        chance = random.Random(3)
        plain = content(3 * MIB)
        encoder = FrameEncoder(1)
        made = []
        at = 0
        while at < len(plain):
            size = chance.choice((0, 1, 777, 100_000, 700_000))
            made.append(encoder.encode(plain[at : at + size]))
            at += size
        data = b"".join(piece for piece, _ in made) + SeekTable(frame for _, frame in made).encode()
        store = SimulatedStore()
        source = add(store, "a", data, len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            for _ in range(100):
                start = chance.randrange(len(plain))
                length = chance.choice((1, 4096, 300_000))
                got = await reader.read(source, start, length, reader.new_stream())
                assert got == plain[start : start + length]

    run(main)


def test_memory_stays_within_its_limit() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), random.Random(2).randbytes(24 * MIB)
        source = add(store, "a", compressed(plain, size=FRAME_BYTES, level=1), len(plain))
        limit = 16 * MIB
        async with open_reader(store.as_store(), None, memory_limit_bytes=limit) as reader:

            async def read_part(number: int) -> None:
                stream = reader.new_stream()
                for at in range(number * 4 * MIB, (number + 1) * 4 * MIB, 128 * KIB):
                    assert await reader.read(source, at, 128 * KIB, stream) == plain[at : at + 128 * KIB]

            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(read_part, number)
            assert reader.stats().peak_bytes <= limit

    run(main)


def test_readers_of_one_object_share_its_table() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), random.Random(5).randbytes(4 * MIB)
        source = add(store, "a", compressed(plain, size=FRAME_BYTES, level=1), len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            async with trio.open_nursery() as nursery:
                for frame in range(8):
                    nursery.start_soon(reader.read, source, frame * FRAME_BYTES, 10, reader.new_stream())
            assert len(store.requests) == 1 + 8

    run(main)


@pytest.mark.parametrize("spoilt", ["table", "frame", "size", "plain"])
def test_what_lies_is_an_error(spoilt: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), content(MIB)
        data = bytearray(compressed(plain, size=FRAME_BYTES))
        size = len(plain)
        if spoilt == "table":
            data[-20] ^= 1
        elif spoilt == "frame":
            data[1000] ^= 1
        elif spoilt == "size":
            size += 1
        else:
            data = bytearray(plain)
        source = add(store, "a", bytes(data), size)
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            with pytest.raises(CorruptError):
                await reader.read(source, 0, 10, reader.new_stream())
            assert "'a' cannot be read" in caplog.text

    run(main)


def test_a_replaced_version_is_stale() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), random.Random(1).randbytes(4 * MIB)
        source = add(store, "a", compressed(plain, size=FRAME_BYTES), len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            await reader.read(source, 0, 10, reader.new_stream())
            add(store, "a", compressed(b"other" * MIB), 5 * MIB)
            store.etags["a"] = "v2"
            with pytest.raises(StaleVersionError):
                await reader.read(source, 2 * MIB, 10, reader.new_stream())

    run(main)


def test_an_object_that_tells_a_huge_length_stops_nobody() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), content(MIB)
        liar, other = add(store, "liar", plain, 16 * TIB), store.add("other", plain)
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            with trio.fail_after(60.0), pytest.raises(CorruptError):
                await reader.read(liar, 0, 100, reader.new_stream())
            with trio.fail_after(60.0):
                assert await reader.read(other, 0, 100, reader.new_stream()) == plain[:100]

    run(main)


def test_a_failure_of_the_store_is_over_when_it_is_over() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), content(MIB)
        source = add(store, "a", compressed(plain, size=FRAME_BYTES), len(plain))
        store.faults.append(CorruptError("torn"))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            with pytest.raises(CorruptError):
                await reader.read(source, 0, 10, reader.new_stream())
            assert await reader.read(source, 0, 10, reader.new_stream()) == plain[:10]

    run(main)


def test_large_frames_come_one_at_a_time_and_within_the_limit() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), content(40 * MIB)
        source = add(store, "a", compressed(plain, size=8 * MIB, level=1), len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            async with trio.open_nursery() as nursery:
                for frame in range(5):
                    nursery.start_soon(check, reader, source, frame * 8 * MIB + 5, plain)
            assert store.most_running == 1
        async with open_reader(store.as_store(), None, memory_limit_bytes=16 * MIB) as reader:
            with pytest.raises(CorruptError, match="does not fit"):
                await reader.read(source, 0, 10, reader.new_stream())

    async def check(reader: Reader, source: Source, offset: int, plain: bytes) -> None:
        got = await reader.read(source, offset, 100_000, reader.new_stream())
        assert got == plain[offset : offset + 100_000]

    run(main)


def test_one_small_frame_needs_no_table() -> None:
    async def main() -> None:
        store, plain = SimulatedStore(), content(2 * MIB)
        source = add(store, "a", FrameEncoder(3).encode(plain)[0], len(plain))
        async with open_reader(store.as_store(), None, memory_limit_bytes=LIMIT) as reader:
            assert await reader.read(source, MIB, 4096, reader.new_stream()) == plain[MIB : MIB + 4096]

    run(main)
