"""What becomes of staged files once the store has their bytes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from objfs.store.threads import in_thread
from objfs.store.values import MIB, Version
from objfs.vfs.content import object_id

if TYPE_CHECKING:
    import trio

    from objfs.read.reader import Reader
    from objfs.vfs.nodes import FileNode
    from objfs_cache.staged import StagedFile

log = logging.getLogger(__name__)

KEEP_BYTES = 64 * MIB  # uploaded files up to this size go into the block cache; larger ones would flush it


class Retirement:
    """Moves the bytes of uploaded files into the block cache, and gives the staged files up."""

    def __init__(self, reader: Reader, nursery: trio.Nursery) -> None:
        self._reader = reader
        self._nursery = nursery

    def retire(self, node: FileNode, staged: StagedFile) -> None:
        """An uploaded staged file has served; its bytes go into the block cache."""
        version = node.version
        if version is None or staged.length > KEEP_BYTES or not staged.complete:
            staged.discard()
            return
        self._nursery.start_soon(self._keep, object_id(node), version, staged)

    async def _keep(self, name: str, version: Version, staged: StagedFile) -> None:
        try:
            for start in range(0, staged.length, MIB):
                length = min(MIB, staged.length - start)
                data = await in_thread(staged.read, start, length)
                self._reader.insert(name, version, start, data)
        except OSError as error:
            log.warning("an uploaded file could not be kept in the cache: %s", error)
        finally:
            staged.discard()
