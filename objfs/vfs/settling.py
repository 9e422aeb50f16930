"""Waiting until the store has what a program was told: write-through mode, and fsync=remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from objfs.errors import UnavailableError
from objfs.upload.operations import State

if TYPE_CHECKING:
    from objfs.upload.operations import Operation
    from objfs.upload.uploader import Uploader
    from objfs.vfs.nodes import Node
    from objfs.vfs.values import VfsSettings


class Settling:
    """Waits for operations of the uploader, where the settings want it."""

    def __init__(self, uploader: Uploader, settings: VfsSettings) -> None:
        self._uploader = uploader
        self._settings = settings

    async def node(self, node: Node) -> None:
        """In write-through mode, wait until the store has the node's changes."""
        if self._settings.write_mode == "back":
            return
        await self.stored([operation for operation in node.pending() if not operation.held])

    async def removal(self, operation: Operation | None) -> None:
        """In write-through mode, wait until the store has removed it too."""
        if self._settings.write_mode == "through" and operation is not None:
            await self.stored([operation])

    async def stored(self, operations: list[Operation]) -> None:
        """Wait until the store has these, as long as it takes while the store answers."""
        for operation in operations:
            while operation.state is not State.DONE:
                with trio.move_on_after(self._settings.store_timeout_s) as scope:
                    await self._uploader.settle(operation)
                status = self._uploader.status()
                if scope.cancelled_caught and status.offline_since_s is not None:
                    raise UnavailableError(status.last_error or "no answer", key=operation.path)
