"""The async face of a blocking store: each request in a trio worker thread."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio

from objfs.errors import UnavailableError
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from objfs.store.lifecycle import TagsApi
    from objfs.store.protocol import ComposeApi, MultipartApi, ObjectStore
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
Ts = TypeVarTuple("Ts")

# Most threads of a kind: wrappers keep few requests moving at a time, but any number may have stalled.
READ_THREADS = METADATA_THREADS = 256
WRITE_THREADS = 64


async def in_thread(
    call: Callable[[*Ts], T],
    *args: *Ts,
    abandon_on_cancel: bool = False,
    limiter: trio.CapacityLimiter | None = None,
) -> T:
    """`trio.to_thread.run_sync`, but that no thread can be started is an error like any other of the machine.

    A user, or a container, may have only so many of them.

    Raises:
        NoThreadError: not now.
    """
    is_begun = False

    def begin() -> T:
        nonlocal is_begun
        is_begun = True
        return call(*args)

    try:
        return await trio.to_thread.run_sync(begin, abandon_on_cancel=abandon_on_cancel, limiter=limiter)
    except RuntimeError as error:
        if is_begun:
            raise
        raise NoThreadError from error


class NoThreadError(OSError):
    """The machine lets us start no more threads now (pthread_create(3), EAGAIN)."""

    def __init__(self) -> None:
        super().__init__(errno.ENOMEM, "no thread can be started")  # EAGAIN is no errno of a file's


class _Lane:
    """A number of worker threads that one kind of request may take at a time."""

    def __init__(self, threads: int) -> None:
        self._limiter = trio.CapacityLimiter(threads)

    async def run(self, call: Callable[[], T]) -> T:
        # A cancelled caller leaves at once; the request itself ends at its own timeout, in its thread.
        try:
            return await in_thread(call, abandon_on_cancel=True, limiter=self._limiter)
        except NoThreadError as error:
            raise UnavailableError(f"The store cannot be asked: {error.strerror}.") from error


class ThreadedStore:
    """An `AsyncObjectStore` over a blocking store.

    HEAD and LIST, GET, and everything that writes have worker threads of their own, so that uploads never
    keep a lookup waiting. A cancelled request is left to end by itself: a write may still take effect.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        metadata_threads: int = METADATA_THREADS,
        read_threads: int = READ_THREADS,
        write_threads: int = WRITE_THREADS,
    ) -> None:
        self._store = store
        self._metadata = _Lane(metadata_threads)
        self._reads = _Lane(read_threads)
        self._writes = _Lane(write_threads)
        multipart, compose = store.multipart, store.compose
        self._multipart = (
            None if multipart is None else ThreadedMultipart(multipart, self._metadata, self._writes)
        )
        self._compose = None if compose is None else ThreadedCompose(compose, self._writes)
        self._tags = None if store.tags is None else ThreadedTags(store.tags, self._metadata)

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return self._store.capabilities

    @property
    def multipart(self) -> ThreadedMultipart | None:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def compose(self) -> ThreadedCompose | None:
        """See `ObjectStore`."""
        return self._compose

    @property
    def tags(self) -> ThreadedTags | None:
        """See `ObjectStore`."""
        return self._tags

    async def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        return await self._metadata.run(partial(self._store.head, key))

    async def get(
        self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> Blob:
        """See `ObjectStore`."""
        return await self._reads.run(partial(self._store.get, key, byte_range=byte_range, if_match=if_match))

    async def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        return await self._writes.run(
            partial(self._store.put, key, body, options=options, condition=condition)
        )

    async def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `ObjectStore`."""
        return await self._writes.run(partial(self._store.delete, keys))

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
        call = partial(
            self._store.list,
            prefix,
            delimiter=delimiter,
            start_after=start_after,
            page=page,
            max_keys=max_keys,
            with_metadata=with_metadata,
        )
        return await self._metadata.run(call)

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
        call = partial(
            self._store.copy,
            source_key,
            key,
            source_if_match=source_if_match,
            options=options,
            condition=condition,
        )
        return await self._writes.run(call)


class ThreadedMultipart:
    """An `AsyncMultipartApi` over a blocking one."""

    def __init__(self, api: MultipartApi, metadata: _Lane, writes: _Lane) -> None:
        self._api = api
        self._metadata = metadata
        self._writes = writes

    @property
    def limits(self) -> MultipartLimits:
        """See `MultipartApi`."""
        return self._api.limits

    async def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        return await self._writes.run(partial(self._api.create, key, options=options))

    async def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """See `MultipartApi`."""
        return await self._writes.run(partial(self._api.upload_part, key, upload_id, number, body))

    async def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        return await self._writes.run(partial(self._api.complete, key, upload_id, parts, condition=condition))

    async def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        await self._writes.run(partial(self._api.abort, key, upload_id))

    async def list_uploads(self, prefix: str) -> list[PendingUpload]:
        """See `MultipartApi`."""
        return await self._metadata.run(partial(self._api.list_uploads, prefix))


class ThreadedCompose:
    """An `AsyncComposeApi` over a blocking one."""

    def __init__(self, api: ComposeApi, writes: _Lane) -> None:
        self._api = api
        self._writes = writes

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
        """See `ComposeApi`."""
        call = partial(
            self._api.copy_part,
            source_key,
            byte_range,
            key,
            upload_id,
            number,
            source_if_match=source_if_match,
        )
        return await self._writes.run(call)


class ThreadedTags:
    """An `AsyncTagsApi` over a blocking one."""

    def __init__(self, api: TagsApi, metadata: _Lane) -> None:
        self._api = api
        self._metadata = metadata

    async def read(self, key: str) -> dict[str, str]:
        """See `TagsApi`."""
        return await self._metadata.run(partial(self._api.read, key))
