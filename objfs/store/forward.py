"""A wrapper that forwards every request through one method, for wrappers that treat requests alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ANY, body_length

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from objfs.store.integrity import IntegrityApi
    from objfs.store.lifecycle import LifecycleApi, TagsApi
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


class RequestKind(StrEnum):
    """The requests of a store, one each per method."""

    HEAD = "head"
    GET = "get"
    PUT = "put"
    DELETE = "delete"
    LIST = "list"
    COPY = "copy"
    CREATE_UPLOAD = "create_upload"
    UPLOAD_PART = "upload_part"
    COMPLETE = "complete"
    ABORT = "abort"
    LIST_UPLOADS = "list_uploads"
    COPY_PART = "copy_part"


@dataclass(frozen=True, slots=True)
class Request:
    """What a wrapper is told of a request: its kind, its (destination) key or prefix, and its body's size.

    Attributes:
        source_key: the object whose bytes it takes; whoever sends it knows of that.
    """

    kind: RequestKind
    key: str
    sent_bytes: int = 0
    source_key: str = ""


class ForwardingStore:
    """Forwards every request through `_around`, which subclasses override."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        multipart, compose = store.multipart, store.compose
        self._multipart = None if multipart is None else ForwardingMultipart(multipart, self)
        self._compose = None if compose is None else ForwardingCompose(compose, self)
        self._tags = None if store.tags is None else ForwardingTags(store.tags, self)

    def _around(self, request: Request, send: Callable[[], T]) -> T:
        """Send a request; `send` may be called any number of times."""
        return send()

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return self._store.capabilities

    @property
    def multipart(self) -> MultipartApi | None:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def compose(self) -> ComposeApi | None:
        """See `ObjectStore`."""
        return self._compose

    @property
    def lifecycle(self) -> LifecycleApi | None:
        """See `ObjectStore`; a few rare requests, sent as they are."""
        return self._store.lifecycle

    @property
    def integrity(self) -> IntegrityApi | None:
        """See `ObjectStore`; a few rare requests, sent as they are."""
        return self._store.integrity

    @property
    def tags(self) -> TagsApi | None:
        """See `ObjectStore`."""
        return self._tags

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        return self._around(Request(RequestKind.HEAD, key), partial(self._store.head, key))

    def get(self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None) -> Blob:
        """See `ObjectStore`."""
        send = partial(self._store.get, key, byte_range=byte_range, if_match=if_match)
        return self._around(Request(RequestKind.GET, key, source_key=key), send)

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        send = partial(self._store.put, key, body, options=options, condition=condition)
        return self._around(Request(RequestKind.PUT, key, body_length(body)), send)

    def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `ObjectStore`."""
        request = Request(RequestKind.DELETE, keys[0] if keys else "")
        return self._around(request, partial(self._store.delete, keys))

    def list(
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
        send = partial(
            self._store.list,
            prefix,
            delimiter=delimiter,
            start_after=start_after,
            page=page,
            max_keys=max_keys,
            with_metadata=with_metadata,
        )
        return self._around(Request(RequestKind.LIST, prefix), send)

    def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version:
        """See `ObjectStore`."""
        send = partial(
            self._store.copy,
            source_key,
            key,
            source_if_match=source_if_match,
            options=options,
            condition=condition,
        )
        return self._around(Request(RequestKind.COPY, key, source_key=source_key), send)

    def close(self) -> None:
        """See `ObjectStore`."""
        self._store.close()


class ForwardingMultipart:
    """The multipart face of a `ForwardingStore`."""

    def __init__(self, api: MultipartApi, owner: ForwardingStore) -> None:
        self._api = api
        self._around = owner._around

    @property
    def limits(self) -> MultipartLimits:
        """See `MultipartApi`."""
        return self._api.limits

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        request = Request(RequestKind.CREATE_UPLOAD, key)
        return self._around(request, partial(self._api.create, key, options=options))

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """See `MultipartApi`."""
        request = Request(RequestKind.UPLOAD_PART, key, body_length(body))
        return self._around(request, partial(self._api.upload_part, key, upload_id, number, body))

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        send = partial(self._api.complete, key, upload_id, parts, condition=condition)
        return self._around(Request(RequestKind.COMPLETE, key), send)

    def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        self._around(Request(RequestKind.ABORT, key), partial(self._api.abort, key, upload_id))

    def list_uploads(self, prefix: str) -> list[PendingUpload]:
        """See `MultipartApi`."""
        return self._around(
            Request(RequestKind.LIST_UPLOADS, prefix), partial(self._api.list_uploads, prefix)
        )


class ForwardingCompose:
    """The compose face of a `ForwardingStore`."""

    def __init__(self, api: ComposeApi, owner: ForwardingStore) -> None:
        self._api = api
        self._around = owner._around

    def copy_part(
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
        send = partial(
            self._api.copy_part,
            source_key,
            byte_range,
            key,
            upload_id,
            number,
            source_if_match=source_if_match,
        )
        return self._around(Request(RequestKind.COPY_PART, key, source_key=source_key), send)


class ForwardingTags:
    """The tags face of a `ForwardingStore`."""

    def __init__(self, api: TagsApi, owner: ForwardingStore) -> None:
        self._api = api
        self._around = owner._around

    def read(self, key: str) -> dict[str, str]:
        """See `TagsApi`."""
        return self._around(Request(RequestKind.GET, key, source_key=key), partial(self._api.read, key))
