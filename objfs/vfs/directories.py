"""What the store has in each directory: lookups, listings, proofs, and their freshness.

A listing tells names, sizes and versions; attributes are proven by a HEAD (or a listing with metadata).
Requests are few: the first lookup in a directory lists it, a burst of stats is answered ahead in parallel,
and a walk over many directories becomes one flat listing.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from objfs.codec.marks import content_version
from objfs.errors import NotFoundError, ObjectStoreError, StaleVersionError
from objfs.vfs.attributes import Defaults, decode, default_attributes
from objfs.vfs.names import RESERVED_ROOT, is_showable
from objfs.vfs.nodes import NEVER, PENDING, DirectoryNode, FileNode, Node, Tree, is_ours
from objfs.vfs.treated import expiry_of, has_expired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import ObjectInfo, Version
    from objfs.upload.rules import RuleSet

log = logging.getLogger(__name__)

STALE_WAIT_S = 3.0  # how long a known entry waits for the store before it is shown as last known
AWAY_S = 5.0  # how long known entries are shown without asking a store that did not answer
STAT_AHEAD = (8, 256)  # first and greatest number of entries proven ahead of the one asked for
WALK_AFTER = 2  # so many sibling directories listed one after another are a walk
WALK_WITHIN_S = 2.0
WALK_PAGES = 20  # most pages of one flat listing before the directory itself is listed
PROVE_AT_ONCE = 32  # as many requests as a mount has at a time
PROVE_TRIES = 5  # another version may take the name while one is being looked at
LAG_S = 60.0  # what we wrote within this time may be missing in a listing (stores that are eventual there)
ABSENT_MAX = 10_000  # remembered negative answers per directory


class Kernel(Protocol):
    """What the file system may ask of the kernel."""

    def invalidate_entry(self, parent_ino: int, name: str) -> None:
        """Forget a name; never blocks."""
        ...


@dataclass(slots=True)
class Listing:
    """One directory's part of what LIST told."""

    begun_at: float
    files: dict[str, ObjectInfo] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    marker: ObjectInfo | None = None
    hidden: int = 0

    def add_key(self, prefix: str, info: ObjectInfo) -> None:
        """Count an object directly below the prefix."""
        name = info.key[len(prefix) :]
        if name == "":
            self.marker = info
        elif is_showable(name):
            self.files[name] = info
        else:
            self.hidden += 1

    def add_folder(self, name: str) -> None:
        """Count a common prefix."""
        if is_showable(name):
            self.folders.add(name)
        else:
            self.hidden += 1


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
    ) -> None:
        self._tree = tree
        self._store = store
        self._nursery = nursery
        self._defaults = defaults
        self.ttl_s = ttl_s
        self._kernel = kernel
        self._hides = hides
        self._rules = rules
        self._proving: dict[Node, trio.Event] = {}
        self._ahead: dict[DirectoryNode, _StatAhead] = {}
        self._listing: dict[DirectoryNode, trio.Lock] = {}
        self._away_until = NEVER

    # -- freshness ----------------------------------------------------------------------------------

    def is_fresh(self, node: Node) -> bool:
        """Whether the node may be shown without asking the store."""
        if trio.current_time() - node.checked_at < self.ttl_s:
            return True
        return node.parent is None or bool(node.pending()) or (isinstance(node, FileNode) and node.dirty)

    def is_listed(self, directory: DirectoryNode) -> bool:
        """Whether all names of the directory are known and fresh."""
        return directory.local or trio.current_time() - directory.listed_at < self.ttl_s

    def timeout_s(self, node: Node) -> float:
        """How long the kernel may believe what it is told of a node. It asks for the root on every walk."""
        if node is self._tree.root or node.pending() or (isinstance(node, FileNode) and node.dirty):
            return self.ttl_s
        left_s = min(self.ttl_s, node.checked_at + self.ttl_s - trio.current_time())
        expiry = expiry_of(node.attributes)
        if expiry is not None:
            left_s = min(left_s, expiry.at_s - time.time())
        return max(0.0, left_s)

    def is_absent(self, parent: DirectoryNode, name: str) -> bool:
        """Whether a name that is no child is known not to exist."""
        if self.is_listed(parent) or self._is_gone(parent, name, trio.current_time()):
            return True
        return trio.current_time() - parent.absent.get(name, NEVER) < self.ttl_s

    def absent_timeout_s(self, parent: DirectoryNode, name: str) -> float:
        """How long the kernel may believe that a name does not exist."""
        if parent.local or name in parent.gone:
            return self.ttl_s
        asked_at = max(parent.listed_at, parent.absent.get(name, NEVER))
        return max(0.0, min(self.ttl_s, asked_at + self.ttl_s - trio.current_time()))

    def forget(self, directory: DirectoryNode) -> None:
        """Have the directory listed anew at the next chance."""
        directory.listed_at = NEVER
        directory.absent.clear()
        for child in directory.children.values():
            child.checked_at = NEVER

    # -- lookups ------------------------------------------------------------------------------------

    async def lookup(self, parent: DirectoryNode, name: str) -> Node | None:
        """The proven child of that name, or None if there is none."""
        child = await self._lookup(parent, name)
        return None if isinstance(child, FileNode) and self.expire(child) else child

    def expire(self, node: FileNode) -> bool:
        """Take a file away whose time has come; returns whether it has."""
        parent = node.parent
        if parent is None or not has_expired(node, time.time()) or node.version is None:
            return False
        self._supersede(node)
        parent.expired[node.name] = (node.version, node.modified_ns)
        return True

    async def expire_in(self, directory: DirectoryNode) -> None:
        """Take all files away whose time has come, also those that the listing tells no expiry of."""
        files = [child for child in directory.children.values() if isinstance(child, FileNode)]
        now_s = time.time()
        doubtful = [
            child
            for child in (files if self._rules.expires else ())
            if not child.proven and self._may_have_expired(child, now_s)
        ]
        limit = trio.CapacityLimiter(PROVE_AT_ONCE)

        async def prove(node: FileNode) -> None:
            async with limit:
                await self._or_stale(lambda: self.prove(node))

        async with trio.open_nursery() as nursery:
            for child in doubtful:
                nursery.start_soon(prove, child)
        for child in files:
            self.expire(child)

    def _may_have_expired(self, node: FileNode, now_s: float) -> bool:
        """Whether the rules let a file expire so soon after it was written."""
        least_s = self._rules.least_expiry_s(node.path)
        return least_s is not None and node.modified_ns / 1e9 + least_s <= now_s

    async def _lookup(self, parent: DirectoryNode, name: str) -> Node | None:
        child = parent.children.get(name)
        if child is not None and child.proven and self.is_fresh(child):
            return child
        if child is None and self.is_absent(parent, name):
            return None
        if not is_showable(name) or (parent.parent is None and name == RESERVED_ROOT):
            return None
        known = child if child is not None and child.proven else None
        if known is not None or (child is None and parent.listed_at > NEVER):
            await self._or_stale(lambda: self._refresh(parent, name))
        else:
            await self._refresh(parent, name)
        return await self._proven_child(parent, name, known)

    async def _proven_child(self, parent: DirectoryNode, name: str, known: Node | None) -> Node | None:
        """The child as programs may see it; what was `known` stands if the store did not answer."""
        for _ in range(PROVE_TRIES):
            child = parent.children.get(name)
            if child is None or child.proven:
                return child
            if child is known:
                child.proven = True
            else:
                await self.prove(child)
        raise StaleVersionError(f"{name!r} changes faster than it can be looked at")

    async def _or_stale(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Refresh what is known; if the store does not answer, what is known stands."""
        if trio.current_time() < self._away_until:
            return
        with trio.move_on_after(STALE_WAIT_S):
            try:
                await refresh()
            except (ObjectStoreError, ExceptionGroup) as error:
                log.debug("shown as last known: %s", error)
            else:
                return
        self._away_until = trio.current_time() + AWAY_S

    async def _refresh(self, parent: DirectoryNode, name: str) -> None:
        child = parent.children.get(name)
        if child is not None and self.is_fresh(child):
            await self.prove(child)
            return
        if not self.is_listed(parent) and not parent.large:
            await self._list_first_page(parent)
        child = parent.children.get(name)
        if child is not None and self.is_fresh(child):
            await self.prove(child)
        elif not self.is_absent(parent, name):
            await self._probe(parent, name)

    async def _probe(self, parent: DirectoryNode, name: str) -> None:
        """Ask for one name of a directory that is too large to be listed for it."""
        begun_at = trio.current_time()
        key = parent.prefix + name
        found: list[ObjectInfo] = []
        below: list[ObjectInfo] = []

        async def head() -> None:
            try:
                found.append(await self._store.head(key))
            except NotFoundError:
                return

        async def look_below() -> None:
            below.extend((await self._store.list(f"{key}/", max_keys=1)).objects)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(head)
            nursery.start_soon(look_below)
        if parent.prefix + name != key:
            await self._probe(parent, name)  # the directory was moved meanwhile: nothing was learnt
            return
        if not self._may_update(parent, name, begun_at):
            return
        if below:
            directory = self._show_directory(parent, name, begun_at)
            if below[0].key == f"{key}/":
                await self.prove(directory)
            else:
                self._prove_directory(directory, None, begun_at)
        elif found:
            self._show_file(parent, name, found[0], begun_at)
        else:
            self._vanish(parent, name, begun_at)
            if len(parent.absent) >= ABSENT_MAX:
                parent.absent.clear()
            parent.absent[name] = begun_at

    # -- listings -----------------------------------------------------------------------------------

    async def ensure_listed(self, directory: DirectoryNode, *, walking: bool = False) -> None:
        """Know all names of a directory, fresh.

        Args:
            directory: the one.
            walking: a program opened it; a sequence of such openings becomes one flat listing.
        """
        if self.is_listed(directory):
            return
        lock = self._listing.setdefault(directory, trio.Lock())
        try:
            async with lock:
                if self.is_listed(directory):
                    return
                if directory.listed_at > NEVER:
                    await self._or_stale(lambda: self._list(directory, walking=walking))
                else:
                    await self._list(directory, walking=walking)
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._listing.pop(directory, None)

    async def _list(self, directory: DirectoryNode, *, walking: bool) -> None:
        if walking and self._is_walk(directory) and await self._walk(directory):
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
            pages += 1
            for info in page.objects:
                listing.add_key(prefix, info)
            for folder in page.prefixes:
                listing.add_folder(folder[len(prefix) : -1])
            token = page.next_page
            if token is None or pages == max_pages:
                break
        if self._tree.moves != moves and directory.prefix != prefix:
            return False
        directory.large = pages > 1 or token is not None
        self._merge(directory, listing, complete=token is None)
        if token is None:
            await self._ask_for_ours(directory, listing)
        return True

    async def _ask_for_ours(self, directory: DirectoryNode, listing: Listing) -> None:
        """Ask for what we wrote lately and the listing lacks: some stores' listings come behind."""
        missing = [name for name, child in directory.children.items() if _may_lag(child, listing)]
        limit = trio.CapacityLimiter(PROVE_AT_ONCE)

        async def ask(name: str) -> None:
            async with limit:
                await self._probe(directory, name)

        async with trio.open_nursery() as nursery:
            for name in missing:
                nursery.start_soon(ask, name)

    # -- walks --------------------------------------------------------------------------------------

    def _is_walk(self, directory: DirectoryNode) -> bool:
        parent = directory.parent
        if parent is None:
            return False
        now = trio.current_time()
        if now - parent.walked_at > WALK_WITHIN_S:
            parent.opened_children = 0
        parent.walked_at = now
        parent.opened_children += 1
        return parent.opened_children > WALK_AFTER and self._store.capabilities.listing_ordered

    async def _walk(self, wanted: DirectoryNode) -> bool:
        """List flatly from `wanted` on, for all directories below its parent; False if it was too much."""
        top = wanted.parent
        if top is None or wanted.origin is not None:
            return False
        moves, begun_at = self._tree.moves, trio.current_time()
        prefix, start = top.prefix, wanted.prefix
        listings: dict[str, Listing] = {start: Listing(begun_at)}
        token: str | None = None
        for _ in range(WALK_PAGES):
            page = await self._store.list(
                prefix,
                start_after="" if token else f"{start[:-1]}.\U0010ffff",
                page=token,
                with_metadata=self._store.capabilities.listing_metadata,
            )
            if self._tree.moves != moves:
                return False
            last = ""
            for info in page.objects:
                if info.key >= start:
                    _sort_in(listings, prefix, info, begun_at)
                    last = info.key
            token = page.next_page
            done = [known for known in listings if token is None or not last.startswith(known)]
            taken = self._take_walked(top, {known: listings.pop(known) for known in done})
            for directory, listing in taken:
                await self._ask_for_ours(directory, listing)
            if start not in listings:
                return self.is_listed(wanted)
            if token is None:
                break
        return False

    def _take_walked(
        self, top: DirectoryNode, listings: dict[str, Listing]
    ) -> list[tuple[DirectoryNode, Listing]]:
        taken: list[tuple[DirectoryNode, Listing]] = []
        for prefix in sorted(listings):
            node = self._walked_to(top, prefix, listings[prefix].begun_at)
            if node is not None:
                self._merge(node, listings[prefix], complete=True)
                taken.append((node, listings[prefix]))
        return taken

    def _walked_to(self, top: DirectoryNode, prefix: str, begun_at: float) -> DirectoryNode | None:
        """The directory whose content the store has at a prefix, if it is still where its name says."""
        node, at = top, top.prefix
        for part in prefix[len(at) : -1].split("/"):
            if part not in node.children:
                self._discover(node, part, begun_at)
            child = node.children.get(part)
            at += f"{part}/"
            if not isinstance(child, DirectoryNode) or child.prefix != at or child.local:
                return None
            node = child
        return node

    def _discover(self, parent: DirectoryNode, name: str, begun_at: float) -> None:
        """A directory that a flat listing met below one that is not listed itself."""
        if is_showable(name) and self._may_update(parent, name, begun_at):
            self._show_directory(parent, name, begun_at)

    # -- merging ------------------------------------------------------------------------------------

    def _merge(self, directory: DirectoryNode, listing: Listing, *, complete: bool) -> None:
        begun_at = listing.begun_at
        if directory.parent is None:
            listing.folders.discard(RESERVED_ROOT)
            listing.files.pop(RESERVED_ROOT, None)
        clashes = [name for name in listing.files if name in listing.folders]
        for name in clashes:  # a key that is file and directory is shown as the directory
            del listing.files[name]
        directory.hidden = listing.hidden + len(clashes)
        for name, info in listing.files.items():
            if self._may_update(directory, name, begun_at):
                self._show_file(directory, name, info, begun_at)
        for name in listing.folders:
            if self._may_update(directory, name, begun_at):
                self._show_directory(directory, name, begun_at)
        self._take_marker(directory, listing)
        if not complete:
            return
        for name in list(directory.children):
            seen = name in listing.files or name in listing.folders
            lags = _may_lag(directory.children[name], listing)
            if not seen and not lags and self._may_update(directory, name, begun_at):
                self._vanish(directory, name, begun_at)
        directory.listed_at = begun_at
        directory.absent.clear()
        directory.expired = {name: one for name, one in directory.expired.items() if name in listing.files}
        directory.gone = {name: until for name, until in directory.gone.items() if until > begun_at}

    def _take_marker(self, directory: DirectoryNode, listing: Listing) -> None:
        if directory.parent is None or directory.pending() or directory.changed_at > listing.begun_at:
            return
        directory.marker = listing.marker is not None
        if listing.marker is None or listing.marker.metadata is not None:
            self._prove_directory(directory, listing.marker, listing.begun_at)

    def _may_update(self, parent: DirectoryNode, name: str, begun_at: float) -> bool:
        """Whether what the store told since `begun_at` may change what is shown under a name."""
        if self._is_gone(parent, name, begun_at):
            return False
        child = parent.children.get(name)
        if child is None or isinstance(child, DirectoryNode):
            return True
        return child.changed_at <= begun_at and not is_ours(child)

    def _is_gone(self, parent: DirectoryNode, name: str, begun_at: float) -> bool:
        """Whether a name was removed here later than `begun_at`, or its removal is still on its way."""
        until = parent.gone.get(name)
        if until is None:
            return False
        if until == PENDING and not self._hides(f"{parent.path}/{name}".lstrip("/")):
            until = parent.gone[name] = trio.current_time()
        return until > begun_at

    def _show_file(self, parent: DirectoryNode, name: str, info: ObjectInfo, at: float) -> None:
        node = parent.children.get(name)
        if isinstance(node, DirectoryNode) and is_ours(node):
            return
        if node is None and _is_expired_still(parent, name, info):
            return
        if isinstance(node, FileNode) and node.version == info.version:
            if info.metadata is None and _is_later(info.modified_ns, node.modified_ns):
                node.proven = False  # same bytes, put or copied anew: its attributes may differ
        else:
            if node is not None:
                self._supersede(node)
            attributes = default_attributes(self._defaults, directory=False, modified_ns=info.modified_ns)
            node = self._tree.new_file(name, attributes)
            node.version = info.version
            self._tree.attach(parent, name, node)
        node.checked_at = at
        node.modified_ns = info.modified_ns or node.modified_ns
        if info.metadata is not None:
            _learn_content(node, content_version(info))
            node.attributes = decode(info, self._defaults, directory=False)
            node.proven = True

    def _show_directory(self, parent: DirectoryNode, name: str, at: float) -> DirectoryNode:
        node = parent.children.get(name)
        if not isinstance(node, DirectoryNode):
            if node is not None:
                self._supersede(node)
            node = self._tree.new_directory(
                name, default_attributes(self._defaults, directory=True, modified_ns=0)
            )
            self._tree.attach(parent, name, node)
        elif not self.is_fresh(node):
            node.proven = False
        node.checked_at = at
        return node

    def _vanish(self, parent: DirectoryNode, name: str, begun_at: float) -> None:
        node = parent.children.get(name)
        if node is not None and not is_ours(node) and node.changed_at <= begun_at:
            self._supersede(node)

    def _supersede(self, node: Node) -> None:
        """Somebody else replaced or removed what the node stands for."""
        parent, name = node.parent, node.name
        if isinstance(node, FileNode):
            node.superseded = True
        self._tree.detach(node)
        if parent is not None:
            self._kernel.invalidate_entry(parent.ino, name)

    # -- proofs -------------------------------------------------------------------------------------

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

    async def _prove_one(self, node: Node) -> None:
        begun_at, key = trio.current_time(), node.key
        try:
            info = await self._store.head(key)
        except NotFoundError:
            info = None
        parent = node.parent
        if node.key != key:
            return  # it was moved meanwhile: nothing was learnt
        if parent is None or node.proven or not self._may_update(parent, node.name, begun_at):
            return
        if isinstance(node, DirectoryNode):
            self._prove_directory(node, info, begun_at)
        elif info is None:
            self._vanish(parent, node.name, begun_at)
        else:
            self._show_file(parent, node.name, info, begun_at)

    def _prove_directory(self, node: DirectoryNode, marker: ObjectInfo | None, at: float) -> None:
        node.marker = marker is not None
        if marker is not None:
            node.attributes = decode(marker, self._defaults, directory=True)
        elif not node.proven:
            node.attributes = default_attributes(
                self._defaults, directory=True, modified_ns=node.attributes.mtime_ns
            )
        node.proven = True
        node.checked_at = max(node.checked_at, at)

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


def _sort_in(listings: dict[str, Listing], top: str, info: ObjectInfo, begun_at: float) -> None:
    """Put a key of a flat listing into the listings of its directory and of all directories above."""
    prefix = info.key[: info.key.rfind("/") + 1]
    at = listings.get(prefix)
    if at is None:
        at = listings[prefix] = Listing(begun_at)
        child = prefix
        while len(child) > len(top):
            above = child[: child.rfind("/", 0, -1) + 1]
            if len(above) < len(top) or above == top:
                break
            known = above in listings
            listings.setdefault(above, Listing(begun_at)).add_folder(child[len(above) : -1])
            if known:
                break
            child = above
    at.add_key(prefix, info)


def _learn_content(node: FileNode, version: Version) -> None:
    """Take over what an object tells of its content, which listings do not."""
    before = node.version
    if before is None or before.decoded_bytes != version.decoded_bytes:
        node.object_id = ""
    node.version = version


def _is_later(modified_ns: int, before_ns: int) -> bool:
    """Whether Last-Modified moved on; one of the two may be in whole seconds."""
    if not before_ns or not modified_ns:
        return False
    return modified_ns // 1_000_000_000 > before_ns // 1_000_000_000


def _may_lag(node: Node, listing: Listing) -> bool:
    """Whether a listing that lacks an entry may be older than the entry."""
    is_seen = node.name in listing.files or node.name in listing.folders
    written_at = node.changed_at
    return not is_seen and written_at <= listing.begun_at < written_at + LAG_S


def _is_expired_still(parent: DirectoryNode, name: str, info: ObjectInfo) -> bool:
    """Whether an object is the one that was seen to have expired: nobody put its time off since."""
    version, modified_ns = parent.expired.get(name, (None, 0))
    if version is None or info.metadata is not None:
        return False
    return info.version == version and not _is_later(info.modified_ns, modified_ns)
