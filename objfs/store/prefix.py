"""A store seen below a key prefix, as if the prefix were its root."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.errors import InvalidRequestError, ObjectStoreError
from objfs.store.integrity import PrefixIntegrity
from objfs.store.lifecycle import PrefixLifecycle, PrefixTags
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ANY, Blob, DeleteFailure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from objfs.store.integrity import IntegrityApi
    from objfs.store.lifecycle import LifecycleApi, TagsApi
    from objfs.store.protocol import ComposeApi, MultipartApi, ObjectStore
    from objfs.store.values import (
        Body,
        ByteRange,
        Capabilities,
        Condition,
        ListPage,
        MultipartLimits,
        ObjectInfo,
        Part,
        PendingUpload,
        PutOptions,
        Version,
    )


class _Root:
    """Turns keys below the prefix into whole keys, and back."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def outer(self, key: str) -> str:
        if not key:
            raise InvalidRequestError("A key is not empty.")
        return self.prefix + key

    def below(self, prefix: str) -> str:
        return self.prefix + prefix

    def inner(self, key: str) -> str:
        return key.removeprefix(self.prefix)

    def info(self, info: ObjectInfo) -> ObjectInfo:
        return info.with_key(self.inner(info.key))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Errors speak of the keys the caller knows."""
        try:
            yield
        except ObjectStoreError as error:
            error.key = self.inner(error.key)
            raise


class PrefixStore:
    """The objects of a store whose keys begin with `prefix`, under the rest of their keys."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store = store
        self._root = _Root(prefix)
        multipart, compose = store.multipart, store.compose
        self._multipart = None if multipart is None else PrefixMultipart(multipart, self._root)
        self._compose = None if compose is None else PrefixCompose(compose, self._root)

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`; the prefix takes its part of the longest key."""
        capabilities = self._store.capabilities
        left_bytes = capabilities.max_key_bytes - len(self._root.prefix.encode())
        return replace(capabilities, max_key_bytes=left_bytes)

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
        """See `ObjectStore`: the rules about objects below the prefix."""
        api = self._store.lifecycle
        return None if api is None else PrefixLifecycle(api, self._root.prefix)

    @property
    def integrity(self) -> IntegrityApi | None:
        """See `ObjectStore`."""
        api = self._store.integrity
        return None if api is None else PrefixIntegrity(api, self._root.outer)

    @property
    def tags(self) -> TagsApi | None:
        """See `ObjectStore`."""
        api = self._store.tags
        return None if api is None else PrefixTags(api, self._root.outer)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        with self._root.errors():
            return self._root.info(self._store.head(self._root.outer(key)))

    def get(self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None) -> Blob:
        """See `ObjectStore`."""
        with self._root.errors():
            blob = self._store.get(self._root.outer(key), byte_range=byte_range, if_match=if_match)
        return Blob(info=self._root.info(blob.info), data=blob.data)

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        with self._root.errors():
            return self._store.put(self._root.outer(key), body, options=options, condition=condition)

    def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `ObjectStore`."""
        with self._root.errors():
            failures = self._store.delete([self._root.outer(key) for key in keys])
        for failure in failures:
            if isinstance(failure.error, ObjectStoreError):
                failure.error.key = self._root.inner(failure.error.key)
        return [replace(failure, key=self._root.inner(failure.key)) for failure in failures]

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
        with self._root.errors():
            found = self._store.list(
                self._root.below(prefix),
                delimiter=delimiter,
                start_after=self._root.outer(start_after) if start_after else "",
                page=page,
                max_keys=max_keys,
                with_metadata=with_metadata,
            )
        # The object whose key is the prefix itself has no name down here.
        objects = (info for info in found.objects if info.key != self._root.prefix)
        return replace(
            found,
            objects=tuple(map(self._root.info, objects)),
            prefixes=tuple(map(self._root.inner, found.prefixes)),
        )

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
        with self._root.errors():
            return self._store.copy(
                self._root.outer(source_key),
                self._root.outer(key),
                source_if_match=source_if_match,
                options=options,
                condition=condition,
            )

    def close(self) -> None:
        """See `ObjectStore`."""
        self._store.close()


class PrefixMultipart:
    """The multipart face of a `PrefixStore`."""

    def __init__(self, api: MultipartApi, root: _Root) -> None:
        self._api = api
        self._root = root

    @property
    def limits(self) -> MultipartLimits:
        """See `MultipartApi`."""
        return self._api.limits

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        with self._root.errors():
            return self._api.create(self._root.outer(key), options=options)

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """See `MultipartApi`."""
        with self._root.errors():
            return self._api.upload_part(self._root.outer(key), upload_id, number, body)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        with self._root.errors():
            return self._api.complete(self._root.outer(key), upload_id, parts, condition=condition)

    def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        with self._root.errors():
            self._api.abort(self._root.outer(key), upload_id)

    def list_uploads(self, prefix: str) -> list[PendingUpload]:
        """See `MultipartApi`."""
        with self._root.errors():
            uploads = self._api.list_uploads(self._root.below(prefix))
        return [replace(upload, key=self._root.inner(upload.key)) for upload in uploads]


class PrefixCompose:
    """The compose face of a `PrefixStore`."""

    def __init__(self, api: ComposeApi, root: _Root) -> None:
        self._api = api
        self._root = root

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
        with self._root.errors():
            return self._api.copy_part(
                self._root.outer(source_key),
                byte_range,
                self._root.outer(key),
                upload_id,
                number,
                source_if_match=source_if_match,
            )
