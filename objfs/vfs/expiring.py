"""Files whose time has come are taken away: from lookups one by one, from listings all at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from objfs.store.parallel import for_each
from objfs.vfs.nodes import DirectoryNode, FileNode
from objfs.vfs.proving import PROVE_AT_ONCE
from objfs.vfs.treated import has_expired

if TYPE_CHECKING:
    from objfs.upload.rules import RuleSet
    from objfs.vfs.last_known import LastKnown
    from objfs.vfs.mirror import Mirror
    from objfs.vfs.proving import Prover


class Expiring:
    """Takes expired files out of the tree; `objfs expire` deletes their objects."""

    def __init__(self, mirror: Mirror, prover: Prover, last_known: LastKnown, rules: RuleSet) -> None:
        self._mirror = mirror
        self._prover = prover
        self._last_known = last_known
        self._rules = rules

    def expire(self, node: FileNode) -> bool:
        """Take a file away whose time has come; returns whether it has."""
        parent = node.parent
        if parent is None or not has_expired(node, time.time()) or node.version is None:
            return False
        self._mirror.supersede(node)
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
        await for_each(
            doubtful,
            lambda child: self._last_known.or_stale(lambda: self._prover.prove(child)),
            at_once=PROVE_AT_ONCE,
        )
        for child in files:
            self.expire(child)

    def _may_have_expired(self, node: FileNode, now_s: float) -> bool:
        """Whether the rules let a file expire so soon after it was written."""
        least_s = self._rules.least_expiry_s(node.path)
        return least_s is not None and node.modified_ns / 1e9 + least_s <= now_s
