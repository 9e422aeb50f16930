"""Requests of the kernel in words: who asked for what, and what the answer was."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from objfs.observe.operations import Call, Operations

_ACCESS = {os.O_RDONLY: "O_RDONLY", os.O_WRONLY: "O_WRONLY", os.O_RDWR: "O_RDWR"}
_FLAGS = ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_SYNC", "O_DIRECT", "O_NOFOLLOW")
_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}
Arguments = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One request.

    Attributes:
        pid: the process that asked, or, of requests that do not tell, the one that opened the handle; 0 for
            the kernel itself, and for processes of other PID namespaces.
        path: below the mount's root.
        result: a number of bytes, a kind of file, or None where there is nothing to tell.
        error: errno's name.
    """

    pid: int
    path: str
    arguments: Arguments = field(default_factory=dict)
    result: int | str | None = None
    error: str | None = None


class Describer:
    """Knows what the arguments of each handler are.

    Args:
        operations: tells who opened a handle.
        path_of: the path of an inode.
    """

    def __init__(self, operations: Operations, path_of: Callable[[int], str]) -> None:
        self._operations = operations
        self._path_of = path_of

    def describe(self, call: Call, number: int, result: object) -> Described:
        """One request that was answered with errno `number` (0: none) and `result`."""
        operation, given = call.operation, call.arguments
        arguments = _ARGUMENTS.get(operation, _no_arguments)(given, self._name)
        error = errno.errorcode.get(number, str(number)) if number else None
        shown = None if number else _result(operation, result)
        if operation == "lookup" and shown == "missing":
            shown, error = None, "ENOENT"
        return Described(
            pid=self._pid(operation, given),
            path=self.path(call),
            arguments=arguments,
            result=shown,
            error=error,
        )

    def path(self, call: Call) -> str:
        """What a request is about."""
        operation, given = call.operation, call.arguments
        if operation == "statfs":
            return "."
        if operation in _BY_NAME:
            return self._name(given[0], given[1])
        if operation in _BY_HANDLE:
            return self._path_of(self._operations.openers.get(_number(given[0]), (0, -1))[1])
        return self._path_of(_number(given[0]))

    def _name(self, parent: Any, name: Any) -> str:  # noqa: ANN401  # as the kernel gave them
        folder = self._path_of(parent)
        text = os.fsdecode(name)
        return text if folder == "." else f"{folder}/{text}"

    def _pid(self, operation: str, given: tuple[Any, ...]) -> int:
        if operation in _BY_HANDLE:
            return self._operations.openers.get(given[0], (0, -1))[0]
        pid: int = given[-1].pid
        return pid


_BY_NAME = frozenset({"lookup", "symlink", "unlink", "rename", "mkdir", "rmdir", "create", "mknod"})
_BY_HANDLE = frozenset({"readdir", "releasedir", "fsyncdir", "read", "write", "flush", "fsync", "release"})


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _no_arguments(_given: Any, _name: Any) -> Arguments:  # noqa: ANN401
    return {}


def _open_flags(flags: int) -> str:
    names = [_ACCESS.get(flags & os.O_ACCMODE, "?")]
    names += [name for name in _FLAGS if flags & getattr(os, name) == getattr(os, name)]
    return "|".join(names)


def _setattr(given: Any, _name: Any) -> Arguments:  # noqa: ANN401
    attributes, fields = given[1], given[2]
    found: Arguments = {}
    if fields.update_mode:
        found["mode"] = f"{stat.S_IMODE(attributes.st_mode):04o}"
    if fields.update_size:
        found["size"] = attributes.st_size
    for name in ("uid", "gid"):
        if getattr(fields, f"update_{name}"):
            found[name] = getattr(attributes, f"st_{name}")
    for name in ("atime", "mtime"):
        if getattr(fields, f"update_{name}"):
            found[name] = getattr(attributes, f"st_{name}_ns") / 1e9
    return found


# By operation: what is told of the arguments besides the path.
_ARGUMENTS: Mapping[str, Callable[[Any, Any], Arguments]] = {
    "setattr": _setattr,
    "symlink": lambda given, _name: {"target": os.fsdecode(given[2])},
    "link": lambda given, name: {"to": name(given[1], given[2])},
    "rename": lambda given, name: {"to": name(given[2], given[3])},
    "mkdir": lambda given, _name: {"mode": f"{stat.S_IMODE(given[2]):04o}"},
    "mknod": lambda given, _name: {"mode": f"{given[2]:o}"},
    "create": lambda given, _name: {
        "flags": _open_flags(given[3]),
        "mode": f"{stat.S_IMODE(given[2]):04o}",
    },
    "open": lambda given, _name: {"flags": _open_flags(given[1])},
    "read": lambda given, _name: {"offset": given[1], "size": given[2]},
    "write": lambda given, _name: {"offset": given[1], "size": len(given[2])},
    "readdir": lambda given, _name: {"start": given[1]},
    "getxattr": lambda given, _name: {"name": os.fsdecode(given[1])},
    "setxattr": lambda given, _name: {"name": os.fsdecode(given[1]), "size": len(given[2])},
    "removexattr": lambda given, _name: {"name": os.fsdecode(given[1])},
}


def _result(operation: str, result: Any) -> int | str | None:  # noqa: ANN401
    if operation in ("read", "getxattr"):
        return len(result)
    if operation == "write":
        count: int = result
        return count
    if operation == "readlink":
        return os.fsdecode(result)
    if operation in ("lookup", "getattr"):
        if not result.st_ino:
            return "missing"
        kind = _KINDS.get(stat.S_IFMT(result.st_mode), "special")
        return f"{kind}, {result.st_size} bytes" if kind == "file" else kind
    return None
