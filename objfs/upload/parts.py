"""How an object's bytes are cut into parts: pure planning, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.store.values import MIB, ByteRange, MultipartLimits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SINGLE_PUT_BYTES = 16 * MIB  # one request below this: a multipart upload costs two more
PART_BYTES = 8 * MIB  # four in flight stay well within the default memory limit even where SDKs copy
COPY_PART_BYTES = 512 * MIB  # server-side copies move no bytes through us: large pieces, few requests


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPlan:
    """One part: bytes of the staged file, or (copied) the same range of the base object."""

    byte_range: ByteRange
    copied: bool = False


def plan_upload(length: int, limits: MultipartLimits) -> list[PartPlan]:
    """Equal parts, all uploaded; the part size grows so that `length` fits the limits."""
    size = part_size(length, limits)
    return [
        PartPlan(byte_range=ByteRange(start=start, stop=min(start + size, length)))
        for start in range(0, length, size)
    ]


def part_size(length: int, limits: MultipartLimits) -> int:
    """Bytes per part; a multiple of 1 MiB where the length allows.

    Raises:
        ValueError: the store cannot hold so large an object.
    """
    least = -(-length // limits.max_parts)
    size = max(PART_BYTES, limits.min_part_bytes, -(-least // MIB) * MIB)
    if size > limits.max_part_bytes:
        raise ValueError(f"an object of {length} bytes is larger than the store can hold")
    return size


def plan_patch(
    length: int, base_limit: int, staged: Iterable[tuple[int, int, bool]], limits: MultipartLimits
) -> list[PartPlan] | None:
    """Parts for a patched object: staged ranges uploaded, the base's other ranges copied by the store.

    Staged ranges are widened to the least part size (the caller fills them from the base). None if that
    leaves nothing worth copying: then the object is uploaded whole.

    Args:
        length: new length of the object.
        base_limit: how much of the base may be copied from.
        staged: the new content cut into (start, stop, is staged), in order.
        limits: of the store.
    """
    if limits.equal_parts or base_limit < 2 * limits.min_part_bytes:
        return None
    copies = [
        (start, min(stop, base_limit))
        for start, stop, is_staged in staged
        if not is_staged and min(stop, base_limit) - start >= limits.min_part_bytes
    ]
    plans: list[PartPlan] = []
    at = 0
    size = part_size(length, limits)
    for start, stop in copies:
        if 0 < start - at < limits.min_part_bytes:
            start = at + limits.min_part_bytes
        if stop - start < limits.min_part_bytes:
            continue
        plans.extend(_cut(at, start, size, limits, copied=False))
        plans.extend(_cut(start, stop, max(size, COPY_PART_BYTES), limits, copied=True))
        at = stop
    plans.extend(_cut(at, length, size, limits, copied=False))
    if not any(plan.copied for plan in plans) or len(plans) > limits.max_parts:
        return None
    return plans


def cut_range(start: int, stop: int, size: int, limits: MultipartLimits) -> Iterator[tuple[int, int]]:
    """[start, stop) in pieces of `size`, the last one never below the least part size."""
    while start < stop:
        end = stop if stop - start < size + limits.min_part_bytes else start + size
        end = min(end, start + limits.max_part_bytes)
        yield start, end
        start = end


def _cut(start: int, stop: int, size: int, limits: MultipartLimits, *, copied: bool) -> list[PartPlan]:
    return [
        PartPlan(byte_range=ByteRange(start=low, stop=high), copied=copied)
        for low, high in cut_range(start, stop, size, limits)
    ]
