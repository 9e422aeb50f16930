"""Errors that cross rooms: one family for stores, one sentence for people."""

from __future__ import annotations


class ObjfsError(Exception):
    """Anything objfs itself raises; the message is one sentence fit for a terminal."""


class UsageError(ObjfsError):
    """The command line or configuration is wrong (exit status 2)."""


class MountError(ObjfsError):
    """A mount cannot be made or kept (exit status 1)."""


class StaleVersionError(ObjfsError):
    """The version a handle is pinned to has been replaced by somebody else."""


class ObjectStoreError(ObjfsError):
    """A request to an object store failed.

    Attributes:
        retryable: whether the same request may succeed a little later.
        key: the object's key, or "" where the request concerns the whole bucket.
        retry_after_s: the wait the service asked for, in seconds, or None.
        after_retry: an earlier try of the same request failed and may have taken effect, so that the store
            may be answering to our own success.
    """

    retryable = False
    after_retry = False

    def __init__(self, message: str, *, key: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.key = key
        self.retry_after_s = retry_after_s


class NotFoundError(ObjectStoreError):
    """There is no object (or multipart upload) of that key."""


class UploadNotFoundError(NotFoundError):
    """There is no multipart upload of that id: this tells nothing of the object."""


class BucketNotFoundError(ObjectStoreError):
    """There is no such bucket (or folder, for the local store)."""


class PreconditionFailedError(ObjectStoreError):
    """`if_match` or `if_absent` did not hold; nothing was changed."""


class PermissionDeniedError(ObjectStoreError):
    """The credentials are good but do not allow this request."""


class UnauthenticatedError(ObjectStoreError):
    """There are no credentials, or the service does not accept them."""


class InvalidRequestError(ObjectStoreError):
    """The service refuses the request as such (a key it cannot hold, metadata too large)."""


class NotSupportedError(ObjectStoreError):
    """The service does not know this request."""


class QuotaExceededError(ObjectStoreError):
    """The service has no room left for us."""


class ThrottledError(ObjectStoreError):
    """The service asked to slow down (S3 503 SlowDown, 429)."""

    retryable = True


class UnavailableError(ObjectStoreError):
    """The service cannot be reached, broke off, or answered 5xx."""

    retryable = True


class CorruptError(ObjectStoreError):
    """The answer is not what was asked for: wrong length, range or checksum. Asking again may help."""

    retryable = True


def first_error(error: BaseException) -> BaseException:
    """The first plain exception inside a (nested) group, as nurseries raise them; others unchanged."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
