"""Values that the file system exchanges with its callers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from objfs.upload.rules import RuleSet

if TYPE_CHECKING:
    from objfs.vfs.attributes import Defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class VfsSettings:
    """How a mount shows its store.

    Attributes:
        metadata_ttl_s: how long names and attributes are believed, in seconds.
        write_mode: `through` makes close() wait for the store.
        fsync: `remote` makes fsync() wait for the store.
        store_timeout_s: how long close() and fsync() wait for a store that is away.
        sync_every_s: all staged bytes are made durable this often.
        rules: how files are stored.
    """

    defaults: Defaults
    metadata_ttl_s: float = 5.0
    write_mode: Literal["back", "through"] = "back"
    fsync: Literal["local", "remote"] = "local"
    store_timeout_s: float = 60.0
    read_only: bool = False
    sync_every_s: float = 5.0
    rules: RuleSet = field(default_factory=RuleSet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What stat(2) tells, and for how long the kernel may believe it (seconds)."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size_bytes: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAttributes:
    """What chmod, chown, truncate or utimens want changed; None: left as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size_bytes: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes something."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What statvfs(3) tells."""

    total_bytes: int
    free_bytes: int
    files: int
    free_files: int
