"""What a driver is: blocking, thread-safe, small. And the async face of it that the core calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from objfs.store.values import (
    ANY,
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

if TYPE_CHECKING:
    from objfs.store.integrity import IntegrityApi
    from objfs.store.lifecycle import LifecycleApi, TagsApi

DEFAULT_PUT = PutOptions()


def options_of(info: ObjectInfo, tags: Mapping[str, str] | None) -> PutOptions:
    """The options that store an object as it is."""
    return PutOptions(
        metadata=info.metadata or {},
        content_type=info.content_type,
        content_encoding=info.content_encoding,
        cache_control=info.cache_control,
        storage_class=info.storage_class,
        tags=tags,
        encryption=info.encryption,
        headers=info.headers,
    )


def copied_options(options: PutOptions | None, source: PutOptions) -> PutOptions:
    """The options of a copy, for stores that keep all of an object's options themselves."""
    if options is None:
        return source
    return replace(
        options,
        cache_control=options.cache_control or source.cache_control,
        storage_class=options.storage_class or source.storage_class,
        tags=source.tags if options.tags is None else options.tags,
        encryption=options.encryption or source.encryption,
        headers={**source.headers, **options.headers},
    )


class ObjectStore(Protocol):
    """One bucket (or folder).

    Every method blocks, may be called from any thread, and raises `objfs.errors.ObjectStoreError` only.
    Drivers never retry, log, limit or count: wrappers do.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def multipart(self) -> MultipartApi | None: ...

    @property
    def compose(self) -> ComposeApi | None: ...

    @property
    def lifecycle(self) -> LifecycleApi | None: ...

    @property
    def tags(self) -> TagsApi | None: ...

    @property
    def integrity(self) -> IntegrityApi | None: ...

    def head(self, key: str) -> ObjectInfo:
        """Facts of one object, metadata included."""
        ...

    def get(self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None) -> Blob:
        """The bytes of the whole object or of a range, exactly as stored (no content decoding).

        Raises:
            PreconditionFailedError: `if_match` is not the current ETag.
            CorruptError: the body is not the range asked for. A range must lie within the object.
        """
        ...

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """Store an object whole, atomically, with a checksum the store verifies.

        Raises:
            PreconditionFailedError: `condition` does not hold (also if_match on a missing key).
            NotSupportedError: a condition this store would ignore.
        """
        ...

    def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """Delete up to 1,000 keys. A missing key is no failure. Failures of single keys are returned."""
        ...

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
        """One page of keys below `prefix`; `page` continues an earlier listing with the same arguments."""
        ...

    def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version:
        """Copy within the store; `options` replaces metadata and headers, None keeps the source's.

        What `PutOptions` names as kept is kept in both cases.

        Objects up to `capabilities.max_single_put_bytes`; larger ones go through `compose`.
        """
        ...

    def close(self) -> None:
        """Give back connections. Idempotent."""
        ...


class MultipartApi(Protocol):
    """Uploads in parts."""

    @property
    def limits(self) -> MultipartLimits: ...

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """Begin an upload; returns its upload id."""
        ...

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """Upload part `number` (from 1). The same number again replaces it."""
        ...

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """Make the object of the parts. Raises NotFoundError if the upload is gone."""
        ...

    def abort(self, key: str, upload_id: str) -> None:
        """Give the upload up. A missing one is no failure."""
        ...

    def list_uploads(self, prefix: str) -> list[PendingUpload]:
        """All uploads under way below `prefix`."""
        ...


class ComposeApi(Protocol):
    """Server-side copies of ranges into parts."""

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
        """Use a range of an existing object as part `number` of an upload."""
        ...


class AsyncObjectStore(Protocol):
    """The same store as the core sees it: one await per request. See `ObjectStore` for the contracts."""

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def multipart(self) -> AsyncMultipartApi | None: ...
    @property
    def compose(self) -> AsyncComposeApi | None: ...
    @property
    def tags(self) -> AsyncTagsApi | None: ...
    async def head(self, key: str) -> ObjectInfo: ...
    async def get(
        self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> Blob: ...
    async def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version: ...
    async def delete(self, keys: Sequence[str]) -> list[DeleteFailure]: ...
    async def list(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page: str | None = None,
        max_keys: int = 1000,
        with_metadata: bool = False,
    ) -> ListPage: ...
    async def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version: ...


class AsyncMultipartApi(Protocol):
    """Async face of `MultipartApi`."""

    @property
    def limits(self) -> MultipartLimits: ...
    async def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str: ...
    async def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part: ...
    async def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version: ...
    async def abort(self, key: str, upload_id: str) -> None: ...
    async def list_uploads(self, prefix: str) -> list[PendingUpload]: ...


class AsyncComposeApi(Protocol):
    """Async face of `ComposeApi`."""

    async def copy_part(
        self,
        source_key: str,
        byte_range: ByteRange,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_if_match: str | None = None,
    ) -> Part: ...


class AsyncTagsApi(Protocol):
    """Async face of `TagsApi`."""

    async def read(self, key: str) -> dict[str, str]: ...


Metadata = Mapping[str, str]
