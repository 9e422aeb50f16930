"""Checks of requests and answers that every driver makes alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from objfs.errors import CorruptError, InvalidRequestError, NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.values import ByteRange, Condition

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_METADATA_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110 token, lower-case
_HTTP_OK, _HTTP_PARTIAL = 200, 206


def check_key(key: str, max_key_bytes: int) -> None:
    """Refuse keys no store can hold: empty, over-long, or not UTF-8."""
    try:
        length = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequestError("The key is not valid Unicode.", key=key) from error
    if not 0 < length <= max_key_bytes:
        raise InvalidRequestError(f"A key has 1 to {max_key_bytes} bytes, not {length}.", key=key)


def check_metadata(metadata: Mapping[str, str], max_metadata_bytes: int, *, key: str) -> None:
    """Refuse metadata that no HTTP header can carry, or that is too large."""
    total_bytes = 0
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name):
            raise InvalidRequestError(f"Not a metadata name: {name!r}.", key=key)
        if not value.isprintable() or not value.isascii() or value != value.strip():
            raise InvalidRequestError(
                f"Metadata {name!r} is not printable ASCII without outer spaces.", key=key
            )
        total_bytes += len(name) + len(value)
    if total_bytes > max_metadata_bytes:
        raise InvalidRequestError(
            f"Metadata has {total_bytes} bytes; {max_metadata_bytes} are allowed.", key=key
        )


def check_encryption(encryption: str | None, *, key: str) -> None:
    """Refuse encryption, for stores that have none: silently plain would be a broken promise."""
    if encryption is not None:
        raise NotSupportedError(f"The store does not encrypt ({encryption}).", key=key)


def check_condition(condition: Condition, *, honoured: bool, key: str) -> None:
    """Refuse a condition that the store would ignore silently."""
    if not honoured and (condition.if_absent or condition.if_match is not None):
        raise NotSupportedError("The store does not honour this condition.", key=key)


def check_body(
    *,
    key: str,
    byte_range: ByteRange | None,
    status: int,
    content_range: str | None,
    object_bytes: int,
    body_bytes: int,
) -> None:
    """Raise CorruptError unless the body of a GET is exactly what was asked for.

    Args:
        key: of the object.
        byte_range: the range asked for, or None for the whole object.
        status: HTTP status, 200 or 206.
        content_range: the header, if there was one.
        object_bytes: size of the whole object according to the answer.
        body_bytes: length of the body that arrived.
    """
    if byte_range is None:
        expected, start = object_bytes, None
    else:
        if status != _HTTP_PARTIAL:
            raise CorruptError("The store answered a ranged GET without a range.", key=key)
        expected, start = byte_range.length, byte_range.start
        if parse_content_range(content_range, key=key)[:2] != (byte_range.start, byte_range.stop):
            raise CorruptError(f"The store answered with another range: {content_range}.", key=key)
    if start is None and status != _HTTP_OK:
        raise CorruptError(f"The store answered a whole GET with status {status}.", key=key)
    if body_bytes != expected:
        raise CorruptError(f"The body has {body_bytes} bytes, {expected} were due.", key=key)


def parse_content_range(header: str | None, *, key: str) -> tuple[int, int, int]:
    """(start, stop, object size) of a Content-Range header."""
    found = _CONTENT_RANGE.fullmatch(header or "")
    if found is None or found[3] == "*":
        raise CorruptError(f"Not a Content-Range of known size: {header!r}.", key=key)
    return int(found[1]), int(found[2]) + 1, int(found[3])
