"""What a mount lets be seen of itself: counters, live requests, single files."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from objfs import __version__
from objfs.control.figures import Counters
from objfs.control.tracing import Tracer
from objfs.errors import MountError

if TYPE_CHECKING:
    from objfs.config import MountSettings
    from objfs.control.figures import Figures, Sources
    from objfs.vfs.inspection import FileStatus, Inspection


class Places:
    """Paths by inode, once there is a file system."""

    def __init__(self) -> None:
        self.inspection: Inspection | None = None

    def path_of(self, ino: int) -> str:
        """Path below the mount's root."""
        return "?" if self.inspection is None else self.inspection.path_of(ino)


class View:
    """One mount's."""

    def __init__(self, settings: MountSettings, sources: Sources, places: Places) -> None:
        self.tracer = Tracer(sources.operations, sources.describer)
        self._places = places
        self._counters = Counters(settings, sources, version=__version__, started_s=time.time())

    async def figures(self) -> Figures:
        """All counters, now."""
        return await self._counters.read()

    async def inspect(self, path: str) -> FileStatus:
        """What is known of a path below the mount's root.

        Raises:
            MountError: there is nothing.
        """
        inspection = self._places.inspection
        if inspection is None:
            raise MountError("the mount is not there yet, or has gone already.")
        found = await inspection.inspect(path)
        if found is None:
            raise MountError("there is no such file in the mount.")
        return found
