"""Our multipart uploads, noted before they are begun, so that none is left over whatever happens.

The note of an upload goes when its Complete was answered, or its abort. An upload that an outage, or the end
of this life, cuts short is kept with the parts that it has: whoever sends the same content again goes on with
it. Whatever else a life leaves is aborted by the next one. Where the answer to Create was lost, the upload is
looked for by its key: it is the one that was not there before.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.errors import (
    InvalidRequestError,
    NotSupportedError,
    ObjectStoreError,
    PermissionDeniedError,
    first_error,
)
from objfs.store.threads import in_thread
from objfs.store.values import ANY, Part
from objfs.upload.lookups import compare
from objfs.upload.operations import from_record
from objfs.upload.outage import AWAY, HOPELESS_ATTEMPTS, back_off_s
from objfs_cache.journal import JournalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from objfs.store.protocol import AsyncMultipartApi, AsyncObjectStore
    from objfs.store.values import Condition, PutOptions, Version
    from objfs_cache.journal import Journal

log = logging.getLogger(__name__)

ABORT_TIMEOUT_S = 5.0  # for whoever was cancelled; what is not aborted by then is aborted later
SAVE_EVERY_S = 2.0  # what a kill costs: parts sent since the note was last written,
SAVE_EVERY_PARTS = 4  # not more than these, and a few per cent of a very long upload
_REFUSALS = (PermissionDeniedError, NotSupportedError, InvalidRequestError)


@dataclass(slots=True, eq=False)
class Upload:
    """One upload.

    Attributes:
        number: of its note in the journal.
        key: the object's.
        upload_id: as the store named it; "" while that is not known.
        others: uploads of the same key that were there before; None if the store does not tell.
        token: of the operation that it is for, if somebody may go on with it.
        plan: what is sent, and how it is cut; who goes on does the same.
        parts: sent so far, by number.
    """

    number: int
    key: str
    upload_id: str = ""
    others: list[str] | None = field(default_factory=list)
    token: str = ""
    plan: str = ""
    parts: dict[int, Part] = field(default_factory=dict)
    saved_at: float = -math.inf
    unsaved: int = 0
    failures: int = 0

    def text(self) -> str:
        """Its note."""
        parts = [[part.number, part.etag, part.size_bytes] for part in self.parts.values()]
        told: dict[str, object] = {"key": self.key, "upload_id": self.upload_id, "others": self.others}
        return json.dumps({**told, "token": self.token, "plan": self.plan, "parts": parts})


def _from_note(number: int, text: str) -> Upload:
    told = json.loads(text)
    parts = {
        number: Part(number=number, etag=etag, size_bytes=size)
        for number, etag, size in told.pop("parts", [])
    }
    return Upload(number, **told, parts=parts)


class Uploads:
    """Begins, and ends, multipart uploads. `run` aborts what could not be aborted at once."""

    def __init__(self, store: AsyncObjectStore, journal: Journal, on_change: Callable[[], None]) -> None:
        self._store = store
        self._journal = journal
        self._on_change = on_change
        self._under_way: dict[str, Upload] = {}
        earlier = [_from_note(number, text) for number, text in journal.notes().items()]
        unfinished = list(map(from_record, journal.load())) if earlier else []
        wanted = {(one.token, one.key) for one in unfinished}  # of what has another name now, nobody goes on
        kept = [one for one in earlier if one.upload_id and (one.token, one.key) in wanted]
        self._kept = {one.key: one for one in kept}
        self._left = [one for one in earlier if self._kept.get(one.key) is not one]
        self._to_do = trio.Event()

    @property
    def left_over(self) -> int:
        """How many uploads are still to be aborted."""
        return len(self._left)

    async def begin(
        self, multipart: AsyncMultipartApi, key: str, options: PutOptions, *, token: str = "", plan: str = ""
    ) -> Upload:
        """Begin an upload of a key, or go on with a kept one. `complete` follows.

        Args:
            multipart: of the store.
            key: of the object.
            options: of the object.
            token: of the operation, if the upload may be gone on with.
            plan: what is sent under these options; an upload of something else is not gone on with.

        Raises:
            ObjectStoreError: it was not begun, or nobody knows.
            JournalError: it was not begun.
        """
        kept = self._kept.get(key)
        if kept is not None and (kept.token, kept.plan) == (token, plan):
            log.info("an upload of %r goes on; %d parts are there", key, len(kept.parts))
            self._under_way[kept.upload_id] = self._kept.pop(key)
            return kept
        self.give_up(key)
        for upload in [one for one in self._left if one.key == key and not one.upload_id]:
            await self._end(upload)
        others = await self._ids_of(multipart, key)
        upload = Upload(0, key, others=others, token=token, plan=plan)
        await self._note(upload)
        try:
            upload.upload_id = await multipart.create(key, options=options)
            self._journal.change_note(upload.number, upload.text())
        except BaseException as error:
            if isinstance(error, ObjectStoreError) and not error.retryable:
                self._forget(upload)  # refused: nothing was begun
            else:
                self._leave(upload)
                self._to_do.set()
            raise
        self._under_way[upload.upload_id] = upload
        return upload

    async def _note(self, upload: Upload) -> None:
        """Note an upload for good: after a power loss, too, somebody has to know of it."""
        upload.number = self._journal.add_note(upload.text())
        try:
            await in_thread(self._journal.sync, self._journal.position)
        except BaseException:
            self._forget(upload)
            raise

    def sent(self, upload: Upload, part: Part) -> None:
        """The store has a part."""
        upload.parts[part.number] = part
        upload.unsaved += 1
        many = upload.unsaved >= SAVE_EVERY_PARTS + len(upload.parts) // 64
        if upload.token and (many or trio.current_time() >= upload.saved_at + SAVE_EVERY_S):
            self._save(upload)

    async def complete(
        self,
        multipart: AsyncMultipartApi,
        upload: Upload,
        condition: Condition,
        send: Callable[[Upload], Awaitable[list[Part]]],
    ) -> Version:
        """Have the parts sent that an upload lacks, and make the object of them, on a condition.

        Args:
            multipart: of the store.
            upload: was begun.
            condition: on the key; compared just before where the store would ignore it.
            send: sends parts, and returns all.
        """
        try:
            parts = await send(upload)
            if not self._store.capabilities.complete_conditions:
                await compare(self._store, upload.key, condition)
                condition = ANY
            made = await multipart.complete(upload.key, upload.upload_id, parts, condition=condition)
        except BaseException as error:
            await self._cut_short(upload, error)
            raise
        self._forget(self._under_way.pop(upload.upload_id))
        return made

    async def _cut_short(self, upload: Upload, error: BaseException) -> None:
        """It was not completed: keep it if what is wrong may pass, else abort it."""
        del self._under_way[upload.upload_id]
        cause = first_error(error)
        if upload.token and (isinstance(cause, AWAY) or not isinstance(cause, Exception)):
            self._save(upload)
            self._kept[upload.key] = upload
        else:
            await self._abort(upload)

    def give_up(self, key: str) -> None:
        """Nobody will go on with an upload of that key."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._leave(kept)
            self._to_do.set()

    async def _abort(self, upload: Upload) -> None:
        """Give an upload up, whatever else is going on: now, or as soon as it can be done."""
        self._leave(upload)
        with trio.move_on_after(ABORT_TIMEOUT_S, shield=True):
            try:
                await self._end(upload)
            except ObjectStoreError as error:
                log.info("an upload of %r is aborted later: %s", upload.key, error)
        if upload in self._left:
            self._to_do.set()

    def _save(self, upload: Upload) -> None:
        try:
            self._journal.change_note(upload.number, upload.text())
        except JournalError as error:
            log.info("what was sent of %r would be sent again: %s", upload.key, error)
        upload.saved_at, upload.unsaved = trio.current_time(), 0

    async def run(self) -> None:
        """Abort what is left over, until cancelled."""
        failures = 0
        while True:
            self._to_do = trio.Event()
            for upload in list(self._left):
                try:
                    await self._end(upload)
                    failures = 0
                except AWAY as error:
                    failures += 1
                    log.info("an upload of %r is aborted later: %s", upload.key, error)
                    break
                except ObjectStoreError as error:
                    upload.failures += 1
                    if upload.failures >= HOPELESS_ATTEMPTS:
                        log.warning("an upload of %r is left to the next mount: %s", upload.key, error)
                        self._left.remove(upload)
                        self._on_change()
            with trio.move_on_after(back_off_s(failures)) if self._left else trio.CancelScope():
                await self._to_do.wait()

    async def _end(self, upload: Upload) -> None:
        multipart = self._store.multipart
        try:
            if multipart is not None:
                for upload_id in await self._ids_of_upload(multipart, upload):
                    await multipart.abort(upload.key, upload_id)
        except _REFUSALS as error:
            log.warning("an unfinished upload of %r stays in the store: %s", upload.key, error)
        if upload in self._left:
            self._left.remove(upload)
            self._forget(upload)

    async def _ids_of_upload(self, multipart: AsyncMultipartApi, upload: Upload) -> list[str]:
        if upload.upload_id:
            return [upload.upload_id]
        present = await self._ids_of(multipart, upload.key)
        if present is None or upload.others is None:
            return []
        known = {*upload.others, *self._under_way}
        return [upload_id for upload_id in present if upload_id not in known]

    async def _ids_of(self, multipart: AsyncMultipartApi, key: str) -> list[str] | None:
        """Uploads under way of exactly this key; None if we may not know."""
        try:
            return [one.upload_id for one in await multipart.list_uploads(key) if one.key == key]
        except _REFUSALS as error:
            log.debug("unfinished uploads of %r are not known: %s", key, error)
            return None

    def _leave(self, upload: Upload) -> None:
        self._left.append(upload)
        self._on_change()

    def _forget(self, upload: Upload) -> None:
        try:
            self._journal.remove_note(upload.number)
        except JournalError as error:
            log.error("an upload that has ended will be aborted again: %s", error)
        self._on_change()
