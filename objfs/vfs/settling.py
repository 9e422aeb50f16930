"""Waiting until the store has what a program was told: write-through mode, and fsync=remote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from objfs.errors import UnavailableError
from objfs.upload.operations import State
from objfs.vfs.nodes import FileNode

if TYPE_CHECKING:
    from objfs.upload.operations import Operation
    from objfs.upload.uploader import Uploader
    from objfs.vfs.changes import Changes
    from objfs.vfs.nodes import Node
    from objfs.vfs.owners import Owners
    from objfs.vfs.values import VfsSettings


class Settling:
    """Waits for operations of the uploader, where the settings want it."""

    def __init__(self, uploader: Uploader, owners: Owners, changes: Changes, settings: VfsSettings) -> None:
        self._uploader = uploader
        self._owners = owners
        self._changes = changes
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

    async def below(self, path: str) -> None:
        """With fsync=remote, wait until the store has what was changed in a directory."""
        if self._settings.fsync == "remote":
            changes = [one for one in self._uploader.ledger if one.is_in(path) and not one.held]
            await self.stored(changes)

    async def stored(self, operations: list[Operation]) -> None:
        """Wait until the store has these, as long as it takes while the store answers."""
        await self._send_off(operations)
        for operation in operations:
            while operation.state is not State.DONE:
                with trio.move_on_after(self._settings.store_timeout_s) as scope:
                    await self._uploader.settle(operation)
                status = self._uploader.status()
                if scope.cancelled_caught and status.offline_since_s is not None:
                    raise UnavailableError(status.last_error or "no answer", key=operation.path)

    async def _send_off(self, operations: list[Operation]) -> None:
        """Nothing of these, and of what they wait for, is changed any more.

        Else one program would wait as long as another goes on writing, which writes into a new one now.
        """
        rest = self._uploader.hurry(operations)
        while rest:
            held = rest.pop()
            node = self._owners.find(held)
            if isinstance(node, FileNode):
                async with node.exclusively():
                    self._changes.commit(node)
                    rest += [one for one in self._uploader.hurry([held]) if one is not held]
