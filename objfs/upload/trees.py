"""Renames of directories: every object is copied, the new place shown, the old objects deleted."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import trio

from objfs.errors import PreconditionFailedError, UnavailableError
from objfs.store.known import head_known
from objfs.store.values import ABSENT, ANY, MIB, ByteRange
from objfs.upload.conflicts import conflict_path
from objfs.upload.lookups import find, walk
from objfs.upload.operations import TOKEN_METADATA
from objfs.upload.removal import delete_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ObjectInfo, Version
    from objfs.upload.copies import Copies
    from objfs.upload.operations import Operation

COMPARE_BYTES = 8 * MIB  # of two objects at a time


async def move_tree(
    store: AsyncObjectStore,
    copies: Copies,
    operation: Operation,
    on_copied: Callable[[Operation, Mapping[str, tuple[Version, Version]]], None],
    on_conflict: Callable[[str, str], None],
    *,
    parallel: int,
) -> None:
    """Carry out a RENAME_TREE. Each step may be repeated.

    Args:
        store: where.
        copies: makes them.
        operation: the rename.
        on_copied: told once everything is at its new place too, of the versions that changed by it.
        on_conflict: told of each object whose new name somebody else has taken, and of the name it got.
        parallel: copies at a time.
    """
    await _Move(store, copies, operation, on_conflict, trio.CapacityLimiter(parallel)).run(on_copied)


class _Move:
    def __init__(
        self,
        store: AsyncObjectStore,
        copies: Copies,
        operation: Operation,
        on_conflict: Callable[[str, str], None],
        limit: trio.CapacityLimiter,
    ) -> None:
        self._store = store
        self._copies = copies
        self._operation = operation
        self._on_conflict = on_conflict
        self._limit = limit
        self._old, self._new = f"{operation.source}/", f"{operation.path}/"
        self._present: dict[str, Version] = {}

    async def run(
        self, on_copied: Callable[[Operation, Mapping[str, tuple[Version, Version]]], None]
    ) -> None:
        self._present = {info.key: info.version async for info in walk(self._store, self._new)}
        copied: dict[str, Version] = {}
        async with trio.open_nursery() as nursery:
            async for info in walk(self._store, self._old):
                copied[info.key] = info.version
                nursery.start_soon(self._copy, info)
        if not self._operation.copied:
            on_copied(self._operation, self._changed(copied))
        await delete_versions(self._store, copied)

    async def _copy(self, info: ObjectInfo) -> None:
        placed = self._operation.placed
        async with self._limit:
            before, _version = placed.get(info.key, (None, None))
            if before != info:  # else what somebody has removed since would come back
                placed[info.key] = info, await self._place(info)

    def _changed(self, keys: Iterable[str]) -> dict[str, tuple[Version, Version]]:
        """The old and the new version, by new key, of what has another one at its new place."""
        placed = [self._operation.placed[key] for key in keys]
        return {
            self._target(info): (info.version, version)
            for info, version in placed
            if version is not None and version != info.version
        }

    def _target(self, info: ObjectInfo) -> str:
        return self._new + info.key[len(self._old) :]

    async def _place(self, info: ObjectInfo) -> Version | None:
        """Bring an object to its new place; returns the version there, or None if theirs keeps the name."""
        target = self._target(info)
        if self._present.get(target) == info.version:
            return info.version
        try:
            return await self._copies.make(
                info.key, target, info.version, None, ABSENT, mark=self._mark(info)
            )
        except PreconditionFailedError:
            return await self._settle(info, target)

    async def _settle(self, info: ObjectInfo, target: str) -> Version | None:
        """Something is at the new place: a copy of ours (a life, or an answer, was lost), or somebody else's.

        Returns:
            The version that our copy has there, or None if theirs keeps the name.
        """
        found = await find(self._store, target)
        if found is None:
            raise UnavailableError("somebody changes the directory's new place", key=target)
        if target.endswith("/"):  # markers have no content to lose
            return await self._copies.make(info.key, target, info.version, None, ANY)
        if await self._is_copy(info, found):
            return found.version
        await self._keep_beside(info, target)
        return None

    def _mark(self, info: ObjectInfo) -> str:
        """What tells a copy of this version made by this operation."""
        return f"{self._operation.token}-{info.version.etag}"

    async def _keep_beside(self, info: ObjectInfo, target: str) -> None:
        path = conflict_path(target, time.time())
        if await self._is_kept(info, f"{path.rpartition('.conflict-')[0]}.conflict-"):
            return
        while path in self._present:
            path = conflict_path(target, time.time(), random.randrange(2, 10_000))  # noqa: S311  # no secret
        try:
            await self._copies.make(info.key, path, info.version, None, ABSENT, mark=self._mark(info))
        except PreconditionFailedError:
            there = await find(self._store, path)
            if there is None or not await self._is_copy(info, there):  # else the answer was lost
                raise
        self._on_conflict(target, path)

    async def _is_kept(self, info: ObjectInfo, start: str) -> bool:
        """Whether an earlier attempt, or life, made the conflict copy, whose name begins like that."""
        for path in [path for path in self._present if path.startswith(start)]:
            there = await find(self._store, path)
            if there is not None and await self._is_copy(info, there):
                return True
        return False

    async def _is_copy(self, info: ObjectInfo, found: ObjectInfo) -> bool:
        """Whether two objects are the same; the listing tells neither metadata nor the same ETags always."""
        if info.version.etag == found.version.etag:
            return True
        if info.version.size_bytes != found.version.size_bytes:
            return False
        source = await head_known(self._store, info.key)
        tokens = [(one.metadata or {}).get(TOKEN_METADATA) for one in (source, found)]
        if tokens != [None, None]:
            return tokens[0] == tokens[1] or tokens == [None, self._mark(info)]
        for start in range(0, info.version.size_bytes, COMPARE_BYTES):
            piece = ByteRange(start=start, stop=min(start + COMPARE_BYTES, info.version.size_bytes))
            one = await self._store.get(info.key, byte_range=piece, if_match=info.version.etag)
            other = await self._store.get(found.key, byte_range=piece, if_match=found.version.etag)
            if one.data != other.data:
                return False
        return True
