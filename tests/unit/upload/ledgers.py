"""A ledger over a real journal, for tests."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.store.values import PutOptions, Version
from objfs.upload.book import Book
from objfs.upload.ledger import Ledger
from objfs.upload.operations import NOTHING, Base, Operation
from objfs.upload.progress import Progress
from objfs_cache.journal import Journal, open_journal
from objfs_cache.staging import Staging, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs_cache.staged import StagedFile

PLAIN = PutOptions(metadata={"mode": "33188"})
V1, V2, V3 = (Version(etag=f"v{number}", size_bytes=number) for number in (1, 2, 3))


@dataclass
class Desk:
    """A ledger with shorthands; time stands still."""

    ledger: Ledger
    progress: Progress
    journal: Journal
    staging: Staging

    def put(self, path: str, base: Base = NOTHING, *, held: bool = False) -> Operation:
        """A complete file."""
        return self.ledger.put(path, options=PLAIN, base=base, staged=self.staged(), held=held)

    def patch(self, path: str) -> Operation:
        """A file changed in the middle."""
        staged = self.staged()
        staged.base_limit = 100
        staged.truncate(100)
        return self.ledger.put(path, options=PLAIN, base=NOTHING, staged=staged)

    def staged(self) -> StagedFile:
        """A complete staged file."""
        staged = self.staging.create()
        staged.write(0, b"content")
        return staged

    def rename(self, source: str, path: str, source_base: Base = NOTHING, base: Base = NOTHING) -> Operation:
        """A file gets another place."""
        return self.ledger.rename(source, path, source_base=source_base, base=base, options=PLAIN)

    def send(self) -> list[Operation]:
        """Start everything that may start."""
        return self.progress.take_ready(1000, deletes=1000, impatient=True)

    def sent(self) -> list[str]:
        """Start everything that may start; as text."""
        return [text(operation) for operation in self.send()]

    def rows(self) -> list[str]:
        """The journal, as text."""
        return [f"{one.kind} {one.source}->{one.path}".replace(" ->", " ") for one in self.journal.load()]

    def finish_all(self, versions: Iterator[Version]) -> list[str]:
        """Carry out everything; what was done, in order."""
        done: list[str] = []
        while batch := self.send():
            for operation in batch:
                done.append(text(operation))
                removed = operation.kind == "delete"
                self.progress.finish(operation, NOTHING if removed else Base(version=next(versions)))
        return done


def text(operation: Operation) -> str:
    """An operation for people."""
    return f"{operation.kind} {operation.source}->{operation.path}".replace(" ->", " ")


@contextmanager
def desk_in(path: Path) -> Iterator[Desk]:
    """A ledger in a folder."""
    (path / "staging").mkdir()
    with (
        open_journal(path / "journal.db") as journal,
        open_staging(path / "staging", budget_bytes=10**6, floor_fraction=0.0, referenced=[]) as staging,
    ):
        book = Book(journal, clock=lambda: 0.0, delay_s=0.0)
        yield Desk(ledger=Ledger(book), progress=Progress(book), journal=journal, staging=staging)
