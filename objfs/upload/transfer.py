"""Moving the bytes of one operation: single puts, parallel parts, patches; plain or compressed."""

from __future__ import annotations

import errno
from contextlib import nullcontext
from hashlib import md5
from typing import TYPE_CHECKING

import trio
from zstandard import ZSTD_VERSION

from objfs.codec.marks import marked
from objfs.errors import CorruptError
from objfs.store.threads import in_thread
from objfs.store.values import ANY, MIB, Condition, FileSlice, Part, PutOptions, Version
from objfs.upload.content import Content
from objfs.upload.copies import Copies
from objfs.upload.lookups import compare, find_ours
from objfs.upload.packing import Packed, Packer
from objfs.upload.parts import SINGLE_PUT_BYTES, PartPlan, plan_patch, plan_upload
from objfs.upload.sending import PartSender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from objfs.config.rules import Compression
    from objfs.store.protocol import AsyncMultipartApi, AsyncObjectStore
    from objfs.upload.operations import Operation
    from objfs.upload.uploads import Upload, Uploads

FILL_BYTES = 8 * MIB  # one GET's worth of base bytes


class Transfer:
    """Sends operations' content; knows nothing of order or retries.

    Attributes:
        copies: makes copies within the store.
    """

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
        self._packer = Packer(store, on_bytes=on_bytes)
        self.copies = Copies(store, uploads)

    async def put(self, operation: Operation) -> Version:
        """Make the operation's content the object at its key; conditional on its base."""
        state = operation.committed
        if state is not None and (operation.staged is None or state.reverted):
            found = await find_ours(self._store, operation)
            if found is not None:  # stored before the machine went down, perhaps newer than what is staged
                operation.staged = None
                return found.version
        if operation.staged is None and state is not None:
            raise OSError(errno.EIO, "the staged data is lost or was not durable before a power loss")
        options = operation.stored_options()
        if operation.staged is None:
            condition = await self._condition(operation)
            return await self._store.put(
                operation.key, operation.body or b"", options=options, condition=condition
            )
        content = Content(self._store, operation, operation.staged)
        decision = operation.decision
        compression = decision.treatment.compress if decision is not None else None
        packed = await self._packer.plan(content, compression, options)
        digest = await content.sha256() if decision is not None and decision.sha256 else None
        if packed is not None:
            told = Version(etag="", size_bytes=0, decoded_bytes=content.length, sha256=digest)
            version = await self._put_packed(content, packed, compression, marked(options, told))
            if version is not None:
                return version.holding(told)
        told = Version(etag="", size_bytes=0, sha256=digest)
        version = await self._put_plain(content, marked(options, told))
        return version.holding(told)

    def give_up(self, key: str) -> None:
        """Nobody will try again to send what was begun to be sent under that key."""
        self._uploads.give_up(key)

    async def _condition(self, operation: Operation) -> Condition:
        """The operation's condition on its key, checked now if the store would ignore it."""
        if self._store.capabilities.put_conditions:
            return operation.base.condition
        await compare(self._store, operation.key, operation.base.condition)
        return ANY

    # -- compressed ---------------------------------------------------------------------------------

    async def _put_packed(
        self, content: Content, packed: Packed, compression: Compression | None, options: PutOptions
    ) -> Version | None:
        """Store compressed; None if that turns out to save too little, and nothing was stored."""
        operation, multipart = content.operation, self._store.multipart
        if content.length > SINGLE_PUT_BYTES and multipart is not None:
            async with self._packer.large_uploads:
                return await self._put_packed_parts(content, packed, multipart, options)
        if compression is None:
            return None
        async with self._part_slots if content.length > MIB else nullcontext():
            body = await self._packer.pack_small(content, packed, compression)
            if body is None:
                return None
            condition = await self._condition(operation)
            version = await self._store.put(operation.key, body, options=options, condition=condition)
        self._on_bytes(content.length)
        return _checked(operation.key, version, len(body))

    async def _put_packed_parts(
        self, content: Content, packed: Packed, multipart: AsyncMultipartApi, options: PutOptions
    ) -> Version:
        key = content.operation.key
        stored_bytes = 0

        async def send(upload: Upload) -> list[Part]:
            nonlocal stored_bytes
            async with trio.open_nursery() as nursery:
                sender = PartSender(
                    nursery,
                    multipart,
                    self._store.compose,
                    upload,
                    on_sent=self._uploads.sent,
                    slots=self._part_slots,
                )
                stored_bytes = await self._packer.pack_parts(content, packed, sender)
            return sender.parts

        plan = (ZSTD_VERSION, packed, content.base)
        version = await self._in_parts(content.operation, multipart, options, plan, send)
        return _checked(key, version, stored_bytes)

    # -- plain --------------------------------------------------------------------------------------

    async def _put_plain(self, content: Content, options: PutOptions) -> Version:
        operation, staged, length = content.operation, content.staged, content.length
        multipart = self._store.multipart
        if multipart is None or length <= SINGLE_PUT_BYTES:
            await self._fill(content, 0, length)
            body = FileSlice(path=staged.path, start=0, length=length)
            async with self._part_slots if length > MIB else nullcontext():
                condition = await self._condition(operation)
                version = await self._store.put(operation.key, body, options=options, condition=condition)
            self._on_bytes(length)
            return _checked(operation.key, version, length)
        plans = None
        base = content.base
        if self._store.compose is not None and base is not None and base.decoded_bytes is None:
            pieces = list(staged.extents.pieces(0, length))
            plans = plan_patch(length, staged.base_limit, pieces, multipart.limits)
        if plans is None:
            plans = plan_upload(length, multipart.limits)
        version = await self._put_parts(content, plans, multipart, options)
        return _checked(operation.key, version, length)

    async def _put_parts(
        self, content: Content, plans: list[PartPlan], multipart: AsyncMultipartApi, options: PutOptions
    ) -> Version:
        async def send(upload: Upload) -> list[Part]:
            async def send_one(number: int, plan: PartPlan) -> None:
                async with self._part_slots:
                    part = await self._send_part(content, plan, number, multipart, upload.upload_id)
                self._uploads.sent(upload, part)
                self._on_bytes(plan.byte_range.length)

            async with trio.open_nursery() as nursery:
                for number, plan in enumerate(plans, start=1):
                    if number not in upload.parts:
                        nursery.start_soon(send_one, number, plan)
            return [upload.parts[number] for number in sorted(upload.parts)]

        return await self._in_parts(content.operation, multipart, options, (plans, content.base), send)

    async def _send_part(
        self,
        content: Content,
        plan: PartPlan,
        number: int,
        multipart: AsyncMultipartApi,
        upload_id: str,
    ) -> Part:
        wanted, key = plan.byte_range, content.operation.key
        if plan.copied and self._store.compose is not None and content.base is not None:
            return await self._store.compose.copy_part(
                key, wanted, key, upload_id, number, source_if_match=content.base.etag
            )
        await self._fill(content, wanted.start, wanted.stop)
        body = FileSlice(path=content.staged.path, start=wanted.start, length=wanted.length)
        return await multipart.upload_part(key, upload_id, number, body)

    async def _fill(self, content: Content, start: int, stop: int) -> None:
        """Fetch what is not staged of [start, stop) from the base into the staged file."""
        staged = content.staged
        with staged.pinned():  # else its descriptor may be another file's by the time a thread writes
            for first, last in content.holes(start, stop):
                for low in range(first, last, FILL_BYTES):
                    high = min(low + FILL_BYTES, last)
                    data = await content.read_base(low, high)
                    await in_thread(staged.write_bytes, low, data)
                    staged.mark_filled(low, high - low)

    # -- in parts -----------------------------------------------------------------------------------

    async def _in_parts(
        self,
        operation: Operation,
        multipart: AsyncMultipartApi,
        options: PutOptions,
        plan: object,
        send: Callable[[Upload], Awaitable[list[Part]]],
    ) -> Version:
        """A multipart upload of the parts that `send` sends, conditional on the base.

        Cut short by an outage, or by a kill, it is gone on with if options and `plan` are the same then.
        """
        condition = operation.base.condition
        if not self._store.capabilities.complete_conditions:
            await compare(self._store, operation.key, condition)  # before all the bytes are sent for nothing
        state = operation.committed  # what was sent before a power loss may be newer than what is left
        is_left = state is not None and state.reverted
        told = md5(repr((options, plan, is_left)).encode(), usedforsecurity=False).hexdigest()
        upload = await self._uploads.begin(
            multipart, operation.key, options, token=operation.token, plan=told
        )
        return await self._uploads.complete(multipart, upload, condition, send)


def _checked(key: str, version: Version, length: int) -> Version:
    if version.size_bytes != length:
        raise CorruptError(f"{version.size_bytes} of {length} bytes were stored", key=key)
    return version
