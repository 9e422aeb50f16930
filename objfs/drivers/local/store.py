"""The store proper: reads without a lock, writes as temporary file and rename under the key's lock."""

from __future__ import annotations

import os
import stat as stat_bits
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.drivers.local.files import (
    READ_FLAGS,
    append_range,
    create_file,
    locked,
    read_exactly,
    store_errors,
    sync_folder,
    write_body,
)
from objfs.drivers.local.layout import Layout, etag_of
from objfs.drivers.local.multipart import LocalMultipart
from objfs.drivers.local.sidecars import Sidecars
from objfs.drivers.local.walk import sorted_keys
from objfs.errors import (
    BucketNotFoundError,
    CorruptError,
    InvalidRequestError,
    NotFoundError,
    ObjectStoreError,
    PreconditionFailedError,
)
from objfs.store.checks import check_encryption, check_key, check_metadata
from objfs.store.listing import MAX_PAGE_KEYS, Cursor, build_page
from objfs.store.protocol import DEFAULT_PUT, copied_options
from objfs.store.values import ANY, TIB, Blob, Capabilities, DeleteFailure, ObjectInfo, Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from objfs.store.urls import StoreOptions, StoreUrl
    from objfs.store.values import Body, ByteRange, Condition, ListPage, PutOptions

CAPABILITIES = Capabilities(
    put_conditions=True,
    complete_conditions=True,
    copy_conditions=True,
    listing_metadata=True,
    encryption=False,
    max_single_put_bytes=16 * TIB,  # ext4: largest file
)
STALE_TMP_S = 86_400  # a request that takes longer than a day is dead
RACE_ATTEMPTS = 100  # a parent folder can vanish only so often between two system calls


def open_driver(url: StoreUrl, options: StoreOptions) -> LocalStore:
    """The folder of a `file` URL; `?fsync=0` trades durability of puts for speed."""
    url.allow_options("fsync")
    return LocalStore(url.bucket, fsync=url.flag("fsync", default=True))


@dataclass(frozen=True, slots=True)
class _Found:
    """A file that is an object."""

    path: str
    stat: os.stat_result

    @property
    def etag(self) -> str:
        return etag_of(self.stat)


@dataclass(frozen=True, slots=True)
class Draft:
    """A whole new version, durable but not visible."""

    path: str
    version: Version


