"""The one table from errors to errno, and the decorator that applies it to every handler."""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pyfuse3
import trio

from objfs.errors import (
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    ObjectStoreError,
    PermissionDeniedError,
    QuotaExceededError,
    StaleVersionError,
    UnauthenticatedError,
    first_error,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

H = TypeVar("H", bound="Callable[..., Awaitable[Any]]")

_TABLE: tuple[tuple[type[BaseException], int], ...] = (
    (StaleVersionError, errno.ESTALE),
    (trio.TooSlowError, errno.ETIMEDOUT),
    (PermissionDeniedError, errno.EACCES),
    (UnauthenticatedError, errno.EACCES),
    (QuotaExceededError, errno.EDQUOT),
    (InvalidRequestError, errno.EINVAL),
    (NotSupportedError, errno.ENOTSUP),
    (NotFoundError, errno.ENOENT),
    (ObjectStoreError, errno.EIO),
)


def errno_of(error: BaseException) -> int | None:
    """The errno a program sees, or None for an error that nobody foresaw."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    return next((number for kind, number in _TABLE if isinstance(error, kind)), None)


def replies_errno(handler: H) -> H:
    """Let a handler raise nothing but FUSEError: anything else would end the mount."""

    @functools.wraps(handler)
    async def wrapped(self: object, *args: object, **kwargs: object) -> object:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as group:
            error = first_error(group)
            number = errno_of(error)
            if number is None:
                log.exception("%s failed by a bug", handler.__name__)
                number = errno.EIO
            elif isinstance(error, (ObjectStoreError, trio.TooSlowError)):
                log.warning("%s: %s", handler.__name__, str(error) or "no answer within the deadline")
            raise pyfuse3.FUSEError(number) from None

    wrapped.replies_errno = True  # type: ignore[attr-defined]  # a test checks that every handler has it
    return cast("H", wrapped)
