"""Operations: changes acknowledged to programs, on their way to the store."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from objfs.store.values import ANY, Condition, PutOptions, Version
from objfs.upload.rules import Decision
from objfs_cache.journal import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.store.values import ObjectInfo
    from objfs_cache.staged import StagedFile, StagedState

ROOT_MARKER_KEY = ".objfs/root"  # attributes of the root, which has no key of its own
TOKEN_METADATA = "objfs-upload"  # tells our own object again after a lost answer  # noqa: S105  # no secret


class Kind(StrEnum):
    """What is to happen in the store."""

    PUT = "put"  # an object with content: a file or a symlink
    MARKER = "marker"  # the empty object of a directory
    SET = "set"  # new metadata on an existing object
    DELETE = "delete"  # one object
    RENAME = "rename"  # copy one object, delete the old one
    RENAME_TREE = "rename-tree"  # every object below a prefix

    @property
    def told(self) -> str:
        """The word for it in the log and the status: users know of directories."""
        return "directory" if self is Kind.MARKER else self.value


class State(StrEnum):
    """Where an operation stands."""

    WAITING = "waiting"  # nothing of it was ever sent: may still be changed or taken back
    SENT = "sent"  # requests may have taken effect
    PARKED = "parked"  # refused for good; kept with its data
    DONE = "done"  # in the store, or taken back


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What this mount last knew under a key: a version, absence, or nothing.

    Attributes:
        version: the one, if there is one.
        absent: there was none.
        tokens: of refused operations whose place another took: an object that bears one is ours, too.
    """

    version: Version | None = None
    absent: bool = False
    tokens: tuple[str, ...] = ()

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known."""
        return self.version is None and not self.absent

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing, not even of ours."""
        return self.absent and not self.tokens

    @property
    def condition(self) -> Condition:
        """The precondition that protects it."""
        if self.version is not None:
            return Condition(if_match=self.version.etag)
        return Condition(if_absent=True) if self.absent else ANY


UNKNOWN = Base()
NOTHING = Base(absent=True)


@dataclass(slots=True, kw_only=True, eq=False)
class Operation:
    """One operation. Identity is the object itself: coalescing may change every field.

    Attributes:
        path: path below the mount's root, without slashes at its ends; "" is the root.
        directory: the operation concerns the marker `path/`, not the object `path`.
        source: the old path of a rename.
        base: what is known to be under the destination key.
        source_base: what is known to be under the source key of a rename.
        options: metadata and headers of the object to write.
        content_version: the version of the bytes that SET applies to travels in `base`.
        body: small content kept in the journal itself.
        staged: the staged file with the content.
        committed: the staged file as it was when last journaled.
        lost: the version that a put is a change of, if it is not in the store any more.
        made: the directory is new, whatever the store still has at its place.
        bare: so new that the store has nothing of it: all that is in it waits.
        copied: all of a renamed tree is at its new place too; what is left is to delete the old.
        placed: what of a renamed tree this process has brought to its new place, by old key, and the version
            that it has there (None: it is beside somebody else's).
        decision: how a file is stored, once its upload has started.
        held: a program is still writing: do not start.
        position: how far the journal has to be durable before it is sent.
        not_before: trio time before which it is not started, to let changes settle.
        attempts: those that failed.
        faults: of these, those that did not fail because the store was away.
    """

    kind: Kind
    path: str
    directory: bool = False
    source: str = ""
    base: Base = UNKNOWN
    source_base: Base = UNKNOWN
    options: PutOptions = field(default_factory=PutOptions)
    body: bytes | None = None
    staged: StagedFile | None = None
    committed: StagedState | None = None
    state: State = State.WAITING
    seq: int = 0
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    lost: Version | None = None
    made: bool = False
    bare: bool = False
    copied: bool = False
    placed: dict[str, tuple[ObjectInfo, Version | None]] = field(default_factory=dict)
    decision: Decision | None = None
    held: bool = False
    position: int = 0
    not_before: float = 0.0
    attempts: int = 0
    faults: int = 0
    error: str = ""

    @property
    def key(self) -> str:
        """The destination's key in the store."""
        return marker_key(self.path) if self.directory else self.path

    @property
    def base_if_refused(self) -> Base:
        """What may be under its key although it was refused: what was there before, or what it made."""
        return replace(self.base, tokens=(*self.base.tokens, self.token))

    def is_in(self, folder: str) -> bool:
        """Whether it changes a name directly in a directory."""
        return folder in self.parents()

    def parents(self) -> list[str]:
        """Directories in which it changes a name."""
        return [path.rpartition("/")[0] for path in (self.path, self.source) if path]

    def changed_prefixes(self) -> Iterator[tuple[str, bool]]:
        """Directories in which it changes what the store has: a prefix, and whether all below it, too."""
        for path in self.parents():
            yield _prefix(path), False
        if self.directory:
            yield _prefix(self.path), self.kind is not Kind.MARKER
        if self.directory and self.source:
            yield _prefix(self.source), True

    @property
    def size_bytes(self) -> int:
        """Bytes that have to be sent."""
        if self.committed is not None:
            return self.committed.length
        return len(self.body or b"")

    @property
    def lacks_base(self) -> bool:
        """Whether it is a change of a part of an object."""
        return self.staged is not None and not self.staged.complete

    @property
    def missing_bytes(self) -> int:
        """How much of the content only the base has."""
        if self.staged is None:
            return 0
        stop = min(self.staged.base_limit, self.staged.length)
        return sum(b - a for a, b, is_staged in self.staged.extents.pieces(0, stop) if not is_staged)

    def note_content(self) -> None:
        """Take the staged file as it is now for the content."""
        self.committed = self.staged.state() if self.staged is not None else None

    def record(self) -> Record:
        """The operation as a journal row."""
        return Record(
            seq=self.seq,
            kind=self.kind,
            path=self.path,
            source=self.source,
            details=json.dumps(_details(self)),
            body=self.body,
            staged=self.committed,
        )

    def stored_options(self) -> PutOptions:
        """Options as decided, with the token that tells this operation's object from others."""
        options = self.options if self.decision is None else self.decision.apply(self.options)
        return replace(options, metadata={**options.metadata, TOKEN_METADATA: self.token})


