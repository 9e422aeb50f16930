"""Which multipart uploads this machine has begun: a store's own list does not tell whose they are.

The file `uploads.jsonl` has a line for each that was begun, and one for each that came to its end. What is
begun and has no end was cut off: by a crash, or by an abort whose request was lost.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from objfs.errors import NotFoundError
from objfs.store.forward import ForwardingMultipart, ForwardingStore
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ANY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from objfs.store.protocol import MultipartApi, ObjectStore
    from objfs.store.values import Condition, Part, PutOptions, Version

NOTES_NAME = "uploads.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadNote:
    """An upload that was begun; `begun_s` is Unix time."""

    key: str
    upload_id: str
    begun_s: float


class UploadNotes:
    """The file of one cache folder, written by its one owner. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NOTES_NAME
        self._lock = threading.Lock()
        left = read_notes(folder)
        if self._path.exists():
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text("".join(_line(asdict(note)) for note in left))
            temporary.replace(self._path)

    def begun(self, key: str, upload_id: str) -> None:
        """Note an upload."""
        self._append(asdict(UploadNote(key=key, upload_id=upload_id, begun_s=time.time())))

    def ended(self, upload_id: str) -> None:
        """It is complete, or aborted."""
        self._append({"ended": upload_id})

    def _append(self, value: dict[str, object]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with self._lock:
            try:
                descriptor = os.open(self._path, flags, 0o600)
            except OSError:
                return  # a disk without room: the worst is an upload that nobody knows to be ours
            try:
                os.write(descriptor, _line(value).encode())
            except OSError:
                return
            finally:
                os.close(descriptor)


def read_notes(folder: Path) -> list[UploadNote]:
    """The uploads that were begun and did not end, the oldest first; also while their owner writes."""
    found: dict[str, UploadNote] = {}
    try:
        lines = (folder / NOTES_NAME).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    for line in lines:
        try:
            value = json.loads(line)
            if "ended" in value:
                found.pop(value["ended"], None)
            else:
                note = UploadNote(
                    key=str(value["key"]), upload_id=str(value["upload_id"]), begun_s=float(value["begun_s"])
                )
                found[note.upload_id] = note
        except (ValueError, KeyError, TypeError):  # half a line, of a crash
            continue
    return list(found.values())


class NotingStore(ForwardingStore):
    """Notes uploads in parts from their beginning to their end."""

    def __init__(self, store: ObjectStore, notes: UploadNotes) -> None:
        super().__init__(store)
        if store.multipart is not None:
            self._multipart = _NotingMultipart(store.multipart, self, notes)


class _NotingMultipart(ForwardingMultipart):
    def __init__(self, api: MultipartApi, owner: NotingStore, notes: UploadNotes) -> None:
        super().__init__(api, owner)
        self._notes = notes

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        upload_id = super().create(key, options=options)
        self._notes.begun(key, upload_id)
        return upload_id

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        try:
            version = super().complete(key, upload_id, parts, condition=condition)
        except NotFoundError:
            self._notes.ended(upload_id)
            raise
        self._notes.ended(upload_id)
        return version

    def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        super().abort(key, upload_id)
        self._notes.ended(upload_id)


def _line(value: dict[str, object]) -> str:
    return json.dumps(value) + "\n"
