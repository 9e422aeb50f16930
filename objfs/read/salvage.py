"""What can still be had of a version that is not in the store any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.errors import StaleVersionError
from objfs.store.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from objfs_cache.staged import StagedFile


async def salvage(
    staged: StagedFile, block_bytes: int, read_below: Callable[[int, int], Awaitable[bytes]]
) -> None:
    """Stage what can be had of what shows through a sealed staged file, block by block.

    Args:
        staged: the file.
        block_bytes: of the cache, which may have one block and not the next.
        read_below: bytes [start, stop) of what is below; StaleVersionError if they cannot be had.

    Raises:
        ObjectStoreError: whether it can be had is not known.
    """
    with staged.pinned():
        for start in range(0, min(staged.base_limit, staged.length), block_bytes):
            stop = min(start + block_bytes, staged.base_limit, staged.length)
            for low, high, is_staged in list(staged.extents.pieces(start, stop)):
                if is_staged:
                    continue
                try:
                    data = await read_below(low, high)
                except StaleVersionError:
                    continue
                await in_thread(staged.write_bytes, low, data)
                staged.mark_filled(low, high - low)
