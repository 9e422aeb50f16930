"""Renames of directories: every object is copied, the new place shown, the old objects deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from objfs.store.values import ANY
from objfs.upload.lookups import walk
from objfs.upload.removal import delete_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ObjectInfo, Version
    from objfs.upload.operations import Operation
    from objfs.upload.transfer import Transfer


async def move_tree(
    store: AsyncObjectStore,
    transfer: Transfer,
    operation: Operation,
    on_copied: Callable[[Operation, Mapping[str, tuple[Version, Version]]], None],
    *,
    parallel: int,
) -> None:
    """Carry out a RENAME_TREE. Each step may be repeated.

    Args:
        store: where.
        transfer: copies objects.
        operation: the rename.
        on_copied: told once everything is at its new place too, of the versions that changed by it.
        parallel: copies at a time.
    """
    old, new = f"{operation.source}/", f"{operation.path}/"
    present = {info.key: info.version async for info in walk(store, new)}
    copied: dict[str, Version] = {}
    moved: dict[str, tuple[Version, Version]] = {}
    limit = trio.CapacityLimiter(parallel)

    async def copy(info: ObjectInfo) -> None:
        target = new + info.key[len(old) :]
        async with limit:
            if (operation.copied and target in present) or present.get(target) == info.version:
                return
            version = await transfer.copy(info.key, target, info.version, None, ANY)
            if version != info.version:
                moved[target] = (info.version, version)

    async with trio.open_nursery() as nursery:
        async for info in walk(store, old):
            copied[info.key] = info.version
            nursery.start_soon(copy, info)
    if not operation.copied:
        on_copied(operation, moved)
    await delete_versions(store, copied)
