"""The read-ahead policy, as tables."""

from __future__ import annotations

import itertools

import pytest

from objfs.read.window import MAX_PART_BYTES, MAX_RUNS, NOTHING_AHEAD, SMALL_OBJECT_BYTES, Plan, ReadStream
from objfs.store.values import GIB, KIB, MIB

READ = 128 * KIB
AHEAD = 32 * MIB


def new_stream(read_ahead_bytes: int = AHEAD) -> ReadStream:
    return ReadStream(read_ahead_bytes=read_ahead_bytes)


def observe(stream: ReadStream, offset: int, length: int = READ, size: int = GIB) -> Plan:
    """One read, its plan carried out in full."""
    plan = stream.observe(offset, length, size)
    if plan.start < plan.stop:
        stream.fetched_ahead(plan.stop)
    return plan


def ahead_bytes(plans: list[Plan]) -> int:
    return sum(plan.stop - plan.start for plan in plans)


@pytest.mark.parametrize("offset", [0, 4 * KIB, 500 * MIB])
def test_first_read_fetches_nothing_ahead(offset: int) -> None:
    assert observe(new_stream(), offset) == NOTHING_AHEAD


@pytest.mark.parametrize(
    ("size", "joined"),
    [(READ, False), (READ + 1, True), (SMALL_OBJECT_BYTES, True), (SMALL_OBJECT_BYTES + 1, False)],
)
def test_small_object_is_fetched_whole_with_its_first_read(size: int, joined: bool) -> None:
    plan = observe(new_stream(), 0, size=size)
    assert plan.is_joined is joined
    assert plan.stop == (size if joined else 0)


def test_window_doubles_until_its_limit() -> None:
    stream = new_stream()
    tops = []
    for number in range(512):
        observe(stream, number * READ)
        if number in (3, 7, 15, 31, 63, 127, 255, 511):
            tops.append(observe_top(stream) - (number + 1) * READ)
    assert tops == sorted(tops)
    assert tops[0] <= MIB
    assert 3 * MIB <= tops[3] <= 8 * MIB
    assert AHEAD - 2 * MAX_PART_BYTES < tops[-1] <= AHEAD


def observe_top(stream: ReadStream) -> int:
    return stream._runs[0].ahead


def test_full_window_is_refilled_by_whole_parts() -> None:
    stream = new_stream()
    plans = [observe(stream, number * MIB, MIB) for number in range(200)]
    late = [plan for plan in plans[64:] if plan is not NOTHING_AHEAD]
    assert {plan.part_bytes for plan in late} == {AHEAD // 8}
    assert all((plan.stop - plan.start) % plan.part_bytes == 0 for plan in late)


def test_nothing_is_planned_twice_nor_left_out() -> None:
    stream = new_stream()
    size = 100 * MIB + 12345
    plans = [observe(stream, at, min(READ, size - at), size) for at in range(0, size, READ)]
    planned = [plan for plan in plans if plan.start < plan.stop]
    for before, after in itertools.pairwise(planned):
        assert after.start >= before.stop
    assert planned[-1].stop == size


@pytest.mark.parametrize("shuffled", [[0, 2, 1, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_requests_out_of_order_are_one_run(shuffled: list[int]) -> None:
    stream = new_stream()
    plans = [observe(stream, (group + number) * READ) for group in range(0, 64, 4) for number in shuffled]
    assert ahead_bytes(plans) >= 8 * MIB
    assert len(stream._runs) <= 2  # what came before the very first offset seen is a run of its own


def test_small_skips_are_tolerated() -> None:
    stream = new_stream()
    plans = [observe(stream, number * 2 * READ) for number in range(64)]
    assert ahead_bytes(plans) >= 8 * MIB
    assert len(stream._runs) == 1


def test_random_reads_fetch_nothing_ahead() -> None:
    stream = new_stream()
    places = [(number * 7919) % 1000 * MIB for number in range(200)]
    assert all(observe(stream, place, 4 * KIB) == NOTHING_AHEAD for place in places)


def test_widely_strided_reads_fetch_little_ahead() -> None:
    stream = new_stream()
    plans = [observe(stream, number * 64 * KIB, 4 * KIB) for number in range(512)]  # 32 MiB passed, 2 read
    assert ahead_bytes(plans) <= 2 * 512 * 4 * KIB


def test_rereading_one_place_is_no_run() -> None:
    stream = new_stream()
    plans = [observe(stream, 10 * MIB) for _ in range(100)]
    assert ahead_bytes(plans) <= 2 * READ


@pytest.mark.parametrize("count", [2, 3, MAX_RUNS])
def test_interleaved_runs_on_one_handle(count: int) -> None:
    stream = new_stream()
    plans: list[list[Plan]] = [[] for _ in range(count)]
    for number in range(64):
        for run in range(count):
            plans[run].append(observe(stream, run * 200 * MIB + number * READ))
    assert all(ahead_bytes(one) >= 8 * MIB for one in plans)


def test_runs_are_forgotten_least_recently_used_first() -> None:
    stream = new_stream()
    for run in range(MAX_RUNS + 3):
        observe(stream, run * 100 * MIB)
    assert len(stream._runs) == MAX_RUNS


def test_what_was_dropped_is_planned_again() -> None:
    stream = new_stream()
    stream.observe(0, READ, GIB)
    first = stream.observe(READ, READ, GIB)
    again = stream.observe(2 * READ, READ, GIB)  # nobody said that the plan was carried out
    assert first.start < first.stop
    assert again.start <= first.stop


def test_missed_bytes_are_planned_anew() -> None:
    stream = new_stream()
    for number in range(64):
        observe(stream, number * READ)
    assert stream.observe(64 * READ, READ, GIB, is_missing=True).start == 65 * READ


def test_read_ahead_can_be_off() -> None:
    stream = new_stream(read_ahead_bytes=0)
    assert all(observe(stream, number * READ) == NOTHING_AHEAD for number in range(20))


def test_parts_are_bounded() -> None:
    stream = ReadStream(read_ahead_bytes=AHEAD, max_part_bytes=256 * KIB)
    plans = [observe(stream, number * MIB, MIB) for number in range(50)]
    assert max(plan.part_bytes for plan in plans if plan is not NOTHING_AHEAD) == 256 * KIB
