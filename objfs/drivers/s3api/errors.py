"""What a status and an S3 error code mean to a caller of the store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from objfs.drivers.s3api.xml import child_text
from objfs.errors import (
    BucketNotFoundError,
    CorruptError,
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    ObjectStoreError,
    PermissionDeniedError,
    PreconditionFailedError,
    QuotaExceededError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
    UploadNotFoundError,
)

if TYPE_CHECKING:
    from objfs.drivers.s3api.http import Answer


_BY_CODE: dict[str, type[ObjectStoreError]] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion"), NotFoundError),
    "NoSuchUpload": UploadNotFoundError,
    "AccessDenied": PermissionDeniedError,
    "NoSuchBucket": BucketNotFoundError,
    "PreconditionFailed": PreconditionFailedError,
    **dict.fromkeys(
        (
            "AuthFailure",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
        ),
        UnauthenticatedError,
    ),
    **dict.fromkeys(
        ("BandwidthLimitExceeded", "RequestLimitExceeded", "SlowDown", "Throttling", "TooManyRequests"),
        ThrottledError,
    ),
    **dict.fromkeys(
        (
            "ConditionalRequestConflict",
            "InternalError",
            "OperationAborted",
            "RequestTimeout",
            "ServiceUnavailable",
            "SlowDownRead",  # MinIO's drives are away
            "SlowDownWrite",
        ),
        UnavailableError,
    ),
    **dict.fromkeys(
        ("QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"), QuotaExceededError
    ),
    **dict.fromkeys(
        (
            "BadDigest",
            "IncompleteBody",
            "InvalidPart",
            "XAmzContentChecksumMismatch",
            "XAmzContentSHA256Mismatch",
        ),
        CorruptError,
    ),
    "NotImplemented": NotSupportedError,
}
_BY_STATUS: dict[int, type[ObjectStoreError]] = {
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: NotSupportedError,
    408: UnavailableError,
    409: UnavailableError,
    412: PreconditionFailedError,
    429: ThrottledError,
    501: NotSupportedError,
    507: QuotaExceededError,
}
_SERVER_ERRORS = 500
_ERROR_ROOT = re.compile(rb"\s*(<\?xml[^>]*>)?\s*<Error>")


def error_class(status: int, code: str) -> type[ObjectStoreError]:
    """The class of an error answer; a code says more than a status."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return UnavailableError if status >= _SERVER_ERRORS else InvalidRequestError


def tells_class(code: str) -> bool:
    """Whether a code alone, without a status, says what is wrong."""
    return code in _BY_CODE


def is_error_document(data: bytes) -> bool:
    """Whether an answer is an error, whatever its status; one about several keys may have errors within."""
    return _ERROR_ROOT.match(data) is not None


def error_of(answer: Answer, *, key: str) -> ObjectStoreError:
    """The error that an answer tells of."""
    code = error_code(answer.data)
    kind = error_class(answer.status, code)
    told = f"{answer.status} {code}".strip()
    return kind(f"The store answered {told}.", key=key, retry_after_s=_retry_after_s(answer))


def error_code(data: bytes) -> str:
    """The code of an error document, "" where there is none."""
    try:
        return child_text(ElementTree.fromstring(data), "Code")  # noqa: S314  # expat limits entity expansion
    except ElementTree.ParseError:
        return ""


def _retry_after_s(answer: Answer) -> float | None:
    value = answer.header("retry-after") or ""
    return float(value) if value.isdecimal() else None
