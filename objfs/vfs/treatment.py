"""How one file is stored, other than the rules say."""

from __future__ import annotations

import errno
import stat
import time
from typing import TYPE_CHECKING

from objfs.vfs.nodes import FileNode, Node
from objfs.vfs.treated import check_honoured, renew, wanted_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.protocol import AsyncObjectStore
    from objfs.vfs.changes import Changes
    from objfs.vfs.inspection import Inspection
    from objfs.vfs.values import VfsSettings


class Treatment:
    """Overrides the rules for single files, and puts off their expiry when they are read."""

    def __init__(
        self, store: AsyncObjectStore, changes: Changes, inspection: Inspection, settings: VfsSettings
    ) -> None:
        self._store = store
        self._changes = changes
        self._inspection = inspection
        self._settings = settings

    async def set_at(self, path: str, values: Mapping[str, object]) -> None:
        """Override the rules for one file; "" takes an override back.

        Raises:
            OSError: there is no such file, or a value is wrong.
        """
        node = await self._inspection.find(path)
        if node is None:
            raise OSError(errno.ENOENT, "no such file or directory")
        await self.set(node, values)

    async def set(self, node: Node, values: Mapping[str, object]) -> None:
        """See `set_at`."""
        if not isinstance(node, FileNode) or not stat.S_ISREG(node.attributes.mode):
            raise OSError(errno.EINVAL, "only plain files are stored by rules")
        if self._settings.read_only:
            raise OSError(errno.EROFS, "the mount is read-only")
        wanted = wanted_attributes(node, values, self._settings.rules, time.time_ns())
        if {"storage_class", "encryption"} & set(values):
            await check_honoured(self._store, wanted)
            wanted = wanted_attributes(node, values, self._settings.rules, time.time_ns())
        with self._changes.or_as_before(node):
            node.attributes = wanted
            self._changes.check_metadata(node)
            node.attributes.touch(content=False)
            self._changes.set_attributes(node)

    def note_read(self, node: FileNode) -> None:
        """Put off the expiry of a file that is opened for reading, where reads count: at most once a day."""
        if self._settings.read_only or node.parent is None or not node.proven or node.pending():
            return
        if renew(node.attributes, time.time()):
            self._changes.set_attributes(node)
