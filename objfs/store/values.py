"""Frozen values that requests and answers of an object store are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB
KEPT_HEADERS = ("content-disposition", "content-language", "expires")  # of no use here; others set them
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})  # one for the thousands of objects of a listing
MAX_DELETE_KEYS = 1000  # S3: most keys of one DeleteObjects request


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """Half-open range [start, stop) of an object, in bytes; never empty."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"not a byte range: [{self.start}, {self.stop})")

    @property
    def length(self) -> int:
        """Number of bytes."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """Identity of an object's bytes as stored: ETag (without quotes) and size in bytes.

    Attributes:
        decoded_bytes: length of the content where the object is compressed and shown decompressed; None where
            the content is the bytes as stored. No part of the identity: listings do not tell it.
        sha256: of the content, in hex, where the object says so; no part of the identity either.
    """

    etag: str
    size_bytes: int
    decoded_bytes: int | None = field(default=None, compare=False)
    sha256: str | None = field(default=None, compare=False)

    @property
    def content_bytes(self) -> int:
        """Length of the content that programs see."""
        return self.size_bytes if self.decoded_bytes is None else self.decoded_bytes

    def holding(self, other: Version) -> Version:
        """This version, with the content of another one: its object is a copy of the other's."""
        if (self.decoded_bytes, self.sha256) == (other.decoded_bytes, other.sha256):
            return self
        return replace(self, decoded_bytes=other.decoded_bytes, sha256=other.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What HEAD, GET or LIST tells of one object.

    Attributes:
        modified_ns: Last-Modified in ns since the epoch, as precise as the answer was (0: not told).
        metadata: user metadata with lower-case names, or None where the answer does not tell (most LISTs).
        encryption: as in `PutOptions`, where the answer tells it.
        headers: as in `PutOptions`.
        tag_count: how many tags it has, where the answer tells it.
    """

    key: str
    version: Version
    modified_ns: int = 0
    metadata: Mapping[str, str] | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    storage_class: str | None = None
    cache_control: str | None = None
    encryption: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    tag_count: int = 0

    def with_key(self, key: str) -> Self:
        """The same object seen under another key (prefix wrappers)."""
        return replace(self, key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Answer of a GET: the object's facts and the bytes of the range asked for."""

    info: ObjectInfo
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSlice:
    """Bytes [start, start + length) of a local file, read anew for each attempt of a request.

    Attributes:
        on_read: is told, by the thread that reads, how many bytes of the slice were read so far.
    """

    path: Path
    start: int
    length: int
    on_read: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    def open(self) -> BinaryIO:
        """The slice as a seekable binary file of exactly `length` bytes."""
        return _SliceReader(self)  # type: ignore[return-value]  # RawIOBase with the parts of BinaryIO that SDKs use

    def read_bytes(self) -> bytes:
        """The whole slice; raises EOFError if the file is too short."""
        with self.open() as source:
            return source.read()


Body = bytes | FileSlice


def body_length(body: Body) -> int:
    """Length of a request body in bytes."""
    return body.length if isinstance(body, FileSlice) else len(body)


def body_bytes(body: Body) -> bytes:
    """The body in memory; for bodies known to be small, and SDKs that want bytes."""
    return body.read_bytes() if isinstance(body, FileSlice) else body


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Precondition of a write on its destination key: a current ETag, or absence. Default: none."""

    if_match: str | None = None
    if_absent: bool = False

    def __post_init__(self) -> None:
        if self.if_match is not None and self.if_absent:
            raise ValueError("if_match and if_absent exclude each other")


ANY = Condition()
ABSENT = Condition(if_absent=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOptions:
    """How an object is to be stored. Metadata names are lower-case; values latin-1 text.

    Attributes:
        tags: names and values; None sets none.
        encryption: `sse-s3`, `kms` or `kms:KEY-ID`; None for the bucket's default.
        headers: those of `KEPT_HEADERS` that it has.

    In a copy, None of `cache_control`, `storage_class`, `tags` and `encryption` keeps the source's; so do
    headers that are not named.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    content_encoding: str | None = None
    cache_control: str | None = None
    storage_class: str | None = None
    tags: Mapping[str, str] | None = None
    encryption: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """One page of a listing: objects and common prefixes, each in the store's order.

    Attributes:
        next_page: opaque token of the next page, or None after the last.
    """

    objects: tuple[ObjectInfo, ...]
    prefixes: tuple[str, ...] = ()
    next_page: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteFailure:
    """One key of a batch that was not deleted, and why."""

    key: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipartLimits:
    """Limits of multipart uploads. `equal_parts`: all parts but the last must have one size."""

    min_part_bytes: int = 5 * MIB  # S3: every part but the last (user guide, "Multipart upload limits")
    max_part_bytes: int = 5 * GIB  # same page
    max_parts: int = 10_000  # same page
    equal_parts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One uploaded part."""

    number: int
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    initiated_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Plain facts of a store. Conditions are per operation: some stores ignore some silently.

    Attributes:
        put_conditions: PUT honours if_match and if_absent.
        complete_conditions: CompleteMultipartUpload honours them.
        copy_conditions: COPY honours them on its destination.
        user_metadata: objects carry user metadata.
        tags: objects carry tags.
        encryption: the store encrypts as asked for; others refuse to with NotSupportedError.
        listing_metadata: `list(with_metadata=True)` tells metadata.
        listing_consistent: listings show every change that was answered before they were asked for.
        listing_ordered: listings come in UTF-8 byte order of the keys.
        file_over_prefix: an object `a` and objects below `a/` can exist together. Stores where they cannot
            (MinIO) keep prefixes as folders of a disk: they list such as nothing is in, overlook what is
            being overwritten, deny writes beside a delete, and one of several nodes may lack an object.
        paces_bodies: the driver itself keeps bodies to the rates of `StoreOptions.traffic`.
        max_key_bytes: longest key, in UTF-8 bytes.
        max_metadata_bytes: most bytes of metadata names and values together.
        max_single_put_bytes: largest object of one PUT.
    """

    put_conditions: bool = False
    complete_conditions: bool = False
    copy_conditions: bool = False
    user_metadata: bool = True
    tags: bool = True
    encryption: bool = True
    listing_metadata: bool = False
    listing_consistent: bool = True
    listing_ordered: bool = True
    file_over_prefix: bool = True
    paces_bodies: bool = False
    max_key_bytes: int = 1024  # S3 (user guide, "Object key naming")
    max_metadata_bytes: int = 2048  # S3 (user guide, "Working with object metadata")
    max_single_put_bytes: int = 5 * GIB  # S3 (user guide, "Uploading objects")


class _SliceReader:
    """Seekable reader over a FileSlice that owns its descriptor."""

    def __init__(self, piece: FileSlice) -> None:
        self._piece = piece
        self._fd = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._position = 0
        self.closed = False

    def __len__(self) -> int:
        return self._piece.length

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def read(self, size: int | None = -1) -> bytes:
        left = self._piece.length - self._position
        want = left if size is None or size < 0 else min(size, left)
        chunks: list[bytes] = []
        while want > 0:
            chunk = os.pread(self._fd, want, self._piece.start + self._position)
            if not chunk:
                raise EOFError(f"{self._piece.path} is shorter than what is to be sent of it")
            chunks.append(chunk)
            self._position += len(chunk)
            want -= len(chunk)
        if self._piece.on_read is not None:
            self._piece.on_read(self._position)
        return b"".join(chunks) if len(chunks) != 1 else chunks[0]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._piece.length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._fd)