def marker_key(path: str) -> str:
    """Key of a directory's marker object."""
    return f"{path}/" if path else ROOT_MARKER_KEY


def _prefix(path: str) -> str:
    return f"{path}/" if path else ""


def from_record(record: Record) -> Operation:
    """The operation of a journal row; its staged file is opened by the caller."""
    details = json.loads(record.details)
    return Operation(
        kind=Kind(record.kind),
        path=record.path,
        directory=details["directory"],
        source=record.source,
        base=replace(_base(details["base"]), tokens=tuple(details.get("supersedes", ()))),
        source_base=_base(details["source_base"]),
        options=PutOptions(**details["options"]),
        body=record.body,
        committed=record.staged,
        state=State(details["state"]),
        seq=record.seq,
        token=details["token"],
        lost=_base(details.get("lost", False)).version,
        made=details.get("made", False),
        bare=details.get("bare", False),
        copied=details.get("copied", False),
        decision=Decision.from_json(details["decision"]) if details.get("decision") else None,
        error=details["error"],
    )


def _details(operation: Operation) -> dict[str, object]:
    options = operation.options
    return {
        "directory": operation.directory,
        "base": _base_json(operation.base),
        "source_base": _base_json(operation.source_base),
        "options": {
            "metadata": dict(options.metadata),
            "content_type": options.content_type,
            "content_encoding": options.content_encoding,
            "cache_control": options.cache_control,
            "storage_class": options.storage_class,
            "tags": None if options.tags is None else dict(options.tags),
            "encryption": options.encryption,
        },
        "state": operation.state,
        "token": operation.token,
        "supersedes": operation.base.tokens,
        "lost": _base_json(Base(version=operation.lost)),
        "made": operation.made,
        "bare": operation.bare,
        "copied": operation.copied,
        "decision": None if operation.decision is None else operation.decision.to_json(),
        "error": operation.error,
    }


def _base_json(base: Base) -> list[object] | bool:
    version = base.version
    if version is None:
        return base.absent
    told = [version.decoded_bytes, version.sha256]
    return [version.etag, version.size_bytes, *(told if told != [None, None] else [])]


def _base(value: list[object] | bool) -> Base:
    if isinstance(value, list):
        etag, size, decoded, sha256 = (*value, None, None)[:4]
        return Base(
            version=Version(
                etag=str(etag),
                size_bytes=int(str(size)),
                decoded_bytes=None if decoded is None else int(str(decoded)),
                sha256=None if sha256 is None else str(sha256),
            )
        )
    return NOTHING if value else UNKNOWN
