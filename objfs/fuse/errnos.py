"""The one table from errors to errno, and the decorator around every handler: it maps errors, and counts."""

from __future__ import annotations

import errno
import functools
import logging
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

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
from objfs.fuse.observed import AFTERWARDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from objfs.observe.operations import Operations

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


class Observed(Protocol):
    """What has handlers: their counters."""

    operations: Operations


def replies_errno(handler: H) -> H:
    """Count a handler's requests, and let it raise nothing but FUSEError: anything else would end the mount.

    Counting costs 1 us a request.
    """
    name = handler.__name__
    afterwards = AFTERWARDS.get(name)

    @functools.wraps(handler)
    async def wrapped(self: Observed, *args: Any) -> object:  # noqa: ANN401  # whatever the kernel asks
        operations = self.operations
        call = operations.begin(name, args)
        try:
            result = await handler(self, *args)
        except pyfuse3.FUSEError as error:
            operations.end(call, error.errno, None)
            raise
        except Exception as group:  # noqa: BLE001  # unknown ones are logged as bugs
            number = _number(name, group)
            operations.end(call, number, None)
            raise pyfuse3.FUSEError(number) from None
        except BaseException:
            operations.end(call, errno.EINTR, None)
            raise
        operations.end(call, 0, result)
        if afterwards is not None:
            afterwards(operations, args, result)
        return result

    wrapped.replies_errno = True  # type: ignore[attr-defined]  # a test checks that every handler has it
    return cast("H", wrapped)


def _number(name: str, group: Exception) -> int:
    """The errno of a failed handler, which the log is told of where that helps."""
    error = first_error(group)
    number = errno_of(error)
    if number is None:
        log.exception("%s failed by a bug", name)
        return errno.EIO
    # EIO that is not the store's is the local disk's.
    if number == errno.EIO or isinstance(error, (ObjectStoreError, trio.TooSlowError)):
        # The name is part of the text before its values: each operation is a cause of its own to the log.
        log.warning(f"{name}: %s", str(error) or "no answer within the deadline")
    return number
