"""How objects are cut into parts, as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objfs.store.values import GIB, MIB, TIB, MultipartLimits
from objfs.upload.parts import PartPlan, plan_patch, plan_upload
from objfs_cache.extents import Extents

S3 = MultipartLimits()
SMALL = MultipartLimits(min_part_bytes=5, max_part_bytes=400 * MIB, max_parts=10_000)


def check_cover(plans: list[PartPlan], length: int, limits: MultipartLimits) -> None:
    at = 0
    for plan in plans:
        assert plan.byte_range.start == at
        at = plan.byte_range.stop
        assert plan.byte_range.length <= limits.max_part_bytes
    assert at == length
    assert len(plans) <= limits.max_parts
    assert all(plan.byte_range.length >= limits.min_part_bytes for plan in plans[:-1])


@pytest.mark.parametrize("length", [1, 16 * MIB, 16 * MIB + 1, 200 * GIB, TIB, 5 * TIB - 1, 5 * TIB])
def test_uploads_up_to_5_tib_fit_the_limits(length: int) -> None:
    plans = plan_upload(length, S3)
    check_cover(plans, length, S3)
    assert len({plan.byte_range.length for plan in plans[:-1]}) <= 1


def test_too_large_an_object_is_refused() -> None:
    with pytest.raises(ValueError, match="larger than the store can hold"):
        plan_upload(
            MultipartLimits(max_part_bytes=16 * MIB).max_parts * 17 * MIB,
            MultipartLimits(max_part_bytes=16 * MIB),
        )


ranges = st.lists(st.tuples(st.integers(0, 300 * MIB), st.integers(1, 40 * MIB)), max_size=12)


@given(ranges, st.integers(1, 300 * MIB), st.integers(0, 300 * MIB))
def test_patches_cover_everything_once(written: list[tuple[int, int]], length: int, base_limit: int) -> None:
    base_limit = min(base_limit, length)
    extents = Extents((start, min(start + size, length)) for start, size in written)
    plans = plan_patch(length, base_limit, list(extents.pieces(0, length)), S3)
    if plans is None:
        return
    check_cover(plans, length, S3)
    for plan in plans:
        if plan.copied:
            assert plan.byte_range.stop <= base_limit
            pieces = list(extents.pieces(plan.byte_range.start, plan.byte_range.stop))
            assert not any(is_staged for _, _, is_staged in pieces)


def test_a_patch_in_the_middle_copies_the_rest() -> None:
    pieces = list(Extents([(50 * MIB, 50 * MIB + 10)]).pieces(0, 100 * MIB))
    plans = plan_patch(100 * MIB, 100 * MIB, pieces, S3)
    assert plans is not None
    uploaded = sum(plan.byte_range.length for plan in plans if not plan.copied)
    assert uploaded <= 2 * S3.min_part_bytes
    assert plans[0].copied
    assert plans[-1].copied


def test_no_patch_where_nothing_is_worth_copying() -> None:
    assert plan_patch(8 * MIB, 8 * MIB, [(0, 8 * MIB, False)], S3) is None
    assert plan_patch(100 * MIB, 100 * MIB, [(0, 100 * MIB, True)], S3) is None
    equal = MultipartLimits(equal_parts=True)
    assert plan_patch(100 * MIB, 100 * MIB, [(0, 100 * MIB, False)], equal) is None
