"""What a listing told of one directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from objfs.vfs.names import is_showable

if TYPE_CHECKING:
    from objfs.store.values import ObjectInfo
    from objfs.vfs.nodes import Node

LAG_S = 60.0  # what we wrote within this time may be missing in a listing (stores that are eventual there)


@dataclass(slots=True)
class Listing:
    """One directory's part of what LIST told."""

    begun_at: float
    files: dict[str, ObjectInfo] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    marker: ObjectInfo | None = None
    hidden: int = 0
    proven: dict[str, ObjectInfo | None] = field(default_factory=dict)
    """The markers, or that there is none, of folders that were looked at."""

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

    def leave_out_undecided(self, prefix: str, last: str) -> None:
        """Leave files out of which pages that are still to come, after `last`, may tell a folder."""
        self.files = {name: info for name, info in self.files.items() if f"{prefix}{name}/" <= last}

    def lacks(self, node: Node) -> bool:
        """Whether it did not tell an entry."""
        return node.name not in self.files and node.name not in self.folders

    def may_lag(self, node: Node) -> bool:
        """Whether the listing may lack an entry because that was changed shortly before."""
        return node.changed_at <= self.begun_at < node.changed_at + LAG_S


def sort_in(listings: dict[str, Listing], top: str, info: ObjectInfo, begun_at: float) -> None:
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
