"""Checksums that a store verifies when a body arrives."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING

from awscrt import checksums  # type: ignore[import-untyped]  # has no type information

from objfs.errors import InvalidRequestError, UsageError
from objfs.store.values import MIB, FileSlice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from objfs.store.values import Body

READ_BYTES = 4 * MIB  # bounds the memory of a pass over a file
Header = tuple[str, str]


class Checksum:
    """One way to protect bodies; the header of `create` announces it for the parts of an upload."""

    def __init__(self, name: str, update: Callable[[bytes, int], int], digest_bytes: int) -> None:
        self._header = f"x-amz-checksum-{name}"
        self._update = update
        self._digest_bytes = digest_bytes
        self.upload_headers = {
            "x-amz-checksum-algorithm": name.upper(),
            "x-amz-checksum-type": "FULL_OBJECT",
        }

    def header(self, body: Body) -> Header:
        """Name and value of the header for a body."""
        value = 0
        for piece in _pieces(body):
            value = self._update(piece, value)
        return self._header, b64encode(value.to_bytes(self._digest_bytes)).decode()


class Md5Checksum:
    """Content-MD5, which every S3 store verifies, at three times the cost."""

    upload_headers: dict[str, str] = {}  # noqa: RUF012  # never changed

    def header(self, body: Body) -> Header:
        """Name and value of the header for a body."""
        return "content-md5", content_md5(body)


AnyChecksum = Checksum | Md5Checksum
DEFAULT_CHECKSUM = "crc64nvme"  # full-object checksums of multipart uploads exist for it everywhere


def choose_checksum(name: str | None) -> AnyChecksum:
    """The checksum of a URL's `?checksum=`."""
    match name or DEFAULT_CHECKSUM:
        case "crc64nvme":
            return Checksum("crc64nvme", checksums.crc64nvme, 8)
        case "crc32c":
            return Checksum("crc32c", checksums.crc32c, 4)
        case "md5":
            return Md5Checksum()
    raise UsageError("?checksum= must be crc64nvme, crc32c or md5.")


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
