"""Checksums that a store verifies when a body arrives."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Protocol

from awscrt import checksums  # type: ignore[import-untyped]  # has no type information

from objfs.errors import InvalidRequestError, UsageError
from objfs.store.values import MIB, FileSlice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from objfs.store.values import Body

READ_BYTES = 4 * MIB  # bounds the memory of a pass over a file
Header = tuple[str, str]
_MD5_ETAG = re.compile(r"[0-9a-f]{32}")
_DOUBTFUL_MAX = 1000  # answers waiting for their second try; far more than are under way at a time


class Checksum(Protocol):
    """One way to protect the bodies of requests."""

    @property
    def upload_headers(self) -> Mapping[str, str]:
        """Headers of CreateMultipartUpload that announce the checksums of parts."""
        ...

    def header(self, body: Body) -> Header:
        """Name and value of the header for a body."""
        ...


class Crc64:
    """CRC64NVME, at ten times the speed of MD5.

    Args:
        announce: AWS refuses part checksums that were not announced; MinIO wants the announced ones repeated
            in the completion, which after a restart nobody remembers, and verifies the others as well.
    """

    def __init__(self, *, announce: bool) -> None:
        announced = {"x-amz-checksum-algorithm": "CRC64NVME", "x-amz-checksum-type": "FULL_OBJECT"}
        self._upload_headers = announced if announce else {}

    @property
    def upload_headers(self) -> Mapping[str, str]:
        """See `Checksum`."""
        return self._upload_headers

    def header(self, body: Body) -> Header:
        """See `Checksum`."""
        value = 0
        for piece in _pieces(body):
            value = checksums.crc64nvme(piece, value)
        return "x-amz-checksum-crc64nvme", b64encode(value.to_bytes(8)).decode()


class Md5:
    """Content-MD5, which every S3 store verifies."""

    @property
    def upload_headers(self) -> Mapping[str, str]:
        """See `Checksum`."""
        return {}

    def header(self, body: Body) -> Header:
        """See `Checksum`."""
        return "content-md5", content_md5(body)


def choose_checksum(name: str, *, announce: bool) -> Checksum:
    """The checksum of a URL's `?checksum=`."""
    match name:
        case "crc64nvme":
            return Crc64(announce=announce)
        case "md5":
            return Md5()
    raise UsageError("?checksum= must be crc64nvme or md5.")


class EtagCheck:
    """Tells bodies that arrived damaged, where a store's ETags are MD5 sums.

    They are for plain PUTs and copies (S3 user guide, "Checking object integrity"); not for multipart uploads
    (which have a `-`) or KMS encryption. Of a store that never showed a true one it is believed that its
    ETags are something else once the same bytes came twice.
    """

    def __init__(self) -> None:
        self._are_md5: bool | None = None
        self._doubtful: dict[str, bytes] = {}

    def is_good(self, etag: str, data: bytes) -> bool:
        """False if the body is not what the ETag stands for; ask again then."""
        if self._are_md5 is False or not _MD5_ETAG.fullmatch(etag):
            return True
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        if digest.hex() == etag:
            self._are_md5 = True
            return True
        if self._are_md5 is None and self._doubtful.get(etag) == digest:
            self._are_md5 = False
            return True
        if len(self._doubtful) >= _DOUBTFUL_MAX:
            self._doubtful.clear()
        self._doubtful[etag] = digest
        return False


def content_md5(body: Body) -> str:
    """The value of a Content-MD5 header."""
    return b64encode(_md5(body)).decode()


def md5_etag(body: Body, sent_md5: str | None) -> str:
    """The ETag of a body stored by a plain PUT, where ETags are MD5 sums; `sent_md5` is its Content-MD5."""
    return (_md5(body) if sent_md5 is None else b64decode(sent_md5)).hex()


def _md5(body: Body) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in _pieces(body):
        digest.update(piece)
    return digest.digest()


def _pieces(body: Body) -> Iterator[bytes]:
    if not isinstance(body, FileSlice):
        yield body
        return
    left = body.length
    try:
        with body.open() as source:
            while piece := source.read(READ_BYTES):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise InvalidRequestError(f"The body's file cannot be read: {error.strerror}.") from error
    if left:
        raise InvalidRequestError(f"The body's file is {left} bytes shorter than it was said to be.")
