"""A store in this process's memory: the reference for what a driver should do."""

from __future__ import annotations

import itertools
import threading
import time
from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace
from hashlib import md5
from types import MappingProxyType
from typing import TYPE_CHECKING

from objfs.errors import (
    CorruptError,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    UploadNotFoundError,
)
from objfs.store.checks import check_encryption, check_key, check_metadata
from objfs.store.listing import MAX_PAGE_KEYS, Cursor, build_page
from objfs.store.protocol import DEFAULT_PUT, copied_options, options_of
from objfs.store.values import (
    ANY,
    Blob,
    Capabilities,
    MultipartLimits,
    ObjectInfo,
    Part,
    PendingUpload,
    PutOptions,
    Version,
    body_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from objfs.store.urls import StoreOptions, StoreUrl
    from objfs.store.values import Body, ByteRange, Condition, DeleteFailure, ListPage

CAPABILITIES = Capabilities(
    put_conditions=True,
    complete_conditions=True,
    copy_conditions=True,
    listing_metadata=True,
    encryption=False,
)


def open_driver(url: StoreUrl, options: StoreOptions) -> MemoryStore:
    """An empty store."""
    url.allow_options()
    return MemoryStore()


@dataclass(frozen=True, slots=True)
class _Object:
    info: ObjectInfo
    data: bytes
    tags: Mapping[str, str]


@dataclass(slots=True)
class _Upload:
    key: str
    options: PutOptions
    initiated_ns: int
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)


class MemoryStore:
    """Objects in a dict, keys in a sorted list. One lock makes every method atomic.

    ETags are new with every write, so that equal bytes written twice are two versions.
    """

    def __init__(self, *, limits: MultipartLimits | None = None) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, _Object] = {}
        self._keys: list[str] = []
        self._serial = itertools.count(1)
        self._multipart = MemoryMultipart(self, limits or MultipartLimits(min_part_bytes=1))

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return CAPABILITIES

    @property
    def multipart(self) -> MemoryMultipart:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def compose(self) -> MemoryMultipart:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def lifecycle(self) -> None:
        """See `ObjectStore`: nothing goes by itself here."""
        return

    @property
    def integrity(self) -> None:
        """See `ObjectStore`: no checksums are kept."""
        return

    @property
    def tags(self) -> MemoryTags:
        """See `ObjectStore`."""
        return MemoryTags(self)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        return self._find(key).info

    def get(self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None) -> Blob:
        """See `ObjectStore`."""
        found = self._find(key)
        if if_match is not None and found.info.version.etag != if_match:
            raise PreconditionFailedError("The object is another version.", key=key)
        if byte_range is None:
            return Blob(info=found.info, data=found.data)
        if byte_range.stop > len(found.data):
            raise InvalidRequestError("The range is not within the object.", key=key)
        return Blob(info=found.info, data=found.data[byte_range.start : byte_range.stop])

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        data = body_bytes(body)
        with self._lock:
            return self._store(key, data, options, condition)

    def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `ObjectStore`."""
        with self._lock:
            for key in keys:
                if self._objects.pop(key, None) is not None:
                    del self._keys[bisect_left(self._keys, key)]
        return []

    def list(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page: str | None = None,
        max_keys: int = MAX_PAGE_KEYS,
        with_metadata: bool = False,
    ) -> ListPage:
        """See `ObjectStore`."""
        cursor = Cursor.decode(page, start_after)

        def describe(key: str) -> ObjectInfo:
            info = self._objects[key].info
            if with_metadata:
                return info
            return replace(info, metadata=None, content_type=None, content_encoding=None)

        with self._lock:
            first = bisect_left(self._keys, max(prefix, cursor.after))
            keys = itertools.islice(self._keys, first, None)
            return build_page(
                keys, describe, prefix=prefix, delimiter=delimiter, cursor=cursor, max_keys=max_keys
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
        source = self.get(source_key, if_match=source_if_match)
        kept = options_of(source.info, self.tags.read(source_key))
        with self._lock:
            return self._store(key, source.data, copied_options(options, kept), condition)

    def close(self) -> None:
        """See `ObjectStore`."""

    def _find(self, key: str) -> _Object:
        check_key(key, CAPABILITIES.max_key_bytes)
        found = self._objects.get(key)
        if found is None:
            raise NotFoundError("There is no such object.", key=key)
        return found

    def _new_etag(self, data: bytes) -> str:
        digest = md5(data, usedforsecurity=False).hexdigest()
        return f"{digest[:16]}{next(self._serial):016x}"

    def _store(self, key: str, data: bytes, options: PutOptions, condition: Condition) -> Version:
        check_key(key, CAPABILITIES.max_key_bytes)
        check_metadata(options.metadata, CAPABILITIES.max_metadata_bytes, key=key)
        check_encryption(options.encryption, key=key)
        old = self._objects.get(key)
        if condition.if_absent and old is not None:
            raise PreconditionFailedError("The object exists.", key=key)
        if condition.if_match is not None and (old is None or old.info.version.etag != condition.if_match):
            raise PreconditionFailedError("The object is another version, or gone.", key=key)
        info = ObjectInfo(
            key=key,
            version=Version(etag=self._new_etag(data), size_bytes=len(data)),
            modified_ns=time.time_ns(),
            metadata=MappingProxyType(dict(options.metadata)),
            content_type=options.content_type,
            content_encoding=options.content_encoding,
            storage_class=options.storage_class,
            cache_control=options.cache_control,
            headers=MappingProxyType(dict(options.headers)),
            tag_count=len(options.tags or {}),
        )
        if old is None:
            insort(self._keys, key)
        self._objects[key] = _Object(info, data, options.tags or {})
        return info.version


class MemoryTags:
    """The tags of a `MemoryStore`'s objects."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def read(self, key: str) -> dict[str, str]:
        """See `TagsApi`."""
        return dict(self._store._find(key).tags)


