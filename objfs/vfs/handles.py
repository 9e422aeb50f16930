"""Open files and directories."""

from __future__ import annotations

import errno
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from objfs.read.window import ReadStream
    from objfs.vfs.nodes import DirectoryNode, FileNode


@dataclass(slots=True, eq=False)
class FileHandle:
    """One open file."""

    node: FileNode
    stream: ReadStream
    writable: bool


@dataclass(slots=True, eq=False)
class DirectoryHandle:
    """One open directory.

    Attributes:
        asked_at: trio time at which it was opened, and looked into.
        names: those of the time it was read from its beginning.
        is_begun: it has been read.
    """

    node: DirectoryNode
    asked_at: float
    names: list[str] = field(default_factory=list)
    is_begun: bool = False


Handle = TypeVar("Handle", FileHandle, DirectoryHandle)


class Handles:
    """Handles by number; numbers are not used twice."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, FileHandle | DirectoryHandle] = {}

    def add(self, handle: FileHandle | DirectoryHandle) -> int:
        """Give a handle its number."""
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def get(self, number: int, kind: type[Handle]) -> Handle:
        """The handle of a number.

        Raises:
            OSError: EBADF.
        """
        handle = self._open.get(number)
        if not isinstance(handle, kind):
            raise OSError(errno.EBADF, "no such handle")
        return handle

    def remove(self, number: int, kind: type[Handle]) -> Handle:
        """Take a handle out."""
        handle = self.get(number, kind)
        del self._open[number]
        return handle
