"""The reader over a simulated store: right bytes, few requests, hard bounds, no lost waiter."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from objfs.codec.values import FRAME_BYTES
from objfs.errors import CorruptError, ObjectStoreError, StaleVersionError, ThrottledError, UnavailableError
from objfs.read.reader import Reader, open_reader
from objfs.store.values import KIB, MIB
from objfs_cache.blocks import open_block_cache
from tests.unit.codec.objects import compressed
from tests.unit.read.simulated import SimulatedStore, content, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from objfs.read.values import Source

BLOCK = 4 * KIB


def small_reader(
    store: SimulatedStore, memory_limit_bytes: int = MIB, max_fetches: int = 16
) -> AbstractAsyncContextManager[Reader]:
    return open_reader(
        store.as_store(),
        None,
        memory_limit_bytes=memory_limit_bytes,
        max_fetches=max_fetches,
        block_bytes=BLOCK,
    )


async def gather(*jobs: Callable[[], Awaitable[object]]) -> None:
    async def wait_for(job: Callable[[], Awaitable[object]]) -> None:
        await job()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(wait_for, job)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 77])
def test_any_range_of_any_size(size: int) -> None:
    store = SimulatedStore()
    data = content(size)
    source = store.add("k", data)

    async def body() -> None:
        for offset in (0, 1, BLOCK - 1, BLOCK, size // 2, max(0, size - 1), size, size + 5):
            for length in (0, 1, BLOCK, 3 * BLOCK + 1, size + 100):
                async with small_reader(store) as reader:
                    got = await reader.read(source, offset, length, reader.new_stream())
                    assert got == data[offset : offset + length]
                    assert type(got) is bytes

    run(body)


def test_random_reads_with_one_stream_and_little_memory() -> None:
    store = SimulatedStore()
    data = content(200 * BLOCK + 99)
    source = store.add("k", data)
    rng = random.Random(7)

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=8 * BLOCK) as reader:
            stream = reader.new_stream()
            for _ in range(500):
                offset, length = rng.randrange(len(data)), rng.randrange(1, 20 * BLOCK)
                assert await reader.read(source, offset, length, stream) == data[offset : offset + length]
            assert reader.stats().peak_bytes <= 8 * BLOCK

    run(body)


def test_many_readers_of_one_block_make_one_request() -> None:
    store = SimulatedStore()
    data = content(100 * MIB // 100)
    source = store.add("k", data)

    async def body() -> None:
        async with small_reader(store) as reader:

            async def one() -> None:
                assert await reader.read(source, 500 * KIB, 100, reader.new_stream()) == data[512000:512100]

            await gather(*[one] * 50)

    run(body)
    assert len(store.requests) == 1


def test_no_block_is_fetched_twice_in_sequential_reading() -> None:
    store = SimulatedStore()
    data = content(3 * MIB)
    source = store.add("k", data)

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=16 * MIB) as reader:
            stream = reader.new_stream()
            positions = deque(range(0, len(data), 8 * KIB))

            async def work() -> None:
                while positions:
                    at = positions.popleft()
                    assert await reader.read(source, at, 8 * KIB, stream) == data[at : at + 8 * KIB]

            await gather(*[work] * 4)

    run(body)
    assert store.fetched_bytes == len(data)
    assert len(store.requests) <= 15


def test_sequential_reading_overlaps_requests() -> None:
    store = SimulatedStore(latency_s=0.1)
    source = store.add("k", content(32 * MIB))

    async def body() -> float:
        async with open_reader(store.as_store(), None, memory_limit_bytes=64 * MIB) as reader:
            stream = reader.new_stream()
            for at in range(0, 32 * MIB, 128 * KIB):
                await reader.read(source, at, 128 * KIB, stream)
            return trio.current_time()

    began = run(_now)
    assert run(body) - began < 0.1 * 12  # 256 reads, at most a dozen waits
    assert store.most_running >= 4


async def _now() -> float:
    return trio.current_time()


def test_first_read_of_a_large_object_fetches_one_block() -> None:
    store = SimulatedStore()
    source = store.add("k", content(4 * MIB))

    async def body() -> None:
        async with small_reader(store) as reader:
            await reader.read(source, 0, 100, reader.new_stream())

    run(body)
    assert store.fetched_bytes == BLOCK


def test_small_object_is_one_request() -> None:
    store = SimulatedStore()
    data = content(900 * KIB)
    source = store.add("k", data)

    async def body() -> None:
        async with open_reader(store.as_store(), None, memory_limit_bytes=16 * MIB) as reader:
            stream = reader.new_stream()
            for at in range(0, len(data), 128 * KIB):
                assert await reader.read(source, at, 128 * KIB, stream) == data[at : at + 128 * KIB]

    run(body)
    assert len(store.requests) == 1


@pytest.mark.parametrize("gone", [False, True])
def test_replaced_or_removed_object_is_stale(gone: bool) -> None:
    store = SimulatedStore()
    source = store.add("k", content(10 * BLOCK))

    async def body() -> None:
        async with small_reader(store) as reader:
            stream = reader.new_stream()
            before = await reader.read(source, 0, 10, stream)
            store.add("k", content(10 * BLOCK, seed=5), etag="v2")
            if gone:
                del store.objects["k"]
            assert await reader.read(source, 0, 10, stream) == before  # what is kept stays readable
        async with small_reader(store) as reader:
            with pytest.raises(StaleVersionError):
                await reader.read(source, 0, 10, reader.new_stream())

    run(body)


@pytest.mark.parametrize("size", [10 * BLOCK, 20 * BLOCK])
def test_store_that_ignores_if_match_is_found_out(size: int) -> None:
    store = SimulatedStore(honours_if_match=False)
    source = store.add("k", content(10 * BLOCK))
    store.add("k", content(size, seed=5), etag="v2" if size == 10 * BLOCK else "v1")

    async def body() -> None:
        async with small_reader(store) as reader:
            with pytest.raises(StaleVersionError):
                await reader.read(source, 0, 10, reader.new_stream())

    run(body)


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: data + b"x", lambda data: b""],
    ids=["short", "long", "empty"],
)
def test_body_of_wrong_length_is_never_data(spoil: Callable[[bytes], bytes]) -> None:
    store = SimulatedStore(spoil=spoil)
    data = content(10 * BLOCK)
    source = store.add("k", data)

    async def body() -> None:
        async with small_reader(store) as reader:
            stream = reader.new_stream()
            with pytest.raises(CorruptError):
                await reader.read(source, 0, 10, stream)
            assert reader.stats().memory_bytes == 0
            store.spoil = lambda body: body
            assert await reader.read(source, 0, 10, stream) == data[:10]

    run(body)


@pytest.mark.parametrize("error", [CorruptError("bad"), UnavailableError("down"), ValueError("a bug")])
def test_failed_fetch_wakes_all_waiters_and_is_forgotten(error: Exception) -> None:
    store = SimulatedStore(faults=deque([error]))
    data = content(BLOCK)
    source = store.add("k", data)
    failures: list[Exception] = []

    async def body() -> None:
        async with small_reader(store) as reader:

            async def one() -> None:
                try:
                    await reader.read(source, 0, 10, reader.new_stream())
                except (ObjectStoreError, ValueError) as caught:
                    failures.append(caught)

            await gather(*[one] * 5)
            assert await reader.read(source, 0, 10, reader.new_stream()) == data[:10]
            assert reader.stats().failed_fetches == 1

    run(body)
    assert failures == [error] * 5


@pytest.mark.parametrize("is_compressed", [False, True])
def test_what_is_moved_while_it_is_fetched_is_fetched_from_its_new_place(is_compressed: bool) -> None:
    store, data = SimulatedStore(latency_s=1.0), content(64 * BLOCK)
    source = store.add("old", compressed(data, size=FRAME_BYTES) if is_compressed else data)
    if is_compressed:
        source = replace(source, version=replace(source.version, decoded_bytes=len(data)))

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=4 * MIB) as reader:

            async def read_old() -> None:
                with pytest.raises(StaleVersionError):
                    await reader.read(source, 0, BLOCK, reader.new_stream())

            async def read_moved() -> None:
                await trio.sleep(0.5)
                store.add("new", store.objects.pop("old"))
                moved = replace(source, key="new")
                assert await reader.read(moved, 0, BLOCK, reader.new_stream()) == data[:BLOCK]

            await gather(read_old, read_moved)

    run(body)


def test_failed_prefetch_is_silent() -> None:
    store = SimulatedStore()
    data = content(4 * MIB)
    source = store.add("k", data)

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=4 * MIB) as reader:
            stream = reader.new_stream()
            await reader.read(source, 0, 128 * KIB, stream)
            await trio.sleep(1)
            store.faults.extend([ThrottledError("slow down")] * 1)
            store.gate = trio.Event()
            with trio.move_on_after(0.005):  # the request of the read itself comes first: let it fail alone
                await reader.read(source, 128 * KIB, BLOCK, stream)
            store.gate.set()
            await trio.sleep(1)
            store.gate = None
            for at in range(128 * KIB, len(data), 64 * KIB):
                assert await reader.read(source, at, 64 * KIB, stream) == data[at : at + 64 * KIB]
            assert reader.stats().failed_fetches == 1

    run(body)


def test_cancelled_reader_does_not_cancel_the_fetch_others_wait_for() -> None:
    store = SimulatedStore(latency_s=1)
    data = content(BLOCK)
    source = store.add("k", data)

    async def body() -> None:
        async with small_reader(store) as reader:

            async def impatient() -> None:
                with trio.move_on_after(0.5) as scope:
                    await reader.read(source, 0, 10, reader.new_stream())
                assert scope.cancelled_caught

            async def patient() -> None:
                await trio.sleep(0.1)
                assert await reader.read(source, 0, 10, reader.new_stream()) == data[:10]

            await gather(impatient, patient)

    run(body)
    assert len(store.requests) == 1


@pytest.mark.parametrize("limit_blocks", [8, 64])
def test_cancellation_at_every_await_leaves_nothing_behind(limit_blocks: int) -> None:
    store = SimulatedStore(latency_s=1)
    data = content(40 * BLOCK)
    source = store.add("k", data)

    async def body() -> None:
        for tenths in range(60):
            async with small_reader(store, memory_limit_bytes=limit_blocks * BLOCK, max_fetches=2) as reader:
                stream = reader.new_stream()
                with trio.move_on_after(tenths / 10 + 0.05):
                    await reader.read(source, 100, 30 * BLOCK, stream)
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await reader.read(source, 100, 30 * BLOCK, stream)
                assert scope.cancelled_caught
                assert await reader.read(source, 0, len(data), stream) == data
                await trio.sleep(100)
                stats = reader.stats()
                assert stats.running_fetches == 0
                assert stats.peak_bytes <= limit_blocks * BLOCK
                assert reader._fetcher._fetches == {}
                reader.forget(source.object_id)
                assert reader.stats().memory_bytes == 0  # nothing stays pinned or charged

    run(body)


def test_closing_wakes_readers_outside_with_an_error() -> None:
    store = SimulatedStore(latency_s=1000)
    source = store.add("k", content(BLOCK))

    async def body() -> None:
        async def outside(reader: Reader) -> None:
            with pytest.raises(UnavailableError):
                await reader.read(source, 0, 10, reader.new_stream())
            with pytest.raises(UnavailableError):
                await reader.read(source, 0, 10, reader.new_stream())

        async with trio.open_nursery() as nursery, small_reader(store) as reader:
            nursery.start_soon(outside, reader)
            await trio.sleep(1)

    run(body)


@pytest.mark.parametrize("seed", range(6))
def test_budget_holds_and_everybody_progresses(seed: int) -> None:
    rng = random.Random(seed)
    store = SimulatedStore()
    limit = rng.choice([4, 8, 33]) * BLOCK
    sources = [store.add(f"k{number}", content(rng.randrange(1, 100 * BLOCK), number)) for number in range(8)]

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=limit, max_fetches=4) as reader:

            async def work(source: Source) -> None:
                data = store.objects[source.key]
                stream = reader.new_stream()
                at = 0
                while at < len(data):
                    length = rng.randrange(1, 6 * BLOCK)
                    patience_s = rng.choice([0.02, 10_000])
                    with trio.move_on_after(patience_s):
                        assert await reader.read(source, at, length, stream) == data[at : at + length]
                        at += length
                    assert reader.stats().memory_bytes <= limit

            with trio.fail_after(50_000):
                await gather(*[lambda source=source: work(source) for source in sources * 3])
            stats = reader.stats()
            assert stats.peak_bytes <= limit
            assert store.most_running <= 4

    run(body)


def test_prefetch_leaves_requests_to_those_who_wait() -> None:
    store = SimulatedStore()
    ahead = store.add("ahead", content(8 * MIB))
    other = store.add("other", content(BLOCK))

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=16 * MIB, max_fetches=4) as reader:
            stream = reader.new_stream()
            for at in range(0, 2 * MIB, 128 * KIB):
                await reader.read(ahead, at, 128 * KIB, stream)
            await trio.sleep(10)
            store.gate = trio.Event()
            with trio.move_on_after(1):
                for at in range(2 * MIB, 8 * MIB, 128 * KIB):
                    await reader.read(ahead, at, 128 * KIB, stream)
            assert store.running >= 3
            stalled, store.gate = store.gate, None
            with trio.fail_after(1):
                await reader.read(other, 0, 10, reader.new_stream())
            stalled.set()

    run(body)


def test_insert_seeds_whole_blocks() -> None:
    store = SimulatedStore()
    data = content(20 * BLOCK + 5)
    source = store.add("k", data)

    async def body() -> None:
        async with small_reader(store) as reader:
            reader.insert(source.object_id, source.version, BLOCK // 2, data[BLOCK // 2 : 3 * BLOCK + 7])
            reader.insert(source.object_id, source.version, 10 * BLOCK, data[10 * BLOCK :])
            stream = reader.new_stream()
            assert await reader.read(source, BLOCK, 2 * BLOCK, stream) == data[BLOCK : 3 * BLOCK]
            assert await reader.read(source, 10 * BLOCK, 99 * BLOCK, stream) == data[10 * BLOCK :]
            assert store.requests == []
            assert await reader.read(source, 0, 10, stream) == data[:10]
            assert len(store.requests) == 1
            reader.forget(source.object_id)
            await reader.read(source, BLOCK, 10, reader.new_stream())
            assert len(store.requests) == 2

    run(body)


def test_what_was_seeded_over_what_was_there_is_evicted_with_it() -> None:
    store, data = SimulatedStore(), content(64 * BLOCK)
    source, other = store.add("k", data[: 2 * BLOCK]), store.add("other", data)

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=16 * BLOCK) as reader:
            stream = reader.new_stream()
            await reader.read(source, BLOCK, 10, stream)
            reader.insert(source.object_id, source.version, 0, data[: 2 * BLOCK])
            assert await reader.read(source, 0, 2 * BLOCK, stream) == data[: 2 * BLOCK]
            for at in range(0, len(data), BLOCK):
                assert await reader.read(other, at, 10, reader.new_stream()) == data[at : at + 10]
            assert reader.stats().memory_bytes <= 16 * BLOCK
            assert reader.held_bytes(source.object_id) == 0

    run(body)


def test_too_small_a_budget_is_refused() -> None:
    async def body() -> None:
        async with small_reader(SimulatedStore(), memory_limit_bytes=3 * BLOCK):
            pass

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="memory limit")):
        run(body)


# With a disk cache: real threads, so a real clock


def test_disk_cache_survives_reopening(tmp_path: Path) -> None:
    store = SimulatedStore(latency_s=0)
    data = content(2 * MIB + 5)
    source = store.add("k", data)

    async def read_all() -> tuple[int, int]:
        with open_block_cache(tmp_path, limit_bytes=64 * MIB) as cache:
            async with open_reader(
                store.as_store(), cache, memory_limit_bytes=16 * MIB, block_bytes=64 * KIB
            ) as reader:
                stream = reader.new_stream()
                for at in range(0, len(data), 100_000):
                    assert await reader.read(source, at, 100_000, stream) == data[at : at + 100_000]
                return reader.stats().requests, reader.stats().disk_blocks

    first, second = trio.run(read_all), trio.run(read_all)
    assert first[0] > 0
    assert first[1] == 0
    assert second == (0, 33)


def test_corrupted_block_is_fetched_again(tmp_path: Path) -> None:
    store = SimulatedStore(latency_s=0)
    data = content(MIB)
    source = store.add("k", data)

    async def read_all() -> int:
        with open_block_cache(tmp_path, limit_bytes=64 * MIB) as cache:
            async with open_reader(
                store.as_store(), cache, memory_limit_bytes=16 * MIB, block_bytes=64 * KIB
            ) as reader:
                assert await reader.read(source, 0, len(data), reader.new_stream()) == data
                return reader.stats().requests

    assert trio.run(read_all) == 1
    files = sorted(path for path in tmp_path.glob("??/*"))
    assert len(files) == 16
    files[5].write_bytes(b"x" * 64 * KIB)
    files[7].unlink()
    store.requests.clear()
    assert trio.run(read_all) == 1
    assert store.requests[0][1].start == 5 * 64 * KIB
    assert store.fetched_bytes == 3 * 64 * KIB
    assert trio.run(read_all) == 0


def test_another_block_size_is_a_miss(tmp_path: Path) -> None:
    store = SimulatedStore(latency_s=0)
    data = content(MIB + 3)
    source = store.add("k", data)

    async def read_all(block_bytes: int) -> None:
        with open_block_cache(tmp_path, limit_bytes=64 * MIB) as cache:
            async with open_reader(
                store.as_store(), cache, memory_limit_bytes=16 * MIB, block_bytes=block_bytes
            ) as reader:
                assert await reader.read(source, 0, len(data), reader.new_stream()) == data

    for block_bytes in (64 * KIB, 128 * KIB, 32 * KIB):
        trio.run(read_all, block_bytes)


def test_cached_blocks_are_readable_while_the_store_stalls(tmp_path: Path) -> None:
    store = SimulatedStore(latency_s=0)
    cached = store.add("cached", content(MIB))
    stalled = store.add("stalled", content(MIB))

    async def body() -> None:
        with open_block_cache(tmp_path, limit_bytes=64 * MIB) as cache:
            async with open_reader(store.as_store(), cache, memory_limit_bytes=16 * MIB) as reader:
                await reader.read(cached, 0, MIB, reader.new_stream())
            store.gate = trio.Event()
            async with (
                open_reader(store.as_store(), cache, memory_limit_bytes=16 * MIB, max_fetches=2) as reader,
                trio.open_nursery() as nursery,
            ):
                for number in range(4):
                    stream = reader.new_stream()
                    nursery.start_soon(reader.read, stalled, number * 256 * KIB, 10, stream)
                await trio.sleep(0.05)
                with trio.fail_after(5):
                    await reader.read(cached, 0, MIB, reader.new_stream())
                nursery.cancel_scope.cancel()

    trio.run(body)


def test_slow_disk_cache_never_delays_reads_and_drops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SimulatedStore(latency_s=0)
    data = content(4 * MIB)
    source = store.add("k", data)

    async def body() -> None:
        with open_block_cache(tmp_path, limit_bytes=64 * MIB) as cache:
            release = trio.Event()
            token = trio.lowlevel.current_trio_token()

            def stall(_blocks: object) -> bool:
                trio.from_thread.run(release.wait, trio_token=token)
                return False

            monkeypatch.setattr(cache, "put_batch", stall)
            async with open_reader(
                store.as_store(), cache, memory_limit_bytes=MIB, block_bytes=16 * KIB
            ) as reader:
                stream = reader.new_stream()
                with trio.fail_after(20):
                    for at in range(0, len(data), 64 * KIB):
                        assert await reader.read(source, at, 64 * KIB, stream) == data[at : at + 64 * KIB]
                assert reader.stats().dropped_inserts > 100
                assert reader.stats().peak_bytes <= MIB
                release.set()

    trio.run(body)


def test_small_objects_are_saved_many_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SimulatedStore(latency_s=0)
    sources = [store.add(f"k{number}", content(100, number)) for number in range(300)]

    async def read_all() -> tuple[int, int]:
        with open_block_cache(tmp_path, limit_bytes=64 * MIB) as cache:
            put_batch, batches = cache.put_batch, []

            def counted(blocks: Sequence[tuple[str, int, bytes | memoryview]]) -> bool:
                batches.append(len(blocks))
                return put_batch(blocks)

            monkeypatch.setattr(cache, "put_batch", counted)
            async with open_reader(store.as_store(), cache, memory_limit_bytes=16 * MIB) as reader:
                for source in sources:
                    data = await reader.read(source, 0, 4096, reader.new_stream())
                    assert data == store.objects[source.key]
            assert sum(batches) in (0, 300)
            return len(batches), len(store.requests)

    batches, requests = trio.run(read_all)
    assert batches < 100
    assert requests == 300
    assert trio.run(read_all) == (0, 300)


def test_evicted_prefetch_is_planned_anew() -> None:
    store = SimulatedStore()
    data = content(4 * MIB)
    source = store.add("k", data)

    async def body() -> None:
        async with small_reader(store, memory_limit_bytes=4 * MIB) as reader:
            stream = reader.new_stream()
            for at in range(0, MIB, 128 * KIB):
                await reader.read(source, at, 128 * KIB, stream)
            await trio.sleep(10)
            reader.forget(source.object_id)
            store.requests.clear()
            for at in range(MIB, 4 * MIB, 128 * KIB):
                assert await reader.read(source, at, 128 * KIB, stream) == data[at : at + 128 * KIB]
            assert len(store.requests) < 10
            assert store.fetched_bytes == 3 * MIB

    run(body)