class MemoryMultipart:
    """Multipart uploads and part copies of a `MemoryStore`."""

    def __init__(self, store: MemoryStore, limits: MultipartLimits) -> None:
        self._store = store
        self._limits = limits
        self._uploads: dict[str, _Upload] = {}

    @property
    def limits(self) -> MultipartLimits:
        """See `MultipartApi`."""
        return self._limits

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        check_key(key, CAPABILITIES.max_key_bytes)
        check_metadata(options.metadata, CAPABILITIES.max_metadata_bytes, key=key)
        check_encryption(options.encryption, key=key)
        with self._store._lock:
            upload_id = f"upload-{next(self._store._serial)}"
            self._uploads[upload_id] = _Upload(key, options, time.time_ns())
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """See `MultipartApi`."""
        data = body_bytes(body)
        if not 1 <= number <= self._limits.max_parts or len(data) > self._limits.max_part_bytes:
            raise InvalidRequestError("The part's number or size is out of bounds.", key=key)
        with self._store._lock:
            part = Part(number=number, etag=self._store._new_etag(data), size_bytes=len(data))
            self._find(key, upload_id).parts[number] = (part, data)
        return part

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
        source = self._store.get(source_key, byte_range=byte_range, if_match=source_if_match)
        return self.upload_part(key, upload_id, number, source.data)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        with self._store._lock:
            upload = self._find(key, upload_id)
            stored = [upload.parts.get(part.number) for part in parts]
            numbers = [part.number for part in parts]
            if not parts or numbers != sorted(set(numbers)):
                raise InvalidRequestError("The parts are not in order.", key=key)
            pieces: list[bytes] = []
            for part, found in zip(parts, stored, strict=True):
                if found is None or found[0].etag != part.etag:
                    raise CorruptError(f"Part {part.number} is not what was uploaded.", key=key)
                pieces.append(found[1])
            if any(len(piece) < self._limits.min_part_bytes for piece in pieces[:-1]):
                raise InvalidRequestError("A part is too small.", key=key)
            version = self._store._store(key, b"".join(pieces), upload.options, condition)
            del self._uploads[upload_id]
            return version

    def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        with self._store._lock:
            self._uploads.pop(upload_id, None)

    def list_uploads(self, prefix: str) -> list[PendingUpload]:
        """See `MultipartApi`."""
        with self._store._lock:
            return [
                PendingUpload(key=upload.key, upload_id=upload_id, initiated_ns=upload.initiated_ns)
                for upload_id, upload in self._uploads.items()
                if upload.key.startswith(prefix)
            ]

    def _find(self, key: str, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFoundError("There is no such upload.", key=key)
        return upload
