"""Parts of one multipart upload, sent as they come: as many at a time as the mount allows.

Parts that the upload has from an earlier attempt are not sent again: the same content, packed the same way,
gives the same parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.store.values import ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from objfs.store.protocol import AsyncComposeApi, AsyncMultipartApi
    from objfs.store.values import MultipartLimits, Part
    from objfs.upload.uploads import Upload


class PartSender:
    """Sends parts in the order of their numbers; `parts` is complete when the nursery is done."""

    def __init__(
        self,
        nursery: trio.Nursery,
        multipart: AsyncMultipartApi,
        compose: AsyncComposeApi | None,
        upload: Upload,
        *,
        on_sent: Callable[[Upload, Part], None],
        slots: trio.CapacityLimiter,
    ) -> None:
        self._nursery = nursery
        self._multipart = multipart
        self._compose = compose
        self._upload = upload
        self._on_sent = on_sent
        self._slots = slots
        self._count = 0

    @property
    def limits(self) -> MultipartLimits:
        """Of the store."""
        return self._multipart.limits

    @property
    def parts(self) -> list[Part]:
        """The parts that were sent, in their order."""
        return [self._upload.parts[number] for number in range(1, self._count + 1)]

    async def send(self, body: bytes) -> None:
        """Begin to send the next part; waits while too many are under way."""
        await self._begin(body)

    async def copy(self, source_key: str, start: int, stop: int, etag: str) -> None:
        """Have the store copy bytes [start, stop) of an object of that ETag as the next part."""
        await self._begin((source_key, ByteRange(start=start, stop=stop), etag))

    async def _begin(self, body: bytes | tuple[str, ByteRange, str]) -> None:
        self._count += 1
        if self._count in self._upload.parts:
            return
        borrower = object()
        await self._slots.acquire_on_behalf_of(borrower)
        self._nursery.start_soon(self._send, self._count, body, borrower)

    async def _send(self, number: int, body: bytes | tuple[str, ByteRange, str], borrower: object) -> None:
        try:
            if isinstance(body, bytes):
                part = await self._multipart.upload_part(
                    self._upload.key, self._upload.upload_id, number, body
                )
            else:
                part = await self._copy(number, *body)
            self._on_sent(self._upload, part)
        finally:
            self._slots.release_on_behalf_of(borrower)

    async def _copy(self, number: int, source_key: str, byte_range: ByteRange, etag: str) -> Part:
        assert self._compose is not None  # noqa: S101  # for the type checker: nothing is kept without it
        return await self._compose.copy_part(
            source_key,
            byte_range,
            self._upload.key,
            self._upload.upload_id,
            number,
            source_if_match=etag,
        )
