"""Moving the bytes of one operation: single puts, parallel parts, patches, copies."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from typing import TYPE_CHECKING

import trio

from objfs.errors import (
    CorruptError,
    NotFoundError,
    PreconditionFailedError,
    StaleVersionError,
)
from objfs.store.values import ANY, MIB, ByteRange, Condition, FileSlice, Part, PutOptions, Version
from objfs.upload.parts import COPY_PART_BYTES, SINGLE_PUT_BYTES, PartPlan, plan_patch, plan_upload

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.store.protocol import AsyncMultipartApi, AsyncObjectStore
    from objfs.upload.operations import Operation
    from objfs.upload.uploads import Uploads
    from objfs_cache.staging import StagedFile

FILL_BYTES = 8 * MIB  # one GET's worth of base bytes


class Transfer:
    """Sends operations' content; knows nothing of order or retries."""

    def __init__(
        self,
        store: AsyncObjectStore,
        *,
        parallel_parts: int,
        uploads: Uploads,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._store = store
        self._part_slots = trio.CapacityLimiter(parallel_parts)
        self._uploads = uploads
        self._on_bytes = on_bytes

    async def put(self, operation: Operation) -> Version:
        """Make the operation's content the object at its key; conditional on its base."""
        staged = operation.staged
        options = operation.stored_options()
        condition = operation.base.condition
        if not self._store.capabilities.put_conditions:
            await self.compare(operation.key, condition)
            condition = ANY
        if staged is None and operation.committed is not None:
            raise OSError(errno.EIO, "the staged data is lost or was not durable before a power loss")
        if staged is None:
            return await self._store.put(
                operation.key, operation.body or b"", options=options, condition=condition
            )
        length = operation.size_bytes
        multipart = self._store.multipart
        if multipart is None or length <= SINGLE_PUT_BYTES:
            await self._fill(operation, staged, 0, length)
            body = FileSlice(path=staged.path, start=0, length=length)
            async with self._part_slots if length > MIB else nullcontext():
                version = await self._store.put(operation.key, body, options=options, condition=condition)
            self._on_bytes(length)
            return _checked(operation.key, version, length)
        plans = None
        if self._store.compose is not None and operation.base.version is not None and not staged.complete:
            pieces = list(staged.extents.pieces(0, length))
            plans = plan_patch(length, staged.base_limit, pieces, multipart.limits)
        if plans is None:
            plans = plan_upload(length, multipart.limits)
        version = await self._put_parts(operation, staged, plans, multipart, options, condition)
        return _checked(operation.key, version, length)

    async def copy(
        self,
        source_key: str,
        key: str,
        version: Version | None,
        options: PutOptions | None,
        condition: Condition,
    ) -> Version:
        """Server-side copy of one version, of any size, conditional on the destination."""
        source_if_match = version.etag if version is not None else None
        multipart, compose = self._store.multipart, self._store.compose
        capabilities = self._store.capabilities
        is_small = version is None or version.size_bytes <= capabilities.max_single_put_bytes
        in_one = is_small or multipart is None or compose is None
        if not (capabilities.copy_conditions if in_one else capabilities.complete_conditions):
            await self.compare(key, condition)
            condition = ANY
        if version is None or is_small or multipart is None or compose is None:
            return await self._store.copy(
                source_key, key, source_if_match=source_if_match, options=options, condition=condition
            )
        if options is None:
            info = await self._store.head(source_key)
            options = PutOptions(
                metadata=dict(info.metadata or {}),
                content_type=info.content_type,
                content_encoding=info.content_encoding,
                storage_class=info.storage_class,
            )
        upload_id = await self._uploads.begin(multipart, key, options)
        try:
            parts = [
                await compose.copy_part(
                    source_key,
                    ByteRange(start=start, stop=min(start + COPY_PART_BYTES, version.size_bytes)),
                    key,
                    upload_id,
                    number,
                    source_if_match=source_if_match,
                )
                for number, start in enumerate(range(0, version.size_bytes, COPY_PART_BYTES), start=1)
            ]
            made = await multipart.complete(key, upload_id, parts, condition=condition)
        except BaseException:
            await self._uploads.abort(upload_id)
            raise
        self._uploads.completed(upload_id)
        return made

    async def compare(self, key: str, condition: Condition) -> None:
        """Check a condition by HEAD, for stores that would ignore it; a short window remains.

        Raises:
            PreconditionFailedError: it does not hold.
        """
        if condition == ANY:
            return
        etag = await self._etag(key)
        if etag != condition.if_match:
            raise PreconditionFailedError("somebody else changed the object", key=key)

    async def _etag(self, key: str) -> str | None:
        try:
            return (await self._store.head(key)).version.etag
        except NotFoundError:
            return None

    async def _put_parts(
        self,
        operation: Operation,
        staged: StagedFile,
        plans: list[PartPlan],
        multipart: AsyncMultipartApi,
        options: PutOptions,
        condition: Condition,
    ) -> Version:
        if not self._store.capabilities.complete_conditions:
            await self.compare(operation.key, operation.base.condition)
            condition = ANY
        upload_id = await self._uploads.begin(multipart, operation.key, options)
        parts: dict[int, Part] = {}

        async def send(number: int, plan: PartPlan) -> None:
            async with self._part_slots:
                parts[number] = await self._send_part(operation, staged, plan, number, multipart, upload_id)
            self._on_bytes(plan.byte_range.length)

        try:
            async with trio.open_nursery() as nursery:
                for number, plan in enumerate(plans, start=1):
                    nursery.start_soon(send, number, plan)
            ordered = [parts[number] for number in sorted(parts)]
            made = await multipart.complete(operation.key, upload_id, ordered, condition=condition)
        except BaseException:
            await self._uploads.abort(upload_id)
            raise
        self._uploads.completed(upload_id)
        return made

    async def _send_part(
        self,
        operation: Operation,
        staged: StagedFile,
        plan: PartPlan,
        number: int,
        multipart: AsyncMultipartApi,
        upload_id: str,
    ) -> Part:
        wanted = plan.byte_range
        if plan.copied and self._store.compose is not None and operation.base.version is not None:
            return await self._store.compose.copy_part(
                operation.key,
                wanted,
                operation.key,
                upload_id,
                number,
                source_if_match=operation.base.version.etag,
            )
        await self._fill(operation, staged, wanted.start, wanted.stop)
        body = FileSlice(path=staged.path, start=wanted.start, length=wanted.length)
        return await multipart.upload_part(operation.key, upload_id, number, body)

    async def _fill(self, operation: Operation, staged: StagedFile, start: int, stop: int) -> None:
        """Fetch what is not staged of [start, stop) from the base into the staged file."""
        version = operation.base.version
        stop = min(stop, staged.base_limit)
        holes = [(a, b) for a, b, is_staged in staged.extents.pieces(start, stop) if not is_staged]
        if holes and version is None:
            raise StaleVersionError(f"the object that {operation.path!r} is a change of is gone")
        for first, last in holes:
            for at in range(first, last, FILL_BYTES):
                wanted = ByteRange(start=at, stop=min(at + FILL_BYTES, last))
                etag = version.etag if version is not None else None
                blob = await self._store.get(operation.key, byte_range=wanted, if_match=etag)
                await trio.to_thread.run_sync(staged.write_bytes, wanted.start, blob.data)
                staged.mark_filled(wanted.start, wanted.length)


def _checked(key: str, version: Version, length: int) -> Version:
    if version.size_bytes != length:
        raise CorruptError(f"{version.size_bytes} of {length} bytes were stored", key=key)
    return version
