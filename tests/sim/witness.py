"""A witness of the store: whose version was destroyed by whom, and what the mount could know of it.

Nobody's bytes are lost in silence. What our programs wrote is in the store in the end, under its name or in
a conflict copy, unless somebody else replaced it there. What others wrote goes only if the mount had seen it
when a program of ours acted on that name.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = re.compile(rb"<[a-z0-9-]+>")


@dataclass
class Witness:
    """What happened, by simulated time.

    Attributes:
        content: of all objects now.
        theirs: by content, when somebody else wrote it last.
        seen: by content, when the mount first saw it.
        compared: by key, when the mount last looked.
        acts: by path, when programs changed it (or everything below it).
        taken: contents that others replaced or deleted.
        violations: what must not be.
        windows: losses in the moment between a comparison and a request that knows no condition.
    """

    now: Callable[[], float]
    content: Callable[[], dict[str, bytes]]
    theirs: dict[bytes, float] = field(default_factory=dict)
    seen: dict[bytes, float] = field(default_factory=dict)
    compared: dict[str, float] = field(default_factory=dict)
    acts: dict[str, list[float]] = field(default_factory=dict)
    taken: list[bytes] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    windows: int = 0

    def foreign_write(self, data: bytes, before: bytes | None) -> None:
        """Somebody else stored something, and replaced what was there."""
        self.theirs[data] = self.now()
        if before is not None:
            self.taken.append(before)

    def foreign_delete(self, before: bytes) -> None:
        """Somebody else deleted something."""
        self.taken.append(before)

    def forked(self, content: Callable[[], dict[str, bytes]]) -> Witness:
        """One who has seen the same, for a store beside this one."""
        known = ("theirs", "seen", "compared", "acts", "taken")
        return Witness(self.now, content, **{name: copy.deepcopy(getattr(self, name)) for name in known})

    def rival_changed(self, data: bytes | None, before: bytes | None) -> None:
        """Another mount replaced, made or deleted an object; it may also have moved what is ours."""
        if data is not None and b"<rival-" in data:
            self.theirs.setdefault(data, self.now())
        if before is not None and before != data:
            self.taken.append(before)

    def act(self, path: str) -> None:
        """A program has changed a path (and everything below it)."""
        self.acts.setdefault(path, []).append(self.now())

    def saw(self, key: str, data: bytes | None, *, compared: bool) -> None:
        """The store told the mount what is under a key; `compared` if it was asked for that alone."""
        if compared:
            self.compared[key] = self.now()
        if data is not None:
            self.seen.setdefault(data, self.now())

    def changed(
        self, request: str, key: str, before: bytes | None, *, sent_s: float, conditional: bool
    ) -> None:
        """A request of the mount took effect on a key, and `before` is no longer there."""
        compared_s = self.compared.get(key, -math.inf)
        self.compared[key] = self.now()
        if before is None or before not in self.theirs:
            return
        if before in self.taken or before in self.content().values():
            return  # it was kept elsewhere
        acted_s = self._acted_s(key, sent_s)
        written_s, seen_s = self.theirs[before], self.seen.get(before, math.inf)
        if seen_s <= acted_s:
            return
        if not conditional and acted_s <= compared_s < written_s:
            self.windows += 1
            return
        self.violations.append(
            f"{request} {key} destroyed {before[:24]!r} of others, written at {written_s:.3f}, first seen at "
            f"{seen_s:.3f}; a program acted at {acted_s:.3f}, and the mount compared at {compared_s:.3f}"
        )

    def _acted_s(self, key: str, until_s: float) -> float:
        """When a program last changed the name of a key, or a directory above it, until then."""
        path = key.partition(".conflict-")[0]
        parts = path.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        acts = [at for one in above for at in self.acts.get(one, ()) if at <= until_s]
        return max(acts, default=-math.inf)


def marks(data: bytes) -> set[bytes]:
    """The marks that are whole in some bytes."""
    return set(MARK.findall(data))
