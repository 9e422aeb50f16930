"""Attributes of listed entries: one HEAD each, sent ahead of whoever asks for one after the other."""

from __future__ import annotations

import itertools
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from objfs.errors import NotFoundError, ObjectStoreError
from objfs.store.known import find_known
from objfs.store.parallel import for_each
from objfs.vfs.nodes import DirectoryNode, FileNode, Node

if TYPE_CHECKING:
    from collections.abc import Iterable

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ObjectInfo
    from objfs.vfs.last_known import LastKnown
    from objfs.vfs.listings import Listing
    from objfs.vfs.mirror import Mirror
    from objfs.vfs.tree import Tree

log = logging.getLogger(__name__)

KNOWN_ASKED = 3  # files of a directory of which a listing told nothing
PROVE_AT_ONCE = 32  # as many requests as a mount has at a time
STAT_AHEAD = (8, 256)  # first and greatest number of entries proven ahead of the one asked for


class Prover:
    """Proves entries: a listing told their names, the store tells the rest."""

    def __init__(
        self,
        tree: Tree,
        store: AsyncObjectStore,
        mirror: Mirror,
        last_known: LastKnown,
        nursery: trio.Nursery,
    ) -> None:
        self._tree = tree
        self._store = store
        self._mirror = mirror
        self._last_known = last_known
        self._nursery = nursery
        self._proving: dict[Node, trio.Event] = {}
        self._ahead: dict[DirectoryNode, _StatAhead] = {}

    async def prove(self, node: Node) -> None:
        """Read the attributes of a listed entry, and those of the entries likely to be asked for next."""
        if node.proven:
            return
        self._prove_ahead(node)
        running = self._proving.get(node)
        if running is not None:
            await running.wait()
        if not node.proven and node.parent is not None:
            await self._prove_one(node)

    def _prove_ahead(self, node: Node) -> None:
        parent = node.parent
        if parent is None or not parent.order:
            return
        ahead = self._ahead.get(parent)
        if ahead is None or ahead.names is not parent.order:
            ahead = self._ahead[parent] = _StatAhead(parent.order)
        for name in ahead.next_names(node.name):
            other = parent.children.get(name)
            if other is not None and not other.proven and other not in self._proving and not other.pending():
                self._proving[other] = trio.Event()
                self._nursery.start_soon(self._prove_quietly, other)

    async def _prove_quietly(self, node: Node) -> None:
        try:
            if not node.proven:
                await self._prove_one(node)
        except ObjectStoreError as error:
            log.debug("stat-ahead of %r: %s", node.name, error)
        finally:
            self._proving.pop(node).set()

    async def prove_folders(
        self, directory: DirectoryNode, prefix: str, names: Iterable[str], listing: Listing
    ) -> None:
        """Look at folders that a listing told, where it may tell such as nothing is in: those it loses."""

        async def look_at(name: str) -> None:
            marker, is_nothing = await self._look_at(f"{prefix}{name}/", directory.children.get(name))
            self._last_known.heard()
            if is_nothing:
                listing.folders.discard(name)
            else:
                listing.proven[name] = marker

        await for_each(names, look_at, at_once=PROVE_AT_ONCE)

    async def is_overlooked(self, node: Node | None) -> bool:
        """Whether a directory below which a listing told nothing still has one of its known files.

        The drives of a MinIO have different versions of an object that is being overwritten: its listings
        tell none of them then.
        """
        if self._store.capabilities.file_over_prefix or not isinstance(node, DirectoryNode):
            return False
        files = (child for child in node.children.values() if isinstance(child, FileNode) and child.version)
        keys = [child.key for child in itertools.islice(files, KNOWN_ASKED)]
        for key in keys:
            with suppress(NotFoundError):
                await self._store.head(key)
                return True
        return False

    async def _look_at(self, key: str, node: Node | None) -> tuple[ObjectInfo | None, bool]:
        """What is under the key of a file or directory, and whether there is nothing, below it either.

        MinIO leaves folders on its disks when a client dies in the middle of an upload: nothing is below such
        a prefix, although listings with a delimiter tell it.
        """
        found, page = await find_known(self._store, key)
        if found is not None:
            return found, False
        if not key.endswith("/"):
            return None, True
        is_hollow = page is not None and not page.objects
        return None, is_hollow and not await self.is_overlooked(node)

    async def _prove_one(self, node: Node) -> None:
        begun_at, key, moves = trio.current_time(), node.key, self._tree.moves
        info, is_nothing = await self._look_at(key, node)
        parent = node.parent
        if node.key != key or self._tree.has_moved(key, since=moves):
            return  # it was moved meanwhile: nothing was learnt
        if parent is None or node.proven or not self._mirror.may_update(parent, node.name, begun_at):
            return
        if is_nothing and self._mirror.may_vanish(node, begun_at):
            self._mirror.vanish(parent, node.name, begun_at)
        elif isinstance(node, DirectoryNode):
            self._mirror.prove_directory(node, info, begun_at)
        elif info is not None:
            self._mirror.show_file(parent, node.name, info, begun_at)

    def released(self, directory: DirectoryNode) -> None:
        """Nobody has the directory open any more."""
        self._ahead.pop(directory, None)


class _StatAhead:
    """Which entries of a listing are to be proven before they are asked for."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self._positions = {name: position for position, name in enumerate(names)}
        self._done = 0
        self._window = STAT_AHEAD[0]

    def next_names(self, name: str) -> Iterable[str]:
        at = self._positions.get(name)
        if at is None:
            return ()
        start = max(at + 1, self._done) if at < self._done else at + 1
        stop = min(len(self.names), at + 1 + self._window)
        if stop - start < self._window // 2 and stop < len(self.names):
            return ()
        self._done = max(start, stop)
        self._window = min(2 * self._window, STAT_AHEAD[1])
        return self.names[start:stop]