class LocalStore:
    """Objects as files of a folder; any number of threads and processes may share it."""

    def __init__(self, root: str, *, fsync: bool = True) -> None:
        self.layout = Layout(root)
        self._fsync = fsync
        self._sidecars = Sidecars(self.layout, fsync=fsync)
        self._multipart = LocalMultipart(self)
        self._sweep()

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return CAPABILITIES

    @property
    def multipart(self) -> LocalMultipart:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def compose(self) -> LocalMultipart:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def lifecycle(self) -> None:
        """See `ObjectStore`: nothing goes by itself from a folder."""
        return

    @property
    def integrity(self) -> None:
        """See `ObjectStore`: no checksums are kept."""
        return

    @property
    def tags(self) -> LocalTags:
        """See `ObjectStore`."""
        return LocalTags(self)

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        with store_errors(self.layout.root, key):
            for _ in range(RACE_ATTEMPTS):
                found = self._find(key)
                if found is None:
                    raise self._missing(key)
                options = self._options(found, key)
                if options is not None:
                    return _info(key, found.stat, options)
        raise CorruptError("The object changes faster than it can be read.", key=key)

    def get(self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None) -> Blob:
        """See `ObjectStore`."""
        with self.opened(key, if_match=if_match) as (fd, info):
            size_bytes = info.version.size_bytes
            if byte_range is not None and byte_range.stop > size_bytes:
                raise InvalidRequestError("The range is not within the object.", key=key)
            start, length = (byte_range.start, byte_range.length) if byte_range else (0, size_bytes)
            data = read_exactly(fd, start, length)
            if len(data) != length or etag_of(os.fstat(fd)) != info.version.etag:
                raise CorruptError("Somebody changed the file while it was read.", key=key)
            return Blob(info=info, data=data)

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        with self.new_file(key, options) as (path, fd):
            write_body(fd, body)
            return self.publish(key, self.draft(path, fd), options, condition)

    def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `ObjectStore`."""
        failures: list[DeleteFailure] = []
        changed: set[str] = set()
        for key in keys:
            try:
                with store_errors(self.layout.root, key):
                    changed |= self._delete(key)
            except BucketNotFoundError:
                raise
            except ObjectStoreError as error:
                failures.append(DeleteFailure(key=key, error=error))
        if self._fsync:
            with store_errors(self.layout.root):
                for folder in changed:
                    sync_folder(folder)
        return failures

    def list(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page: str | None = None,
        max_keys: int = MAX_PAGE_KEYS,
        with_metadata: bool = False,
    ) -> ListPage:
        """See `ObjectStore`."""
        cursor = Cursor.decode(page, start_after)

        def describe(key: str) -> ObjectInfo | None:
            found = self._find(key)
            if found is None:
                return None
            options = self._options(found, key) if with_metadata else None
            return _info(key, found.stat, options)

        with store_errors(self.layout.root):
            if not os.path.isdir(self.layout.root):
                raise BucketNotFoundError(f"There is no folder {self.layout.root}.")
            keys = sorted_keys(self.layout, prefix, cursor.after, fold=delimiter == "/")
            return build_page(
                keys, describe, prefix=prefix, delimiter=delimiter, cursor=cursor, max_keys=max_keys
            )

    def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version:
        """See `ObjectStore`."""
        with self.opened(source_key, if_match=source_if_match) as (source, info):
            kept = self._sidecars.read(info.version.etag, key=source_key) or DEFAULT_PUT
            new = copied_options(options, kept)
            with self.new_file(key, new) as (path, fd):
                append_range(source, 0, info.version.size_bytes, fd)
                return self.publish(key, self.draft(path, fd), new, condition)

    def close(self) -> None:
        """See `ObjectStore`."""

    # What the multipart face builds on.

    @contextmanager
    def opened(self, key: str, *, if_match: str | None) -> Iterator[tuple[int, ObjectInfo]]:
        """An object's file, open for reading, and its facts."""
        with store_errors(self.layout.root, key):
            fd, info = self._open(key)
            try:
                if if_match not in (None, info.version.etag):
                    raise PreconditionFailedError("The object is another version.", key=key)
                yield fd, info
            finally:
                os.close(fd)

    def options_of(self, key: str) -> PutOptions:
        """What was said when the object was stored."""
        with self.opened(key, if_match=None) as (_, info):
            return self._sidecars.read(info.version.etag, key=key) or DEFAULT_PUT

    @contextmanager
    def new_file(self, key: str, options: PutOptions) -> Iterator[tuple[str, int]]:
        """A temporary file for a version to come, removed at the end unless it was published."""
        check_key(key, CAPABILITIES.max_key_bytes)
        check_metadata(options.metadata, CAPABILITIES.max_metadata_bytes, key=key)
        check_encryption(options.encryption, key=key)
        path = f"{self.layout.tmp}/{os.urandom(12).hex()}"
        with store_errors(self.layout.root, key):
            fd = create_file(path)
            try:
                yield path, fd
            finally:
                os.close(fd)
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def draft(self, path: str, fd: int) -> Draft:
        """Finish a temporary file: give it a time of its own, make it durable."""
        now_ns = time.time_ns()
        os.utime(fd, ns=(now_ns, now_ns))
        if self._fsync:
            os.fsync(fd)  # not fdatasync: the time is part of the ETag
        stat = os.fstat(fd)
        return Draft(path, Version(etag=etag_of(stat), size_bytes=stat.st_size))

    def publish(
        self,
        key: str,
        draft: Draft,
        options: PutOptions,
        condition: Condition,
        *,
        ticket: str | None = None,
    ) -> Version:
        """Make a draft the object, if the condition holds.

        Args:
            key: of the object.
            draft: the new version.
            options: its metadata and headers.
            condition: on the object as it is now.
            ticket: file that is taken away with success; NotFoundError if it is gone already.
        """
        published = False
        self._sidecars.write(draft.version.etag, options)
        try:
            with locked(self.layout.lock(key)):
                old = self._find(key)
                _check(condition, old, key)
                if ticket is not None:
                    os.unlink(ticket)
                self._rename(draft.path, key, old)
                published = True
                if old is not None:
                    self._sidecars.drop(old.etag)
        finally:
            if not published:
                self._sidecars.drop(draft.version.etag)
        return draft.version

    def _rename(self, source: str, key: str, old: _Found | None) -> None:
        plain = self.layout.plain_path(key)
        targets = [old.path] if old else [plain, self.layout.odd_path(key)]
        for target in targets:
            if target is not None and self._rename_to(source, target):
                if self._fsync:
                    sync_folder(os.path.dirname(target))
                return
        raise InvalidRequestError("The folder store has no place for this key.", key=key)

    def _rename_to(self, source: str, target: str) -> bool:
        """Rename, making parent folders; False if something that is no object is in the way."""
        try:
            if not stat_bits.S_ISREG(os.lstat(target).st_mode):
                return False
        except (FileNotFoundError, NotADirectoryError):
            pass
        for _ in range(RACE_ATTEMPTS):
            try:
                os.rename(source, target)
            except FileNotFoundError:
                if not self._make_parents(target):
                    return False
            except (IsADirectoryError, NotADirectoryError):
                return False
            else:
                return True
        return False

    def _make_parents(self, target: str) -> bool:
        """Make the folders above a file, but never the store's; False if a file is in the way."""
        folder = self.layout.root
        for name in target[len(folder) + 1 :].split("/")[:-1]:
            parent, folder = folder, f"{folder}/{name}"
            try:
                os.mkdir(folder)
            except FileExistsError:
                continue
            except NotADirectoryError:
                return False
            except FileNotFoundError:
                if not os.path.isdir(self.layout.root):
                    raise
                return True  # another writer has just removed the empty parent: try again
            if self._fsync:
                sync_folder(parent)
        return True

    def _delete(self, key: str) -> set[str]:
        """Remove a key wherever it is; returns the folders to make durable."""
        changed: set[str] = set()
        if not key or self._find(key) is None:  # also the check that saves making a lock
            if not os.path.isdir(self.layout.root):
                raise BucketNotFoundError(f"There is no folder {self.layout.root}.")
            return changed
        with locked(self.layout.lock(key)):
            while (found := self._find(key)) is not None:
                os.unlink(found.path)
                self._sidecars.drop(found.etag)
                changed.add(self._prune(os.path.dirname(found.path)))
        return changed

    def _prune(self, folder: str) -> str:
        """Remove folders that have become empty; returns the first that stays."""
        while folder not in (self.layout.root, self.layout.odd):
            try:
                os.rmdir(folder)
            except OSError:
                break
            folder = os.path.dirname(folder)
        return folder

    def _find(self, key: str) -> _Found | None:
        for path in self._paths(key):
            with suppress(FileNotFoundError, NotADirectoryError):
                stat = os.lstat(path)
                if stat_bits.S_ISREG(stat.st_mode):
                    return _Found(path, stat)
        return None

    def _paths(self, key: str) -> Iterator[str]:
        check_key(key, CAPABILITIES.max_key_bytes)
        plain = self.layout.plain_path(key)
        if plain is not None:
            yield plain
        yield self.layout.odd_path(key)

    def _open(self, key: str) -> tuple[int, ObjectInfo]:
        for _ in range(RACE_ATTEMPTS):
            found = self._find(key)
            if found is None:
                raise self._missing(key)
            try:
                fd = os.open(found.path, READ_FLAGS)
            except FileNotFoundError:
                continue
            stat = os.fstat(fd)
            options = self._options(_Found(found.path, stat), key)
            if options is not None and stat_bits.S_ISREG(stat.st_mode):
                return fd, _info(key, stat, options)
            os.close(fd)
        raise CorruptError("The object changes faster than it can be read.", key=key)

    def _options(self, found: _Found, key: str) -> PutOptions | None:
        """Options of the version found, or None if it has been replaced meanwhile."""
        options = self._sidecars.read(found.etag, key=key)
        if options is not None:
            return options
        try:
            current = etag_of(os.lstat(found.path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return DEFAULT_PUT if current == found.etag else None

    def _missing(self, key: str) -> ObjectStoreError:
        if not os.path.isdir(self.layout.root):
            return BucketNotFoundError(f"There is no folder {self.layout.root}.")
        return NotFoundError("There is no such object.", key=key)

    def _sweep(self) -> None:
        """Remove what requests of dead processes left."""
        with suppress(OSError), os.scandir(self.layout.tmp) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_ctime < time.time() - STALE_TMP_S:
                    os.unlink(entry.path)


class LocalTags:
    """The tags of a `LocalStore`'s objects, which are in their sidecars."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def read(self, key: str) -> dict[str, str]:
        """See `TagsApi`."""
        return dict(self._store.options_of(key).tags or {})


def _check(condition: Condition, old: _Found | None, key: str) -> None:
    if condition.if_absent and old is not None:
        raise PreconditionFailedError("The object exists.", key=key)
    if condition.if_match is not None and (old is None or old.etag != condition.if_match):
        raise PreconditionFailedError("The object is another version, or gone.", key=key)


def _info(key: str, stat: os.stat_result, options: PutOptions | None) -> ObjectInfo:
    version = Version(etag=etag_of(stat), size_bytes=stat.st_size)
    if options is None:
        return ObjectInfo(key=key, version=version, modified_ns=stat.st_mtime_ns)
    return ObjectInfo(
        key=key,
        version=version,
        modified_ns=stat.st_mtime_ns,
        metadata=options.metadata,
        content_type=options.content_type,
        content_encoding=options.content_encoding,
        storage_class=options.storage_class,
        cache_control=options.cache_control,
        headers=options.headers,
        tag_count=len(options.tags or {}),
    )
