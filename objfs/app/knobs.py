"""What of a running mount can be turned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.control.pinning import PINNED_SHARE
from objfs.control.remount import refuse_less_than_pinned

if TYPE_CHECKING:
    from objfs.app.local import Local
    from objfs.control.life import MountLife
    from objfs.store.pace import Rates, Traffic
    from objfs.vfs.filesystem import FileSystem


class MountKnobs:
    """See `objfs.control.remount.Knobs`.

    Attributes:
        filesystem: None until the mount is served.
    """

    def __init__(self, local: Local, life: MountLife, traffic: Traffic) -> None:
        self.filesystem: FileSystem | None = None
        self._local = local
        self._life = life
        self._traffic = traffic

    def set_cache_bytes(self, count: int) -> None:
        """Size of blocks and staged files. Raises MountError if more is pinned."""
        refuse_less_than_pinned(self._local.blocks.pinned_bytes(), int(count * PINNED_SHARE))
        self._local.blocks.set_limit(count)
        self._local.staging.set_budget(count)

    def set_drain_timeout_s(self, timeout_s: float) -> None:
        """How long uploads go on once the mount was taken away."""
        self._life.set_drain_timeout(timeout_s)

    def set_metadata_ttl_s(self, ttl_s: float) -> None:
        """How long names and attributes are believed."""
        if self.filesystem is not None:
            self.filesystem.set_metadata_ttl(ttl_s)

    def set_rates(self, rates: Rates) -> None:
        """Limits per second."""
        self._traffic.set(rates)
