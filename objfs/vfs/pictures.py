"""Directories as last known, in a form that can be kept: what the store has, without what waits here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import trio
import zstandard

from objfs.codec.marks import marked
from objfs.store.values import ObjectInfo, Version
from objfs.vfs.attributes import Attributes, Defaults, encode
from objfs.vfs.listings import Listing
from objfs.vfs.nodes import LONG_AGO, NEVER, DirectoryNode, FileNode, Node

TURN = 1000  # entries copied between two turns of the event loop
MAX_BYTES = 1 << 30  # of one picture: some millions of names


@dataclass(slots=True)
class Entry:
    """What is known of a name: `version` is None for a directory, `attributes` if they are not known."""

    name: str
    version: Version | None
    modified_ns: int
    is_marked: bool
    attributes: Attributes | None
    target: bytes | None


@dataclass(slots=True)
class Picture:
    """What is known of a directory; `whole`: all its names are. The first entry, "", is itself."""

    prefix: str
    whole: bool
    large: bool
    hidden: int
    expired: dict[str, tuple[Version, int]]
    entries: list[Entry]

    def to_bytes(self, defaults: Defaults) -> bytes:
        """The form that is kept: compressed lines of JSON. One large text would hold up the event loop."""
        expired = [(name, one.etag, one.size_bytes, at_ns) for name, (one, at_ns) in self.expired.items()]
        head = [self.large, self.hidden, expired, _told(defaults)]
        lines = [json.dumps(head), *(json.dumps(_plain(one)) for one in self.entries)]
        return zstandard.ZstdCompressor(write_checksum=True).compress("\n".join(lines).encode())


@dataclass(slots=True)
class Memory:
    """A picture as a listing of long ago; `targets` of symlinks and what had `expired`, by name."""

    listing: Listing
    large: bool = False
    expired: dict[str, tuple[Version, int]] = field(default_factory=dict)
    targets: dict[str, bytes] = field(default_factory=dict)


async def take(directory: DirectoryNode) -> Picture:
    """What is known of a directory that the store has. What changes meanwhile may be in it, or not."""
    picture = Picture(
        directory.prefix,
        whole=directory.listed_at > NEVER,
        large=directory.large,
        hidden=directory.hidden,
        expired=dict(directory.expired),
        entries=[_entry("", directory)],
    )
    for number, (name, node) in enumerate(list(directory.children.items())):
        if number % TURN == TURN - 1:
            await trio.lowlevel.checkpoint()
        if _is_as_stored(node, f"{picture.prefix}{name}"):
            picture.entries.append(_entry(name, node))
    return picture


def remembered(prefix: str, data: bytes, defaults: Defaults) -> Memory:
    """What was kept of the directory at a prefix.

    Attributes that may be other `defaults` are not known now.

    Raises:
        ValueError: it is damaged.
    """
    memory = Memory(Listing(LONG_AGO))
    try:
        text = zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_BYTES)
        head, *entries = text.split(b"\n")
        memory.large, memory.listing.hidden, expired, told = json.loads(head)
        for name, etag, size_bytes, modified_ns in expired:
            memory.expired[name] = Version(etag=etag, size_bytes=size_bytes), modified_ns
        for entry in entries:
            name, version, modified_ns, is_marked, facts, target = json.loads(entry)
            facts = facts if told == _told(defaults) else None
            _remember(memory, prefix, name, version, modified_ns, is_marked, facts, target)
    except (zstandard.ZstdError, TypeError) as error:
        raise ValueError(f"no picture of a directory: {error}") from error
    return memory


def _is_as_stored(node: Node, key: str) -> bool:
    """Whether the store has what is shown under a name: else the journal tells it."""
    if node.pending():
        return False
    if isinstance(node, FileNode):
        return node.version is not None and node.key == key
    return node.key == f"{key}/"


def _entry(name: str, node: Node) -> Entry:
    attributes = node.attributes.copied() if node.proven else None
    if isinstance(node, FileNode):
        if node.dirty or node.layers:
            attributes = None  # of what is being written
        return Entry(name, node.version, node.modified_ns, False, attributes, node.target)
    is_marked = isinstance(node, DirectoryNode) and bool(node.marker)
    return Entry(name, None, 0, is_marked, attributes, None)


def _told(defaults: Defaults) -> list[int]:
    """What is shown of objects that tell no attributes."""
    return [defaults.uid, defaults.gid, defaults.umask]


def _plain(entry: Entry) -> list[object]:
    version = [entry.version.etag, entry.version.size_bytes] if entry.version is not None else None
    facts = None
    if entry.attributes is not None:
        options = marked(encode(entry.attributes, entry.name), entry.version)
        facts = [
            dict(options.metadata),
            options.content_type,
            options.content_encoding,
            options.storage_class,
        ]
    target = None if entry.target is None else entry.target.decode("latin-1")
    return [entry.name, version, entry.modified_ns, entry.is_marked, facts, target]


def _remember(
    memory: Memory,
    prefix: str,
    name: str,
    version: list[Any] | None,
    modified_ns: int,
    is_marked: bool,
    facts: list[Any] | None,
    target: str | None,
) -> None:
    listing = memory.listing
    metadata, content_type, content_encoding, storage_class = facts or (None, None, None, None)
    etag, size_bytes = version or ("", 0)
    info = ObjectInfo(
        key=f"{prefix}{name}" if version is not None or not name else f"{prefix}{name}/",
        version=Version(etag=etag, size_bytes=size_bytes),
        modified_ns=modified_ns,
        metadata=metadata,
        content_type=content_type,
        content_encoding=content_encoding,
        storage_class=storage_class,
    )
    if not name:
        listing.marker = info if is_marked else None
    elif version is not None:
        listing.files[name] = info
    else:
        listing.folders.add(name)
        if facts is not None:
            listing.proven[name] = info if is_marked else None
    if target is not None:
        memory.targets[name] = target.encode("latin-1")
