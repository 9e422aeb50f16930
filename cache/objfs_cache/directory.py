"""The cache directory: owner only, one process at a time, one format version."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT_VERSION = 1  # FORMAT.md describes it


class CacheError(Exception):
    """The cache directory cannot be used; the message is one sentence for a person."""


class CacheBusyError(CacheError):
    """Another process uses the cache directory."""


class CacheFormatError(CacheError):
    """The cache directory was written by a newer version."""


class CacheUnsafeError(CacheError):
    """The cache directory belongs to somebody else or is a symlink."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDirectory:
    """Paths inside a locked cache directory."""

    path: Path

    @property
    def blocks_path(self) -> Path:
        """Folder of the block cache (clean data only)."""
        return self.path / "blocks"

    @property
    def staging_path(self) -> Path:
        """Folder of the staged files (dirty data)."""
        return self.path / "staging"

    @property
    def journal_path(self) -> Path:
        """SQLite file of the journal; in a folder of its own, which is fsynced with it."""
        return self.path / "journal" / "journal.db"

    @property
    def metadata_path(self) -> Path:
        """Folder of the metadata cache (clean data only)."""
        return self.path / "metadata"


@contextmanager
def open_cache_directory(path: Path) -> Iterator[CacheDirectory]:
    """Create, check and lock the directory for the life of the block.

    Raises:
        CacheBusyError, CacheFormatError, CacheUnsafeError: see there.
        CacheError: it cannot be made or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise CacheUnsafeError(f"The cache directory {path} is no directory; remove it.") from error
    except OSError as error:
        raise CacheError(f"The cache directory {path} cannot be made: {error.strerror}.") from error
    with _locked(path, os.O_RDWR):
        _check_format(path / "format")
        directory = CacheDirectory(path=path)
        for folder in (directory.blocks_path, directory.staging_path, directory.journal_path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        _make_names_durable(path)
        yield directory


@contextmanager
def peek_cache_directory(path: Path) -> Iterator[CacheDirectory]:
    """Lock the directory for the life of the block, to read it: also on a disk that takes no writes any more.

    Raises:
        CacheBusyError, CacheFormatError, CacheUnsafeError: see there.
        CacheError: it cannot be read.
    """
    with _locked(path, os.O_RDONLY):
        _read_format(path / "format")
        yield CacheDirectory(path=path)


@contextmanager
def _locked(path: Path, access: int) -> Iterator[None]:
    try:
        _check_owner(path)
        lock = os.open(path / "lock", access | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CacheError(f"The cache directory {path} cannot be used: {error.strerror}.") from error
    try:
        _lock(lock, path)
        yield
    finally:
        os.close(lock)


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def connect_to_read(database: Path) -> sqlite3.Connection:
    """A connection that changes nothing.

    Readers of a log share a file, which cannot be made on a disk that is full or read-only. Without a log,
    which goes when a mount ends well, there is nothing to share.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    uri, log = f"{database.absolute().as_uri()}?mode=ro", Path(f"{database}-wal")
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if log.exists() and log.stat().st_size:
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, check_same_thread=False)
    return connection


def replace_durably(path: Path, data: bytes) -> None:
    """Give a small file new content: after a power loss it has the old or the new, whole."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_directory(path.parent)


def _make_names_durable(path: Path) -> None:
    """The directory's content, and its own name: perhaps it, and those above, were made a moment ago."""
    fsync_directory(path)
    device = path.stat().st_dev
    for above in path.absolute().parents:
        if above.stat().st_dev != device:
            return
        try:
            fsync_directory(above)
        except PermissionError:  # not readable: not ours, and older than this start
            return


def _check_owner(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        raise CacheUnsafeError(f"The cache directory {path} is a symlink; name the directory itself.")
    if found.st_uid != os.geteuid():
        raise CacheUnsafeError(f"The cache directory {path} belongs to user {found.st_uid}; choose another.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise CacheBusyError(
            f"The cache directory {path} is in use by another objfs; "
            "unmount that one or choose another with --cache-dir."
        ) from error


def _check_format(path: Path) -> None:
    if not _read_format(path):
        # None yet, or the power was lost when it was made: nothing was acknowledged before.
        replace_durably(path, f"{FORMAT_VERSION}\n".encode())


def _read_format(path: Path) -> str:
    """The version, or "".

    Raises:
        CacheFormatError: it is a newer one.
    """
    text = path.read_text().strip("\0 \n") if path.exists() else ""
    if text and (not text.isdigit() or int(text) > FORMAT_VERSION):
        raise CacheFormatError(
            f"The cache directory {path.parent} has format {text[:20]!r}, this objfs knows {FORMAT_VERSION}; "
            "use the newer objfs that wrote it or choose another with --cache-dir."
        )
    return text
