"""Walks over many directories: noticed, and turned into flat listings of a thousand keys each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from objfs.vfs.listings import Listing, sort_in
from objfs.vfs.names import is_showable
from objfs.vfs.nodes import DirectoryNode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from objfs.store.protocol import AsyncObjectStore
    from objfs.vfs.freshness import Freshness
    from objfs.vfs.last_known import LastKnown
    from objfs.vfs.mirror import Mirror
    from objfs.vfs.tree import Tree

WALK_AFTER = 2  # so many sibling directories listed one after another are a walk
WALK_WITHIN_S = 2.0
WALK_PAGES = 20  # most pages of one flat listing before the directory itself is listed


class Walks:
    """Lists whole trees for whoever walks through them."""

    def __init__(
        self,
        tree: Tree,
        store: AsyncObjectStore,
        freshness: Freshness,
        mirror: Mirror,
        last_known: LastKnown,
    ) -> None:
        self._tree = tree
        self._store = store
        self._freshness = freshness
        self._mirror = mirror
        self._last_known = last_known

    def is_walk(self, directory: DirectoryNode) -> bool:
        """Count an opened directory; returns whether a program goes from one sibling to the next."""
        parent = directory.parent
        if parent is None:
            return False
        now = trio.current_time()
        if now - parent.walked_at > WALK_WITHIN_S:
            parent.opened_children = 0
        parent.walked_at = now
        parent.opened_children += 1
        return parent.opened_children > WALK_AFTER and self._store.capabilities.listing_ordered

    async def walk(
        self, wanted: DirectoryNode, ask_for: Callable[[DirectoryNode, Sequence[str]], Awaitable[None]]
    ) -> bool:
        """List flatly from `wanted` on, for all directories below its parent; False if it was too much.

        Args:
            wanted: the directory that is to be listed now.
            ask_for: called with what a listing lacks and may be there, for each that was put into the tree.
        """
        top = wanted.parent
        if top is None or wanted.origin is not None:
            return False
        moves, begun_at = self._tree.moves, trio.current_time()
        prefix, start = top.prefix, wanted.prefix
        listings: dict[str, Listing] = {start: Listing(begun_at)}
        token: str | None = None
        last = start  # how far the pages have told; there are some without any key
        for _ in range(WALK_PAGES):
            page = await self._store.list(
                prefix,
                start_after="" if token else f"{start[:-1]}.\U0010ffff",
                page=token,
                with_metadata=self._store.capabilities.listing_metadata,
            )
            self._last_known.heard()
            if self._tree.moves != moves:
                return False
            for info in page.objects:
                if info.key >= start:
                    sort_in(listings, prefix, info, begun_at)
                    last = info.key
            token = page.next_page
            done = [known for known in listings if token is None or not last.startswith(known)]
            missing = self._take_walked(top, {known: listings.pop(known) for known in done})
            for directory, names in missing:
                await ask_for(directory, names)
            if start not in listings:
                return self._freshness.is_listed(wanted)
            if token is None:
                break
        return False

    def _take_walked(
        self, top: DirectoryNode, listings: dict[str, Listing]
    ) -> list[tuple[DirectoryNode, list[str]]]:
        missing: list[tuple[DirectoryNode, list[str]]] = []
        for prefix in sorted(listings):
            node = self._walked_to(top, prefix, listings[prefix].begun_at)
            if node is not None:
                missing.append((node, self._mirror.merge(node, listings[prefix], complete=True)))
        return missing

    def _walked_to(self, top: DirectoryNode, prefix: str, begun_at: float) -> DirectoryNode | None:
        """The directory whose content the store has at a prefix, if it is still where its name says.

        Names that were removed before it was made are unknown in it: what is older is not for it.
        """
        node, at = top, top.prefix
        for part in prefix[len(at) : -1].split("/"):
            if part not in node.children:
                self._discover(node, part, begun_at)
            child = node.children.get(part)
            at += f"{part}/"
            if not isinstance(child, DirectoryNode) or child.prefix != at:
                return None
            if child.local or child.changed_at > begun_at:  # perhaps it was made since
                return None
            node = child
        return node

    def _discover(self, parent: DirectoryNode, name: str, begun_at: float) -> None:
        """A directory that a flat listing met below one that is not listed itself."""
        if is_showable(name) and self._mirror.may_update(parent, name, begun_at):
            self._mirror.show_directory(parent, name, begun_at)
