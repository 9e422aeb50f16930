"""Extended attributes: those of programs, and those by which a file tells, and is told, how it is stored."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from objfs.vfs.inspection import STATUS_XATTR, Inspection
from objfs.vfs.nodes import FileNode, Node
from objfs.vfs.treated import XATTR_PREFIX, parse_value, xattr_value

if TYPE_CHECKING:
    from objfs.vfs.changes import Changes
    from objfs.vfs.places import Places
    from objfs.vfs.treatment import Treatment

_NAMESPACES = frozenset({"user", "trusted", "security"})


class Xattrs:
    """Reads and changes extended attributes."""

    def __init__(
        self, places: Places, changes: Changes, inspection: Inspection, treatment: Treatment
    ) -> None:
        self._places = places
        self._changes = changes
        self._inspection = inspection
        self._treatment = treatment

    async def get(self, ino: int, name: str) -> bytes:
        """One extended attribute."""
        _check_xattr(name)
        if name == STATUS_XATTR:
            return await self._inspection.as_text(self._places.current(ino))
        if name.startswith(XATTR_PREFIX):
            own = self._places.current(ino)
            found = xattr_value(own, name) if isinstance(own, FileNode) else None
            if found is None:
                raise OSError(errno.ENODATA, "not set")
            return found
        value = self._places.current(ino).attributes.xattrs.get(name)
        if value is None:
            raise OSError(errno.ENODATA, "no such attribute")
        return value

    async def names(self, ino: int) -> list[str]:
        """Names of all extended attributes."""
        return sorted(self._places.current(ino).attributes.xattrs)

    async def set(self, ino: int, name: str, value: bytes) -> None:
        """Set one extended attribute; ENOSPC where the store could not hold it."""
        _check_xattr(name)
        node = await self._places.looked_at(ino)
        if name.startswith(XATTR_PREFIX):
            await self._override(node, name, os.fsdecode(value))
            return
        with self._changes.or_as_before(node):
            node.attributes.xattrs[name] = value
            self._changes.check_metadata(node)
            node.attributes.touch(content=False)
            self._changes.set_attributes(node)

    async def remove(self, ino: int, name: str) -> None:
        """Remove one extended attribute."""
        _check_xattr(name)
        node = await self._places.looked_at(ino)
        if name.startswith(XATTR_PREFIX):
            if not isinstance(node, FileNode) or xattr_value(node, name) is None:
                raise OSError(errno.ENODATA, "not set")
            await self._override(node, name, "")
            return
        with self._changes.or_as_before(node):
            if node.attributes.xattrs.pop(name, None) is None:
                raise OSError(errno.ENODATA, "no such attribute")
            node.attributes.touch(content=False)
            self._changes.set_attributes(node)

    async def _override(self, node: Node, name: str, text: str) -> None:
        key = name.removeprefix(XATTR_PREFIX)
        try:
            value = parse_value(key, text)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from error
        await self._treatment.set(node, {key: value})


def _check_xattr(name: str) -> None:
    """Only names in a namespace, as on a local disk (xattr(7)), but for `system.`: there are no access lists.

    Who sets one of those expects that it changes the mode (acl(5)), and then sets no mode.
    """
    namespace, dot, rest = name.partition(".")
    if not dot or namespace not in _NAMESPACES:
        raise OSError(errno.ENOTSUP, "there is no such namespace of attributes")
    if not rest:
        raise OSError(errno.EINVAL, "the attribute has no name")
