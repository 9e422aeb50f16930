"""Inodes: plain data, changed in synchronous steps only.

A directory may lie elsewhere in the store than its path says while a rename is under way (`origin`), a file
likewise (`remote_key`); a name that was removed here hides what the store still lists (`gone`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.upload.operations import NOTHING, UNKNOWN, Base, Operation, State, marker_key

if TYPE_CHECKING:
    from objfs.store.values import Version
    from objfs.vfs.attributes import Attributes
    from objfs_cache.staged import StagedFile

ROOT_INO = 1  # FUSE_ROOT_ID
NEVER = -math.inf
LONG_AGO = -1e18  # when an earlier mount was told what it left in the metadata cache
PENDING = math.inf


@dataclass(slots=True, eq=False)
class Node:
    """What files and directories have in common.

    Attributes:
        parent: None for the root and for what was unlinked.
        proven: the attributes were read from the object itself (or made here), not guessed from a listing.
        checked_at: trio time at which the store last confirmed name and version.
        changed_at: trio time at which a change of ours last took effect; older listings are not believed.
        operations: unfinished changes that show in this node.
        lookups: the kernel's references.
    """

    ino: int
    parent: DirectoryNode | None
    name: str
    attributes: Attributes
    proven: bool = False
    checked_at: float = NEVER
    changed_at: float = NEVER
    operations: list[Operation] = field(default_factory=list)
    lookups: int = 0

    def pending(self) -> list[Operation]:
        """Unfinished operations; finished ones are dropped."""
        if self.operations:
            self.operations = [one for one in self.operations if one.state is not State.DONE]
        return self.operations

    @property
    def is_removed(self) -> bool:
        """Whether it has no name any more."""
        return self.parent is None and self.ino != ROOT_INO

    @property
    def key(self) -> str:
        """Key in the store, now."""
        raise NotImplementedError

    @property
    def path(self) -> str:
        """Path below the mount's root."""
        parts: list[str] = []
        node: Node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return "/".join(reversed(parts))


@dataclass(slots=True, eq=False)
class FileNode(Node):
    """A regular file, symlink or special file; its content is one version, changed by own writes only.

    Attributes:
        version: the bytes in the store, or None if it was never stored.
        modified_ns: Last-Modified of the version as last told, 0 if unknown.
        remote_key: where the bytes are in the store, while that is not the node's own key.
        layers: staged files over the version, newest first.
        staged_size: length in bytes while there are layers.
        dirty: bytes were staged since the last journal entry.
        written_at: trio time of the last write.
        target: a symlink's target, once known.
        handles, writers: open handles, and those of them that may write.
        superseded: somebody else's version has taken the name.
        stalled_at: trio time at which a read last gave up waiting for the store.
    """

    version: Version | None = None
    modified_ns: int = 0
    remote_key: str | None = None
    layers: list[StagedFile] = field(default_factory=list)
    dirty: bool = False
    written_at: float = NEVER
    target: bytes | None = None
    handles: int = 0
    writers: int = 0
    superseded: bool = False
    object_id: str = ""
    lock: trio.Lock | None = None
    stalled_at: float = NEVER

    @property
    def size_bytes(self) -> int:
        """Length of the content."""
        if self.layers:
            return self.layers[0].length
        if self.target is not None:
            return len(self.target)
        return self.version.content_bytes if self.version is not None else 0

    @property
    def key(self) -> str:
        """Where the version is in the store now."""
        if self.remote_key is not None:
            return self.remote_key
        return self.parent.prefix + self.name if self.parent is not None else self.name

    def exclusively(self) -> trio.Lock:
        """The lock of whoever changes the content; made when first needed, most files never do."""
        if self.lock is None:
            self.lock = trio.Lock()
        return self.lock

    def base(self) -> Base:
        """What this mount knows to be in the store under the node."""
        return Base(version=self.version) if self.version is not None else NOTHING


@dataclass(slots=True, eq=False)
class DirectoryNode(Node):
    """A directory.

    Attributes:
        children: known names; complete if `listed_at` is fresh.
        gone: names removed here; a listing begun before the time given is not believed about them.
        absent: names that the store was asked for and has not, with the time of asking.
        expired: names whose object is there and has expired, with its version and its Last-Modified.
        order: names of the last complete listing, as the store ordered them.
        listed_at: trio time at which the last complete listing was begun; NEVER if it is not to be believed.
        told_at: the same, whatever became of it: what was asked before it tells nothing of other names.
        large: the listing has more than one page.
        hidden: keys below that cannot be shown as files.
        marker: whether the marker object exists, or None if unknown.
        local: nothing below is in the store yet.
        handles: open handles.
        probed_at, probes: when, and how many, names were asked for one by one lately.
        walked_at, opened_children: when, and how many, children were opened one after another lately.
        origin: the prefix where the content is in the store, while that is not the directory's own.
        epoch: when it was made, among the moves of directories; what others made is as old as its parent.
        touched_ns: when a name in it last changed here; its marker need not tell.
    """

    children: dict[str, Node] = field(default_factory=dict)
    gone: dict[str, float] = field(default_factory=dict)
    absent: dict[str, float] = field(default_factory=dict)
    expired: dict[str, tuple[Version, int]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    listed_at: float = NEVER
    told_at: float = NEVER
    large: bool = False
    hidden: int = 0
    marker: bool | None = None
    local: bool = False
    origin: str | None = None
    epoch: int = -1
    handles: int = 0
    probed_at: float = NEVER
    probes: int = 0
    walked_at: float = NEVER
    opened_children: int = 0
    touched_ns: int = 0

    def touch(self) -> None:
        """A name in it changed just now."""
        self.attributes.touch(content=True)
        self.touched_ns = self.attributes.mtime_ns

    def learn(self, attributes: Attributes) -> None:
        """Take over what the store tells, but for the time of what changed here since."""
        self.attributes = attributes
        if self.touched_ns > attributes.ctime_ns:
            attributes.mtime_ns = attributes.ctime_ns = self.touched_ns

    def path_of(self, name: str) -> str:
        """Path below the mount's root of what has, or may get, a name here."""
        return f"{self.path}/{name}".lstrip("/")

    @property
    def prefix(self) -> str:
        """Key prefix of the content in the store."""
        if self.origin is not None:
            return self.origin
        return "" if self.parent is None else f"{self.parent.prefix}{self.name}/"

    @property
    def is_displaced(self) -> bool:
        """Whether the content is not, or perhaps not for long, where the path says."""
        return self.origin is not None or (self.parent is not None and self.parent.is_displaced)

    @property
    def key(self) -> str:
        """Key of the marker in the store."""
        return self.prefix or marker_key("")

    def free_base(self, name: str) -> Base:
        """What the store has under a name that is free here: nothing, or what has expired."""
        expired = self.expired.get(name)
        return NOTHING if expired is None else Base(version=expired[0])

    def base(self) -> Base:
        """Markers are written without conditions."""
        return UNKNOWN
