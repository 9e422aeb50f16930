"""No request of an upload is waited for for ever: who is never answered tries again."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from objfs.errors import UnavailableError
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ANY, body_length

if TYPE_CHECKING:
    import builtins
    from collections.abc import Awaitable, Sequence

    from objfs.store.protocol import AsyncComposeApi, AsyncMultipartApi, AsyncObjectStore, AsyncTagsApi
    from objfs.store.values import (
        Blob,
        Body,
        ByteRange,
        Capabilities,
        Condition,
        DeleteFailure,
        ListPage,
        MultipartLimits,
        ObjectInfo,
        Part,
        PendingUpload,
        PutOptions,
        Version,
    )

T = TypeVar("T")

DEADLINE_S = 300.0  # several times what drivers and their retries take before they give up by themselves
SLOWEST_BYTES_PER_S = 16 * 1024  # a part of 8 MiB may take nine minutes more


async def _in_time(key: str, request: Awaitable[T], sent_bytes: int = 0) -> T:
    with trio.move_on_after(DEADLINE_S + sent_bytes / SLOWEST_BYTES_PER_S):
        return await request
    raise UnavailableError("the store never answered", key=key)


class DeadlineStore:
    """An `AsyncObjectStore` whose requests end by a deadline; one given up may still take effect."""

    def __init__(self, store: AsyncObjectStore) -> None:
        self._store = store
        self._multipart = _DeadlineMultipart(store.multipart) if store.multipart is not None else None
        self._compose = _DeadlineCompose(store.compose) if store.compose is not None else None
        self._tags = _DeadlineTags(store.tags) if store.tags is not None else None

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return self._store.capabilities

    @property
    def multipart(self) -> _DeadlineMultipart | None:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def compose(self) -> _DeadlineCompose | None:
        """See `ObjectStore`."""
        return self._compose

    @property
    def tags(self) -> _DeadlineTags | None:
        """See `ObjectStore`."""
        return self._tags

    async def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        return await _in_time(key, self._store.head(key))

    async def get(
        self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> Blob:
        """See `ObjectStore`."""
        size = byte_range.length if byte_range is not None else 0
        return await _in_time(key, self._store.get(key, byte_range=byte_range, if_match=if_match), size)

    async def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        request = self._store.put(key, body, options=options, condition=condition)
        return await _in_time(key, request, body_length(body))

    async def delete(self, keys: Sequence[str]) -> builtins.list[DeleteFailure]:
        """See `ObjectStore`."""
        return await _in_time(keys[0] if keys else "", self._store.delete(keys))

    async def list(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page: str | None = None,
        max_keys: int = 1000,
        with_metadata: bool = False,
    ) -> ListPage:
        """See `ObjectStore`."""
        request = self._store.list(
            prefix,
            delimiter=delimiter,
            start_after=start_after,
            page=page,
            max_keys=max_keys,
            with_metadata=with_metadata,
        )
        return await _in_time(prefix, request)

    async def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version:
        """See `ObjectStore`."""
        request = self._store.copy(
            source_key, key, source_if_match=source_if_match, options=options, condition=condition
        )
        return await _in_time(key, request)


class _DeadlineMultipart:
    def __init__(self, api: AsyncMultipartApi) -> None:
        self._api = api

    @property
    def limits(self) -> MultipartLimits:
        return self._api.limits

    async def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        return await _in_time(key, self._api.create(key, options=options))

    async def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        return await _in_time(key, self._api.upload_part(key, upload_id, number, body), body_length(body))

    async def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        return await _in_time(key, self._api.complete(key, upload_id, parts, condition=condition))

    async def abort(self, key: str, upload_id: str) -> None:
        await _in_time(key, self._api.abort(key, upload_id))

    async def list_uploads(self, prefix: str) -> list[PendingUpload]:
        return await _in_time(prefix, self._api.list_uploads(prefix))


class _DeadlineCompose:
    def __init__(self, api: AsyncComposeApi) -> None:
        self._api = api

    async def copy_part(
        self,
        source_key: str,
        byte_range: ByteRange,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_if_match: str | None = None,
    ) -> Part:
        request = self._api.copy_part(
            source_key, byte_range, key, upload_id, number, source_if_match=source_if_match
        )
        return await _in_time(key, request)


class _DeadlineTags:
    def __init__(self, api: AsyncTagsApi) -> None:
        self._api = api

    async def read(self, key: str) -> dict[str, str]:
        return await _in_time(key, self._api.read(key))
