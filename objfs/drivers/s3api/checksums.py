"""Checksums that a store verifies when a body arrives."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING, Protocol

from awscrt import checksums  # type: ignore[import-untyped]  # has no type information

from objfs.errors import InvalidRequestError, UsageError
from objfs.store.values import MIB, FileSlice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from objfs.store.values import Body

READ_BYTES = 4 * MIB  # bounds the memory of a pass over a file
Header = tuple[str, str]


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


def content_md5(body: Body) -> str:
    """The value of a Content-MD5 header."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in _pieces(body):
        digest.update(piece)
    return b64encode(digest.digest()).decode()


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
