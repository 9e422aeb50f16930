"""What the store has in each directory, asked for when somebody wants to know.

A listing tells names, sizes and versions; attributes are proven by a HEAD (or a listing with metadata).
Requests are few: the first lookup in a directory lists it, a burst of stats is answered ahead in parallel,
and a walk over many directories becomes one flat listing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from objfs.errors import NotFoundError, ObjectStoreError, StaleVersionError
from objfs.store.known import head_known
from objfs.store.listing import MAX_PAGE_KEYS
from objfs.store.parallel import for_each
from objfs.vfs.expiring import Expiring
from objfs.vfs.freshness import Freshness
from objfs.vfs.last_known import LastKnown
from objfs.vfs.listings import Listing
from objfs.vfs.mirror import Kernel, Mirror
from objfs.vfs.names import RESERVED_ROOT, is_showable
from objfs.vfs.nodes import NEVER, DirectoryNode, FileNode, Node
from objfs.vfs.proving import PROVE_AT_ONCE, Prover
from objfs.vfs.remembering import Remembering
from objfs.vfs.walking import Walks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ObjectInfo
    from objfs.upload.rules import RuleSet
    from objfs.vfs.attributes import Defaults
    from objfs.vfs.tree import Tree
    from objfs_cache.metadata import MetadataCache

log = logging.getLogger(__name__)

PROVE_TRIES = 5  # another version may take the name while one is being looked at
BURST_AFTER = 8  # so many probes of one directory, one soon after the other, and it is listed
BURST_PER_PAGE = 2  # and so many more for each page that the listing will have
BURST_WITHIN_S = 1.0
FOLDERS_PROVEN = 1000  # most of one listing, before it is shown; further ones when they are asked for
ABSENT_MAX = 10_000  # remembered negative answers per directory


class Directories:
    """Keeps the tree in step with the store."""

    def __init__(
        self,
        tree: Tree,
        store: AsyncObjectStore,
        nursery: trio.Nursery,
        *,
        defaults: Defaults,
        ttl_s: float,
        kernel: Kernel,
        hides: Callable[[str], bool],
        rules: RuleSet,
        metadata: MetadataCache | None,
    ) -> None:
        self._tree = tree
        self._store = store
        self._nursery = nursery
        self.last_known = LastKnown(nursery, lambda: store.list("", max_keys=1))
        self.freshness = Freshness(tree, self.last_known, ttl_s=ttl_s, hides=hides)
        self.mirror = Mirror(
            tree,
            self.freshness,
            defaults=defaults,
            kernel=kernel,
            may_overlook=not store.capabilities.file_over_prefix,
        )
        self.remembering = Remembering(tree, self.mirror, metadata, defaults=defaults)
        self._walks = Walks(tree, store, self.freshness, self.mirror, self.last_known)
        self.prover = Prover(tree, store, self.mirror, self.last_known, nursery)
        self.expiring = Expiring(self.mirror, self.prover, self.last_known, rules)
        self._listing: dict[DirectoryNode, trio.Lock] = {}

    # -- lookups ------------------------------------------------------------------------------------

    def forget(self, directory: DirectoryNode) -> None:
        """Have the directory listed anew at the next chance."""
        directory.listed_at = NEVER
        directory.absent.clear()
        for child in directory.children.values():
            child.checked_at = NEVER

    async def lookup(self, parent: DirectoryNode, name: str) -> Node | None:
        """The proven child of that name, or None if there is none."""
        child = await self._lookup(parent, name)
        return None if isinstance(child, FileNode) and self.expiring.expire(child) else child

    async def _lookup(self, parent: DirectoryNode, name: str) -> Node | None:
        child = parent.children.get(name)
        if child is not None and child.proven and self.freshness.is_fresh(child):
            return child
        if child is None and self.freshness.is_absent(parent, name):
            return None
        if not is_showable(name) or (parent.parent is None and name == RESERVED_ROOT):
            return None
        known = child if child is not None and child.proven else None
        is_known = known is not None or (child is None and parent.listed_at > NEVER)
        await self._or_last_known(parent, name, lambda: self._refresh(parent, name), is_known=is_known)
        return await self._proven_child(parent, name, known)

    async def _or_last_known(
        self,
        directory: DirectoryNode,
        name: str | None,
        refresh: Callable[[], Awaitable[None]],
        *,
        is_known: bool,
    ) -> None:
        """Learn of a name in a directory, or of all.

        If the store does not answer, what `is_known` stands, or what an earlier mount knew.
        """
        if is_known or self.remembering.knows(directory, name):
            if await self.last_known.or_stale(refresh) or is_known:
                return
            if await self.remembering.recall(directory, name):
                return
        await refresh()

    async def _proven_child(self, parent: DirectoryNode, name: str, known: Node | None) -> Node | None:
        """The child as programs may see it; what was `known` stands if the store did not answer."""
        for _ in range(PROVE_TRIES):
            child = parent.children.get(name)
            if child is None or child.proven:
                return child
            if child is known:
                child.proven = True
            else:
                await self.prover.prove(child)
        raise StaleVersionError(f"{name!r} changes faster than it can be looked at")

    async def _refresh(self, parent: DirectoryNode, name: str) -> None:
        child = parent.children.get(name)
        if child is not None and self.freshness.is_fresh(child):
            await self.prover.prove(child)
            return
        if not self.freshness.is_listed(parent) and not parent.large:
            await self._list_first_page(parent)
        child = parent.children.get(name)
        if child is not None and self.freshness.is_fresh(child):
            await self.prover.prove(child)
        elif not self.freshness.is_absent(parent, name):
            self._count_probe(parent)
            await self._probe(parent, name)

    def _count_probe(self, parent: DirectoryNode) -> None:
        """Many names asked for one by one are told by one listing, beside those who wait for theirs."""
        now = trio.current_time()
        if now - parent.probed_at > BURST_WITHIN_S:
            parent.probes = 0
        parent.probed_at = now
        parent.probes += 1
        pages = len(parent.children) // MAX_PAGE_KEYS
        if parent.probes == BURST_AFTER + BURST_PER_PAGE * pages and parent not in self._listing:
            self._nursery.start_soon(self._list_quietly, parent)

    async def _list_quietly(self, directory: DirectoryNode) -> None:
        try:
            await self.ensure_listed(directory)
        except (ObjectStoreError, ExceptionGroup) as error:
            log.debug("%r was not listed: %s", directory.path, error)

    async def _ask(self, key: str, node: Node | None) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
        """What is under a key, and the first of what is below it; `node` is what was known of it."""
        found: list[ObjectInfo] = []
        below: list[ObjectInfo] = []

        async def head() -> None:
            try:
                is_known = isinstance(node, FileNode)
                found.append(await (head_known(self._store, key) if is_known else self._store.head(key)))
            except NotFoundError:
                return

        async def look_below() -> None:
            below.extend((await self._store.list(f"{key}/", max_keys=1)).objects)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(head)
            nursery.start_soon(look_below)
        return found, below

    async def _probe(self, parent: DirectoryNode, name: str) -> None:
        """Ask for one name of a directory that is too large to be listed for it."""
        begun_at, moves = trio.current_time(), self._tree.moves
        key = parent.prefix + name
        found, below = await self._ask(key, parent.children.get(name))
        if not found and not below and await self.prover.is_overlooked(parent.children.get(name)):
            return
        if parent.prefix + name != key or self._tree.has_moved(f"{key}/", since=moves):
            await self._probe(parent, name)  # the directory was moved meanwhile: nothing was learnt
            return
        if _is_elsewhere(parent, name) or not self.mirror.may_update(parent, name, begun_at):
            return
        if below:
            directory = self.mirror.show_directory(parent, name, begun_at)
            if below[0].key == f"{key}/":
                await self.prover.prove(directory)
            else:
                self.mirror.prove_directory(directory, None, begun_at)
        elif found:
            self.mirror.show_file(parent, name, found[0], begun_at)
        else:
            self.mirror.vanish(parent, name, begun_at)
            if len(parent.absent) >= ABSENT_MAX:
                parent.absent.clear()
            parent.absent[name] = begun_at

    async def ensure_listed(self, directory: DirectoryNode, *, walking: bool = False) -> None:
        """Know all names of a directory, fresh.

        Args:
            directory: the one.
            walking: a program opened it; a sequence of such openings becomes one flat listing.
        """
        if self.freshness.is_listed(directory):
            return
        lock = self._listing.setdefault(directory, trio.Lock())
        try:
            async with lock:
                if self.freshness.is_listed(directory):
                    return
                await self._or_last_known(
                    directory,
                    None,
                    lambda: self._list(directory, walking=walking),
                    is_known=directory.listed_at > NEVER,
                )
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._listing.pop(directory, None)

    async def look_into(self, directory: DirectoryNode, *, walking: bool = False) -> None:
        """Know all names of a directory that programs may see, as `ensure_listed` says."""
        await self.ensure_listed(directory, walking=walking)
        if not self._store.capabilities.file_over_prefix:
            await self._prove_known_folders(directory)
        await self.expiring.expire_in(directory)

    async def _prove_new_folders(self, directory: DirectoryNode, prefix: str, listing: Listing) -> None:
        """Look at folders that were never looked at, so that the listing loses those that nothing is in."""
        known = {
            name
            for name, child in directory.children.items()
            if isinstance(child, DirectoryNode)
            and (child.marker is not None or self.freshness.is_fresh(child))
        }
        new = sorted(listing.folders - known)
        await self.prover.prove_folders(directory, prefix, new[:FOLDERS_PROVEN], listing)

    async def _prove_known_folders(self, directory: DirectoryNode) -> None:
        """Look again at folders that a listing told, so that those vanish that nothing is in any more."""
        children = directory.children.values()
        folders = [child for child in children if isinstance(child, DirectoryNode) and not child.proven]
        await for_each(
            folders[:FOLDERS_PROVEN],
            lambda folder: self.last_known.or_stale(lambda: self.prover.prove(folder)),
            at_once=PROVE_AT_ONCE,
        )

    async def _list(self, directory: DirectoryNode, *, walking: bool) -> None:
        if walking and self._walks.is_walk(directory) and await self._walks.walk(directory, self._ask_for):
            return
        while not await self._list_pages(directory, max_pages=None):
            log.debug("%r moved while it was listed", directory.path)

    async def _list_first_page(self, directory: DirectoryNode) -> None:
        await self._list_pages(directory, max_pages=1)

    async def _list_pages(self, directory: DirectoryNode, *, max_pages: int | None) -> bool:
        """List into the tree; False if the directory was moved meanwhile and nothing was learnt."""
        moves, prefix, listing = self._tree.moves, directory.prefix, Listing(trio.current_time())
        token: str | None = None
        pages = 0
        while True:
            page = await self._store.list(
                prefix, delimiter="/", page=token, with_metadata=self._store.capabilities.listing_metadata
            )
            self.last_known.heard()
            pages += 1
            for info in page.objects:
                listing.add_key(prefix, info)
            for folder in page.prefixes:
                listing.add_folder(folder[len(prefix) : -1])
            token = page.next_page
            if token is None or pages == max_pages:
                break
        if token is not None:
            last = max((*(info.key for info in page.objects), *page.prefixes), default="")
            listing.leave_out_undecided(prefix, last)
        if not self._store.capabilities.file_over_prefix:
            await self._prove_new_folders(directory, prefix, listing)
        if directory.prefix != prefix or self._tree.has_moved(prefix, since=moves):
            return False
        directory.large = pages > 1 or token is not None
        await self._ask_for(directory, self.mirror.merge(directory, listing, complete=token is None))
        return True

    async def _ask_for(self, directory: DirectoryNode, names: Sequence[str]) -> None:
        """Ask for what a listing lacks and may be there."""
        await for_each(names, lambda name: self._probe(directory, name), at_once=PROVE_AT_ONCE)


def _is_elsewhere(parent: DirectoryNode, name: str) -> bool:
    """Whether a directory is not yet where its name says: what the store has there is another's."""
    child = parent.children.get(name)
    return isinstance(child, DirectoryNode) and child.prefix != f"{parent.prefix}{name}/"
