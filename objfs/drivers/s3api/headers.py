"""Headers that several requests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.errors import CorruptError
from objfs.store.values import KEPT_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.drivers.s3api.http import Answer
    from objfs.store.values import Condition, PutOptions

_SSE = "x-amz-server-side-encryption"
_SSE_KEY = f"{_SSE}-aws-kms-key-id"


def condition_headers(condition: Condition) -> dict[str, str]:
    """Headers of a condition on the destination."""
    if condition.if_absent:
        return {"if-none-match": "*"}
    return {} if condition.if_match is None else {"if-match": f'"{condition.if_match}"'}


def encryption_headers(encryption: str | None) -> dict[str, str]:
    """Headers of `PutOptions.encryption`."""
    if encryption is None:
        return {}
    kind, _, key_id = encryption.partition(":")
    if kind == "sse-s3":
        return {_SSE: "AES256"}
    return {_SSE: "aws:kms"} | ({_SSE_KEY: key_id} if key_id else {})


def encryption_of(headers: Mapping[str, str]) -> str | None:
    """The inverse of `encryption_headers`."""
    match headers.get(_SSE):
        case "AES256":
            return "sse-s3"
        case "aws:kms":
            key_id = headers.get(_SSE_KEY)
            return f"kms:{key_id}" if key_id else "kms"
    return None


def kept_headers(source: Answer, options: PutOptions | None) -> dict[str, str]:
    """What a copy does not take along by itself (S3 API, CopyObject), unless the options say otherwise.

    Args:
        source: the answer to a HEAD of the source.
        options: of the copy; its own headers outrank these.
    """
    names = ["x-amz-storage-class"]
    if options is None or options.encryption is None:
        names += [_SSE, _SSE_KEY]
    if options is not None:
        names += ["cache-control", *KEPT_HEADERS]
    found = {name: source.header(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def etag_of(answer: Answer, key: str) -> str:
    """The ETag an answer must tell."""
    if not answer.etag:
        raise CorruptError("The store's answer has no ETag.", key=key)
    return answer.etag
