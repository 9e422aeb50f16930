"""Open directories: listed, and made durable with what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from objfs.vfs.handles import DirectoryHandle, Handles
from objfs.vfs.nodes import NEVER, DirectoryNode, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.vfs.directories import Directories
    from objfs.vfs.durability import Durability
    from objfs.vfs.places import Places
    from objfs.vfs.settling import Settling
    from objfs.vfs.values import Stat


class DirectoryStreams:
    """What programs do with descriptors of directories."""

    def __init__(
        self,
        handles: Handles,
        places: Places,
        directories: Directories,
        durability: Durability,
        settling: Settling,
    ) -> None:
        self._handles = handles
        self._places = places
        self._directories = directories
        self._durability = durability
        self._settling = settling

    async def open(self, ino: int) -> int:
        """A handle on a directory. Whether it can be listed is told now, its names when it is read."""
        node = self._places.directory(ino)
        asked_at = trio.current_time()
        await self._directories.look_into(node, walking=True)
        node.handles += 1
        return self._handles.add(DirectoryHandle(node=node, asked_at=asked_at))

    async def begin(self, handle: int, start: int) -> None:
        """A listing is to be read from a position on: at its beginning, its names are those of now."""
        opened = self._handles.get(handle, DirectoryHandle)
        if opened.is_begun and start > 0:
            return
        is_old = trio.current_time() - opened.asked_at > self._directories.freshness.ttl_s
        if opened.is_begun or is_old or opened.node.listed_at == NEVER:
            await self._directories.look_into(opened.node, walking=True)
        opened.is_begun = True
        children = opened.node.children
        opened.names = opened.node.order = sorted(children, key=lambda name: _order(name, children[name]))

    def read(self, handle: int, start: int) -> Iterator[tuple[int, str, Stat]]:
        """Entries from a position on: (next position, name, stat; mode 0 where the type is not proven).

        The caller calls `FileSystem.remember` for each entry that it hands to the kernel.
        """
        opened = self._handles.get(handle, DirectoryHandle)
        directory, stat = opened.node, self._directories.freshness.stat
        if start < 1:
            yield 1, ".", stat(directory)
        if start < 2:
            yield 2, "..", stat(directory.parent or directory)
        for position in range(max(0, start - 2), len(opened.names)):
            name = opened.names[position]
            node = directory.children.get(name)
            if node is not None:
                yield position + 3, name, stat(node, is_listed=True)

    async def sync(self, handle: int | None = None) -> None:
        """All changes of names and attributes survive power loss; those in this directory reach the store."""
        await self._durability.sync_journal()
        if handle is not None:
            await self._settling.below(self._handles.get(handle, DirectoryHandle).node.path)

    def close(self, handle: int) -> None:
        """Close a directory."""
        opened = self._handles.remove(handle, DirectoryHandle)
        opened.node.handles -= 1
        self._directories.prover.released(opened.node)


def _order(name: str, node: Node) -> bytes:
    """Key order, as the store lists: a directory sorts with its slash."""
    return f"{name}/".encode() if isinstance(node, DirectoryNode) else name.encode()
