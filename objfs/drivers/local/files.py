"""System calls of the local driver, and what their errors mean to a caller of the store."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from objfs.drivers.local.layout import STATE_FOLDER
from objfs.errors import (
    BucketNotFoundError,
    InvalidRequestError,
    NotFoundError,
    ObjectStoreError,
    PermissionDeniedError,
    QuotaExceededError,
    UnavailableError,
)
from objfs.store.values import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.store.values import Body

COPY_CHUNK_BYTES = 8 * MIB  # bounds the memory of a copy where the kernel cannot copy by itself
READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # NONBLOCK: never wait for a FIFO
CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_ERRORS: dict[int, type[ObjectStoreError]] = {
    errno.ENOENT: NotFoundError,
    errno.ENOTDIR: NotFoundError,
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.EROFS: PermissionDeniedError,
    errno.ENOSPC: QuotaExceededError,
    errno.EDQUOT: QuotaExceededError,
    errno.EFBIG: QuotaExceededError,
    errno.ENAMETOOLONG: InvalidRequestError,
    errno.EILSEQ: InvalidRequestError,
}
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF})


@contextmanager
def store_errors(root: str, key: str = "") -> Iterator[None]:
    """Turn an OSError into an error of the store."""
    try:
        yield
    except OSError as error:
        if not os.path.isdir(root):
            raise BucketNotFoundError(f"There is no folder {root}.") from error
        kind = _ERRORS.get(error.errno or 0, UnavailableError)
        raise kind(f"The folder store failed: {error.strerror}.", key=key) from error
    except EOFError as error:
        raise UnavailableError("The body's file is shorter than it was said to be.", key=key) from error


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold a lock that other threads and other processes respect."""
    fd = _open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _open_lock(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        make_state_folder(os.path.dirname(path))
        return os.open(path, flags, 0o666)


def make_state_folder(path: str) -> None:
    """Make a folder below `.objfs-store`, and that too, but never the store's folder itself."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        if os.path.basename(path) == STATE_FOLDER:
            raise
        make_state_folder(os.path.dirname(path))
        make_state_folder(path)


def create_file(path: str) -> int:
    """Create a new file in a folder below `.objfs-store`, which is made if need be."""
    try:
        return os.open(path, CREATE_FLAGS, 0o666)
    except FileNotFoundError:
        make_state_folder(os.path.dirname(path))
        return os.open(path, CREATE_FLAGS, 0o666)


def sync_folder(path: str) -> None:
    """Make the names in a folder durable; a folder that is gone needs nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_exactly(fd: int, start: int, length: int) -> bytes:
    """Up to `length` bytes from `start`: fewer only at the end of the file."""
    data = os.pread(fd, length, start)
    if len(data) == length or not data:
        return data
    chunks = [data]
    while chunks[-1] and (left := length - sum(map(len, chunks))) > 0:
        chunks.append(os.pread(fd, left, start + length - left))
    return b"".join(chunks)


def write_body(fd: int, body: Body) -> None:
    """Append a request's body."""
    if isinstance(body, bytes):
        write_all(fd, body)
        return
    source = os.open(body.path, READ_FLAGS)
    try:
        append_range(source, body.start, body.length, fd)
    finally:
        os.close(source)


def write_all(fd: int, data: bytes) -> None:
    """Append all bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def append_range(source: int, start: int, length: int, target: int) -> None:
    """Append a range of one file to another, by the kernel where it can; EOFError if it is too short."""
    stop = start + length
    while start < stop:
        try:
            copied = os.copy_file_range(source, target, stop - start, start)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            data = os.pread(source, min(COPY_CHUNK_BYTES, stop - start), start)
            write_all(target, data)
            copied = len(data)
        if copied == 0:
            raise EOFError(f"{stop - start} bytes are missing")
        start += copied
