"""What is known of one file: where its bytes are, and what of it has not reached the store."""

from __future__ import annotations

import json
import re
import stat
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import trio

from objfs.errors import NotFoundError, ObjectStoreError
from objfs.store.known import head_known
from objfs.store.threads import in_thread
from objfs.upload.operations import State
from objfs.vfs.content import object_id
from objfs.vfs.nodes import DirectoryNode, FileNode
from objfs.vfs.treated import describe
from objfs.vfs.tree import is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.read.reader import Reader
    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ObjectInfo
    from objfs.upload.rules import RuleSet
    from objfs.vfs.directories import Directories
    from objfs.vfs.nodes import Node
    from objfs.vfs.tree import Tree
    from objfs_cache.blocks import BlockCache

STATUS_XATTR = "user.objfs.status"
ASK_TIMEOUT_S = 3.0  # somebody waits at a terminal, and most of the answer needs no store
FileState = Literal["stored", "writing", "waiting", "uploading", "parked"]
RemoteState = Literal["same", "changed", "gone", "unreachable", "not asked"]
_CONFLICT_NAME = re.compile(r"(?P<name>.+)\.conflict-[^/]+-\d{8}T\d{6}Z(-\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """One file or directory. `objfs stat --json` prints these; fields may be added, none changes its meaning.

    Attributes:
        path: below the mount's root.
        state: `stored`: the store has all of it. `writing`: changed, and not closed yet. `waiting`: to be
            uploaded. `uploading`: on its way. `parked`: refused by the store, the data are kept here.
        changes: kinds of the changes that wait, in their order.
        error: why the last attempt failed.
        conflict_of: path of the file of which this is our copy, after somebody else changed it first.
        staged_bytes: bytes on the local disk that the store has not got.
        cached_bytes, memory_bytes: of the version in the store, on the local disk and in memory.
        etag, modified_s: of the version in the store that this mount knows; None if nothing was stored yet.
        remote: the store's answer just now: does it hold that version.
        stored_bytes, content_bytes: size of its object, and of what that holds (more if it is compressed).
        treatment: how it is stored other than by default, and when it vanishes.
        entries, waiting_below: of directories: names that are known, and whether changes below wait.
    """

    path: str
    kind: Literal["file", "directory", "symlink", "special"]
    size_bytes: int
    mode: int
    state: FileState
    changes: tuple[str, ...] = ()
    error: str | None = None
    conflict_of: str | None = None
    open_handles: int = 0
    staged_bytes: int = 0
    cached_bytes: int = 0
    memory_bytes: int = 0
    key: str = ""
    etag: str | None = None
    stored_bytes: int | None = None
    content_bytes: int | None = None
    modified_s: float | None = None
    remote: RemoteState = "not asked"
    storage_class: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    treatment: Mapping[str, str] = field(default_factory=dict)
    entries: int | None = None
    waiting_below: bool = False


class Inspection:
    """Looks at the tree of one mount, and changes nothing."""

    def __init__(
        self,
        tree: Tree,
        directories: Directories,
        reader: Reader,
        blocks: BlockCache | None,
        store: AsyncObjectStore,
        rules: RuleSet,
    ) -> None:
        self._tree = tree
        self._directories = directories
        self._reader = reader
        self._blocks = blocks
        self._store = store
        self._rules = rules

    def path_of(self, ino: int) -> str:
        """Path of an inode below the mount's root, `.` for the root itself."""
        node = self._tree.nodes.get(ino)
        if node is None:
            return "?"
        if node.is_removed:
            return f"{node.name} (deleted)"
        return node.path or "."

    async def inspect(self, path: str) -> FileStatus | None:
        """What is known of a path, with the store's own answer; None if there is no such file."""
        node = await self.find(path)
        if node is None:
            return None
        info: ObjectInfo | None = None
        remote: RemoteState = "not asked"
        if isinstance(node, FileNode) and node.version is not None:
            info, remote = await self._ask(node)
        return await self._status(node, info, remote)

    async def as_text(self, node: Node) -> bytes:
        """The value of the extended attribute; asks the store nothing."""
        status = asdict(await self._status(node, None, "not asked"))
        told = {name: value for name, value in status.items() if value not in (None, "", (), {}, "not asked")}
        return json.dumps(told).encode()

    async def find(self, path: str) -> Node | None:
        node: Node | None = self._tree.root
        for part in path.split("/") if path not in ("", ".") else ():
            if not isinstance(node, DirectoryNode):
                return None
            node = await self._directories.lookup(node, part)
        return node

    async def _ask(self, node: FileNode) -> tuple[ObjectInfo | None, RemoteState]:
        version = node.version
        try:
            with trio.fail_after(ASK_TIMEOUT_S):
                info = await head_known(self._store, node.key)
        except NotFoundError:
            return None, "gone"
        except (ObjectStoreError, trio.TooSlowError):
            return None, "unreachable"
        return info, "same" if info.version in (version, node.version) else "changed"

    async def _status(self, node: Node, info: ObjectInfo | None, remote: RemoteState) -> FileStatus:
        pending = node.pending()
        conflict = _CONFLICT_NAME.fullmatch(node.path)
        common = FileStatus(
            path=node.path or ".",
            kind=_kind(node),
            size_bytes=0,
            mode=stat.S_IMODE(node.attributes.mode),
            state=_state(node),
            changes=tuple(one.kind.told for one in pending),
            error=next((one.error for one in pending if one.error), None),
            conflict_of=conflict["name"] if conflict else None,
            key=node.key,
        )
        if isinstance(node, DirectoryNode):
            return replace(common, entries=len(node.children), waiting_below=is_ours(node))
        if not isinstance(node, FileNode):
            return common
        name = object_id(node)
        cached_bytes = 0
        if name and self._blocks is not None:
            held = await in_thread(self._blocks.held, name)
            cached_bytes = sum(held.values())
        version = node.version
        modified_ns = info.modified_ns if info is not None and remote == "same" else node.modified_ns
        return replace(
            common,
            size_bytes=node.size_bytes,
            open_handles=node.handles,
            staged_bytes=sum(layer.extents.total_bytes for layer in node.layers),
            cached_bytes=cached_bytes,
            memory_bytes=self._reader.held_bytes(name) if name else 0,
            etag=version.etag if version is not None else None,
            stored_bytes=version.size_bytes if version is not None else None,
            content_bytes=version.content_bytes if version is not None else None,
            modified_s=modified_ns / 1e9 if modified_ns else None,
            remote=remote,
            treatment=describe(node, self._rules) if common.kind == "file" else {},
            storage_class=info.storage_class if info is not None else None,
            content_type=info.content_type if info is not None else None,
            content_encoding=info.content_encoding if info is not None else None,
        )


def _kind(node: Node) -> Literal["file", "directory", "symlink", "special"]:
    if isinstance(node, DirectoryNode):
        return "directory"
    if stat.S_ISLNK(node.attributes.mode):
        return "symlink"
    return "file" if stat.S_ISREG(node.attributes.mode) else "special"


def _state(node: Node) -> FileState:
    states = {one.state for one in node.pending()}
    if State.PARKED in states:
        return "parked"
    if (isinstance(node, FileNode) and node.dirty) or any(one.held for one in node.pending()):
        return "writing"
    if State.SENT in states:
        return "uploading"
    return "waiting" if states else "stored"
