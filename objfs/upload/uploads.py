"""Our multipart uploads, noted before they are begun, so that none is left over whatever happens.

The note of an upload goes when its Complete was answered, or its abort. Whoever dies in between leaves the
note to the next life, which aborts the upload. Where the answer to Create was lost, the upload is looked
for by its key: it is the one that was not there before.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.errors import (
    InvalidRequestError,
    NotFoundError,
    NotSupportedError,
    ObjectStoreError,
    PermissionDeniedError,
)
from objfs.upload.outage import AWAY, HOPELESS_ATTEMPTS, back_off_s
from objfs_cache.journal import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from objfs.store.protocol import AsyncMultipartApi, AsyncObjectStore
    from objfs.store.values import PutOptions
    from objfs_cache.journal import Journal

log = logging.getLogger(__name__)

ABORT_TIMEOUT_S = 5.0  # for whoever was cancelled; what is not aborted by then is aborted later
_REFUSALS = (PermissionDeniedError, NotSupportedError, InvalidRequestError)


@dataclass(slots=True, eq=False)
class _Note:
    """One upload.

    Attributes:
        number: of the note in the journal.
        key: the object's.
        upload_id: as the store named it; "" while that is not known.
        others: uploads of the same key that were there before; None if the store does not tell.
    """

    number: int
    key: str
    upload_id: str = ""
    others: list[str] | None = field(default_factory=list)
    failures: int = 0

    def text(self) -> str:
        return json.dumps({"key": self.key, "upload_id": self.upload_id, "others": self.others})


class Uploads:
    """Begins, and ends, multipart uploads. `run` aborts what could not be aborted at once."""

    def __init__(self, store: AsyncObjectStore, journal: Journal, on_change: Callable[[], None]) -> None:
        self._store = store
        self._journal = journal
        self._on_change = on_change
        self._under_way: dict[str, _Note] = {}
        self._left = [_Note(number, **json.loads(text)) for number, text in journal.notes().items()]
        self._to_do = trio.Event()

    @property
    def left_over(self) -> int:
        """How many uploads are still to be aborted."""
        return len(self._left)

    async def begin(self, multipart: AsyncMultipartApi, key: str, options: PutOptions) -> str:
        """Begin an upload; `completed` or `abort` follows. Of one key one at a time.

        Raises:
            ObjectStoreError: it was not begun, or nobody knows.
        """
        for note in [note for note in self._left if note.key == key and not note.upload_id]:
            await self._end(note)
        others = await self._ids_of(multipart, key)
        note = _Note(0, key, others=others)
        note.number = self._journal.add_note(note.text())
        try:
            note.upload_id = await multipart.create(key, options=options)
            self._journal.change_note(note.number, note.text())
        except BaseException as error:
            if isinstance(error, ObjectStoreError) and not error.retryable:
                self._forget(note)  # refused: nothing was begun
            else:
                self._leave(note)
                self._to_do.set()
            raise
        self._under_way[note.upload_id] = note
        return note.upload_id

    def completed(self, upload_id: str) -> None:
        """The store has made the object of its parts."""
        self._forget(self._under_way.pop(upload_id))

    async def abort(self, upload_id: str) -> None:
        """Give an upload up, whatever else is going on: now, or as soon as it can be done."""
        note = self._under_way.pop(upload_id)
        self._leave(note)
        with trio.move_on_after(ABORT_TIMEOUT_S, shield=True):
            try:
                await self._end(note)
            except ObjectStoreError as error:
                log.info("an upload of %r is aborted later: %s", note.key, error)
        if note in self._left:
            self._to_do.set()

    async def run(self) -> None:
        """Abort what is left over, until cancelled."""
        failures = 0
        while True:
            self._to_do = trio.Event()
            for note in list(self._left):
                try:
                    await self._end(note)
                    failures = 0
                except AWAY as error:
                    failures += 1
                    log.info("an upload of %r is aborted later: %s", note.key, error)
                    break
                except ObjectStoreError as error:
                    note.failures += 1
                    if note.failures >= HOPELESS_ATTEMPTS:
                        log.warning("an upload of %r is left to the next mount: %s", note.key, error)
                        self._left.remove(note)
                        self._on_change()
            with trio.move_on_after(back_off_s(failures)) if self._left else trio.CancelScope():
                await self._to_do.wait()

    async def _end(self, note: _Note) -> None:
        multipart = self._store.multipart
        try:
            if multipart is not None:
                for upload_id in await self._ids_of_note(multipart, note):
                    await multipart.abort(note.key, upload_id)
        except NotFoundError:
            pass  # as it should be
        except _REFUSALS as error:
            log.warning("an unfinished upload of %r stays in the store: %s", note.key, error)
        if note in self._left:
            self._left.remove(note)
            self._forget(note)

    async def _ids_of_note(self, multipart: AsyncMultipartApi, note: _Note) -> list[str]:
        if note.upload_id:
            return [note.upload_id]
        present = await self._ids_of(multipart, note.key)
        if present is None or note.others is None:
            return []
        known = {*note.others, *self._under_way}
        return [upload_id for upload_id in present if upload_id not in known]

    async def _ids_of(self, multipart: AsyncMultipartApi, key: str) -> list[str] | None:
        """Uploads under way of exactly this key; None if we may not know."""
        try:
            return [one.upload_id for one in await multipart.list_uploads(key) if one.key == key]
        except _REFUSALS as error:
            log.debug("unfinished uploads of %r are not known: %s", key, error)
            return None

    def _leave(self, note: _Note) -> None:
        self._left.append(note)
        self._on_change()

    def _forget(self, note: _Note) -> None:
        try:
            self._journal.remove_note(note.number)
        except JournalError as error:
            log.error("an upload that has ended will be aborted again: %s", error)
        self._on_change()
