"""Uploads in parts that nobody will finish: stores keep, and bill, their parts for ever."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.doctor.findings import Finding, ok, skipped, warning
from objfs.errors import ObjectStoreError
from objfs_cache.directory import CacheDirectory, CacheError
from objfs_cache.journal import peek_notes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from objfs.store.protocol import MultipartApi, ObjectStore
    from objfs.store.values import PendingUpload

ABANDONED_AFTER_S = 86400.0  # an upload that is under way for so long has been forgotten
_NAME = "unfinished uploads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the journal notes of an upload that objfs has begun; see `upload.uploads`.

    Attributes:
        upload_id: "" where the store's answer was lost.
        others: uploads of the same key that were there before; None if that was not known.
    """

    key: str
    upload_id: str
    others: tuple[str, ...] | None

    def is_of(self, one: PendingUpload) -> bool:
        """Whether it is this upload."""
        if self.upload_id:
            return self.upload_id == one.upload_id
        return self.key == one.key and self.others is not None and one.upload_id not in self.others


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """Uploads under way in the store: those that objfs has begun from this cache, and all others."""

    ours: tuple[PendingUpload, ...]
    others: tuple[PendingUpload, ...]


def examine_uploads(store: ObjectStore, cache_path: Path, *, mounted: bool, clean: bool) -> Finding:
    """What was begun and not finished; with `clean`, ours are aborted if they are old.

    Args:
        store: the one.
        cache_path: this machine's cache of it, whose journal tells which are ours.
        mounted: the mount goes on with its own, or aborts them; they are left to it.
        clean: abort ours.
    """
    multipart = store.multipart
    if multipart is None:
        return skipped(_NAME, "this store has none")
    try:
        found = find_uploads(multipart, read_notes(cache_path))
    except ObjectStoreError as error:
        return skipped(_NAME, f"the store does not list them ({str(error).rstrip('.')})")
    old = [one for one in found.ours if _is_old(one)]
    if clean and not mounted:
        return _clean(multipart, old)
    others = f", {len(found.others)} of other programs" if found.others else ""
    if old and not mounted:
        return warning(
            _NAME,
            f"{len(old)} of objfs begun more than a day ago{others}",
            "the next mount or 'objfs flush' ends them, or 'objfs doctor --clean' with the same target",
        )
    if any(_is_old(one) for one in found.others):
        return warning(
            _NAME,
            f"{len(found.ours)} of objfs here{others}, some begun more than a day ago",
            "who began them may abort them; a lifecycle rule of the bucket does so by itself",
        )
    if found.ours or found.others:
        return ok(_NAME, f"{len(found.ours)} of objfs{others}")
    return ok(_NAME, "none")


def find_uploads(multipart: MultipartApi, notes: Sequence[Note]) -> Uploads:
    """All uploads under way: those the store lists, and by our notes, since some list by whole keys only."""
    pending = {one.upload_id: one for one in multipart.list_uploads("")}
    for key in sorted({note.key for note in notes}):
        pending |= {one.upload_id: one for one in multipart.list_uploads(key) if one.key == key}
    ours = {name for name, one in pending.items() if any(note.is_of(one) for note in notes)}
    return Uploads(
        ours=tuple(one for name, one in pending.items() if name in ours),
        others=tuple(one for name, one in pending.items() if name not in ours),
    )


def read_notes(cache_path: Path) -> list[Note]:
    """The notes of a cache's journal; none if there is no such cache."""
    found = []
    try:
        texts = peek_notes(CacheDirectory(path=cache_path).journal_path)
    except CacheError:
        return []
    for text in texts:
        value = json.loads(text)
        others = value["others"]
        found.append(
            Note(
                key=value["key"],
                upload_id=value["upload_id"],
                others=None if others is None else tuple(others),
            )
        )
    return found


def _clean(multipart: MultipartApi, old: Sequence[PendingUpload]) -> Finding:
    aborted = 0
    error: ObjectStoreError | None = None
    for one in old:
        try:
            multipart.abort(one.key, one.upload_id)
            aborted += 1
        except ObjectStoreError as caught:
            error = caught
    if error is not None:
        return warning(
            _NAME,
            f"{aborted} of {len(old)} old ones of objfs aborted ({str(error).rstrip('.')})",
            "the right s3:AbortMultipartUpload is needed",
        )
    return ok(_NAME, f"{aborted} old ones of objfs aborted" if aborted else "no old ones of objfs")


def _is_old(one: PendingUpload) -> bool:
    return time.time() - one.initiated_ns / 1e9 > ABANDONED_AFTER_S
