"""Large uploads that an outage or the end of a process cuts short: what the store has is not sent again."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import trio
import trio.testing

from objfs.config.rules import Compression, Treatment
from objfs.drivers.memory import MemoryMultipart, MemoryStore
from objfs.errors import InvalidRequestError, ObjectStoreError, UnavailableError, first_error
from objfs.store.threads import ThreadedStore
from objfs.store.values import MIB, MultipartLimits, Part
from objfs.upload.operations import NOTHING, Kind, Operation
from objfs.upload.rules import Decision
from objfs.upload.transfer import Transfer
from objfs.upload.uploads import SAVE_EVERY_PARTS, Uploads
from objfs_cache.journal import Journal, JournalError, open_journal
from tests.unit.upload.test_packing import mixed, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs_cache.staging import Staging

DECISIONS = {"plain": Decision(), "compressed": Decision(treatment=Treatment(compress=Compression(level=1)))}
CONTENTS = {"plain": mixed(60 * MIB), "compressed": text(150 * MIB)}
GOES_ON = 2  # parts that are sent before something happens


class Flaky(MemoryMultipart):
    """Counts parts, and fails from some part on."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, MultipartLimits())
        self.sent: list[int] = []
        self.begun = 0
        self.left = 10**9
        self.error: ObjectStoreError = UnavailableError("The store is away.")

    def create(self, key: str, **options: object) -> str:
        self.begun += 1
        return super().create(key, **options)  # type: ignore[arg-type]

    def upload_part(self, key: str, upload_id: str, number: int, body: object) -> Part:
        if self.left <= 0:
            raise self.error
        self.left -= 1
        self.sent.append(number)
        return super().upload_part(key, upload_id, number, body)  # type: ignore[arg-type]


@dataclass
class Desk:
    """A store, a journal, a file that is to be uploaded."""

    store: MemoryStore
    multipart: Flaky
    journal: Journal
    staging: Staging
    uploads: Uploads | None = None

    def operation(self, how: str) -> Operation:
        """The upload, in the journal."""
        staged = self.staging.create()
        staged.write(0, CONTENTS[how])
        staged.sealed = True
        operation = Operation(
            kind=Kind.PUT, path="log.txt", staged=staged, decision=DECISIONS[how], base=NOTHING
        )
        operation.note_content()
        operation.seq = self.journal.next_seq()
        self.journal.write(operation.record())
        return operation

    def send(self, operation: Operation, *, anew: bool = False) -> None:
        """One attempt, by this process or another one."""
        if anew or self.uploads is None:
            self.uploads = Uploads(ThreadedStore(self.store), self.journal, lambda: None)
        uploads = self.uploads

        async def main() -> None:
            store = ThreadedStore(self.store)
            transfer = Transfer(store, parallel_parts=1, uploads=uploads, on_bytes=lambda _sent: None)
            await transfer.put(operation)

        try:
            trio.run(main)
        except ExceptionGroup as group:
            raise first_error(group) from None

    def content(self) -> bytes:
        """What the object holds."""
        stored = self.store.get("log.txt").data
        if stored[:4] != b"\x28\xb5\x2f\xfd":
            return stored
        return subprocess.run(["zstd", "-dc"], input=stored, stdout=subprocess.PIPE, check=True).stdout


@pytest.fixture
def desk(tmp_path: Path, staging: Staging) -> Iterator[Desk]:
    with open_journal(tmp_path / "journal") as journal:
        store = MemoryStore(limits=MultipartLimits())
        store._multipart = multipart = Flaky(store)
        yield Desk(store, multipart, journal, staging)


@pytest.mark.parametrize("anew", [False, True], ids=["after an outage", "by the next process"])
@pytest.mark.parametrize("how", DECISIONS)
def test_it_goes_on(desk: Desk, how: str, anew: bool) -> None:
    operation = desk.operation(how)
    desk.multipart.left = GOES_ON
    with pytest.raises(UnavailableError):
        desk.send(operation)
    assert len(desk.multipart.list_uploads("")) == 1
    desk.multipart.left = 10**9
    desk.send(operation, anew=anew)
    count = max(desk.multipart.sent)
    assert count > GOES_ON + 1
    assert sorted(desk.multipart.sent) == list(range(1, count + 1))
    assert desk.content() == CONTENTS[how]
    assert desk.journal.notes() == {}


