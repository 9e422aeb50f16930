"""What is known of directories outlives the mount: a later one shows it while the store does not answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from objfs.store.threads import NoThreadError, in_thread
from objfs.vfs.listings import Listing
from objfs.vfs.nodes import LONG_AGO, NEVER, DirectoryNode, FileNode
from objfs.vfs.pictures import Memory, Picture, remembered, take
from objfs_cache.metadata import MetadataRow

if TYPE_CHECKING:
    from objfs.vfs.attributes import Defaults
    from objfs.vfs.mirror import Mirror
    from objfs.vfs.tree import Tree
    from objfs_cache.metadata import MetadataCache

log = logging.getLogger(__name__)

KEEP_EVERY_S = 5.0
PAUSE_SHARE = 20  # and so many times as long as the last time took: of 100,000 names, that is seconds
BATCH_ENTRIES = 10_000  # pictures held in memory: some 10 MB


class Remembering:
    """Keeps pictures of directories in the cache directory, and puts them into the tree again."""

    def __init__(
        self, tree: Tree, mirror: Mirror, cache: MetadataCache | None, *, defaults: Defaults
    ) -> None:
        self._tree = tree
        self._mirror = mirror
        self._cache = cache
        self._defaults = defaults
        self._keeping = trio.Lock()  # the cache knows of one who writes

    async def run(self) -> None:
        """Keep what was learnt, now and then, until cancelled."""
        pause_s = KEEP_EVERY_S
        while True:
            await trio.sleep(pause_s)
            begun_at = trio.current_time()
            await self.keep()
            pause_s = max(KEEP_EVERY_S, PAUSE_SHARE * (trio.current_time() - begun_at))

    async def keep(self) -> None:
        """Keep what was learnt since the last time."""
        async with self._keeping:
            await self._keep()

    async def _keep(self) -> None:
        learnt, self._tree.learnt = self._tree.learnt, set()
        while learnt and self._cache is not None:
            self._cache.begin()
            pictures: list[Picture] = []
            entries = 0
            while learnt and entries < BATCH_ENTRIES:
                directory = learnt.pop()
                if _is_worth_keeping(directory):
                    pictures.append(await take(directory))
                    entries += len(pictures[-1].entries)
            try:
                await in_thread(_write, self._cache, pictures, self._defaults)
            except NoThreadError as error:
                log.debug("what was learnt of %d directories is not kept: %s", len(pictures), error)

    def knows(self, directory: DirectoryNode, name: str | None) -> bool:
        """Whether anything can be told of a name in a directory, or of all (None), that the store has not."""
        return self._has(directory) or self._has(_unknown_folder(directory, name))

    async def recall(self, directory: DirectoryNode, name: str | None) -> bool:
        """Show what is known of a name in a directory, or of all; False if that is nothing."""
        is_told = self._has(directory) and await self._show(directory, name)
        folder = _unknown_folder(directory, name)
        if folder is not None and self._has(folder):  # it lies elsewhere: its own row tells what it is
            await self._show(folder, "")
            return folder.proven
        return is_told

    def _has(self, directory: DirectoryNode | None) -> bool:
        if directory is None or directory.told_at > NEVER:
            return False
        return _is_new(directory) or (self._cache is not None and self._cache.has(directory.prefix))

    async def _show(self, directory: DirectoryNode, name: str | None) -> bool:
        """Put in what is known of a directory; whether that tells of a name, or of all."""
        prefix, moves = directory.prefix, self._tree.moves
        if _is_new(directory):
            memory, whole = Memory(Listing(LONG_AGO)), True
        else:
            row = self._cache.read(prefix) if self._cache is not None else None
            if row is None or (name is None and not row.whole):
                return False
            try:
                whole, memory = row.whole, await in_thread(remembered, prefix, row.body, self._defaults)
            except ValueError as error:
                log.warning("what was known of %r is lost: %s", directory.path, error)
                return False
        if directory.prefix != prefix or self._tree.has_moved(prefix, since=moves):
            return False
        self._put_in(directory, memory, whole=whole)
        return whole or name in directory.children

    def _put_in(self, directory: DirectoryNode, memory: Memory, *, whole: bool) -> None:
        expired = {**memory.expired, **directory.expired}
        self._mirror.merge(directory, memory.listing, complete=whole)
        for name, one in expired.items():
            if name not in directory.children and self._mirror.may_update(directory, name, LONG_AGO):
                directory.expired[name] = one
        directory.large = memory.large
        for name, target in memory.targets.items():
            node = directory.children.get(name)
            if isinstance(node, FileNode) and node.checked_at == LONG_AGO and not node.layers:
                node.target = target


def _write(cache: MetadataCache, pictures: list[Picture], defaults: Defaults) -> None:
    cache.write(
        [MetadataRow(key=one.prefix, body=one.to_bytes(defaults), whole=one.whole) for one in pictures]
    )


def _is_worth_keeping(directory: DirectoryNode) -> bool:
    """Whether enough is known of a directory that the store has: of the root, its own attributes, too."""
    if directory.is_removed or directory.local:
        return False
    return directory.marker is not None or (directory.parent is None and bool(directory.pending()))


def _unknown_folder(directory: DirectoryNode, name: str | None) -> DirectoryNode | None:
    """The directory of that name, if its attributes are not known."""
    child = directory.children.get(name) if name is not None else None
    return child if isinstance(child, DirectoryNode) and not child.proven else None


def _is_new(directory: DirectoryNode) -> bool:
    """Whether it was made here, and the store has nothing of it yet: it has only what waits."""
    return any(one.bare for one in directory.pending())