def test_a_kill_costs_few_parts(desk: Desk) -> None:
    operation = desk.operation("plain")
    store = ThreadedStore(desk.store)

    async def lives() -> None:
        for life, there in enumerate((0, 8), start=1):
            uploads = Uploads(store, desk.journal, lambda: None)
            multipart, options, token = store.multipart, operation.options, operation.token
            assert multipart is not None
            upload = await uploads.begin(multipart, "log.txt", options, token=token, plan="p")
            assert there - SAVE_EVERY_PARTS < len(upload.parts) <= there
            for number in range(len(upload.parts) + 1, 8 * life + 1):
                uploads.sent(upload, Part(number=number, etag=f"{number}", size_bytes=8 * MIB))

    trio.run(lives, clock=trio.testing.MockClock())  # no time passes


def test_no_upload_is_begun_that_a_power_loss_would_have_nobody_know_of(desk: Desk) -> None:
    operation, create = desk.operation("plain"), desk.multipart.create
    durable: list[bool] = []

    def watched(key: str, **options: object) -> str:
        durable.append(desk.journal.is_durable)
        return create(key, **options)

    with mock.patch.object(desk.multipart, "create", watched):
        broken = mock.patch.object(desk.journal, "sync", side_effect=JournalError("The disk is broken."))
        with broken, pytest.raises(JournalError):
            desk.send(operation)
        assert (durable, desk.journal.notes()) == ([], {})
        desk.send(operation)
    assert durable == [True]


def test_a_refused_upload_is_aborted(desk: Desk) -> None:
    operation = desk.operation("plain")
    desk.multipart.left, desk.multipart.error = GOES_ON, InvalidRequestError("No.", key="log.txt")
    with pytest.raises(InvalidRequestError):
        desk.send(operation)
    assert desk.multipart.list_uploads("") == []
    assert desk.journal.notes() == {}


def test_something_else_is_begun_anew(desk: Desk) -> None:
    operation = desk.operation("plain")
    desk.multipart.left = GOES_ON
    with pytest.raises(UnavailableError):
        desk.send(operation)
    desk.multipart.left = 10**9
    operation.options = replace(operation.options, content_type="text/other")
    desk.send(operation)
    assert desk.multipart.begun == 2
    assert desk.content() == CONTENTS["plain"]


def test_what_nobody_goes_on_with_is_aborted_by_the_next_process(desk: Desk) -> None:
    operation = desk.operation("plain")
    desk.multipart.left = GOES_ON
    with pytest.raises(UnavailableError):
        desk.send(operation)
    desk.journal.remove(operation.seq)
    uploads = Uploads(ThreadedStore(desk.store), desk.journal, lambda: None)
    assert uploads.left_over == 1


def test_the_store_has_forgotten_the_upload(desk: Desk) -> None:
    operation = desk.operation("plain")
    desk.multipart.left = GOES_ON
    with pytest.raises(UnavailableError):
        desk.send(operation)
    for one in desk.multipart.list_uploads(""):
        desk.multipart.abort(one.key, one.upload_id)
    desk.multipart.left = 10**9
    with suppress(ObjectStoreError):  # it is told that the upload is gone
        desk.send(operation)
    desk.send(operation)
    assert desk.content() == CONTENTS["plain"]
    assert desk.journal.notes() == {}


def test_what_got_another_name_is_not_gone_on_with(desk: Desk) -> None:
    """A conflict was journaled, and the process killed before it gave the upload up."""
    operation = desk.operation("plain")
    desk.multipart.left = GOES_ON
    with pytest.raises(UnavailableError):
        desk.send(operation)
    operation.path = "log.conflict.txt"
    desk.journal.write(operation.record())
    uploads = Uploads(ThreadedStore(desk.store), desk.journal, lambda: None)
    assert uploads.left_over == 1
