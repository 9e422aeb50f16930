"""What programs ask of a mount: how often, how long it took, what went wrong, and what is under way.

Everything here runs on the event loop, for every request of the kernel.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from objfs.observe.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

# Requests of the kernel that are answered by a handler, in the order people look for them.
OPERATIONS = (
    "lookup",
    "getattr",
    "setattr",
    "readlink",
    "opendir",
    "readdir",
    "releasedir",
    "fsyncdir",
    "mkdir",
    "rmdir",
    "create",
    "mknod",
    "symlink",
    "link",
    "open",
    "read",
    "write",
    "flush",
    "fsync",
    "release",
    "unlink",
    "rename",
    "getxattr",
    "setxattr",
    "listxattr",
    "removexattr",
    "statfs",
)


class Call:
    """One request under way.

    Attributes:
        operation: one of OPERATIONS.
        arguments: as the handler got them.
        began_s: of `time.perf_counter`.
    """

    __slots__ = ("arguments", "began_s", "operation")

    def __init__(self, operation: str, arguments: tuple[object, ...], began_s: float) -> None:
        self.operation = operation
        self.arguments = arguments
        self.began_s = began_s


class Operations:
    """Counters of one mount since it began.

    Attributes:
        durations: by operation.
        errors: number of failures by operation and errno.
        running: requests that were not answered yet.
        openers: by handle, process that opened it and inode; reads and writes do not tell theirs.
        read_bytes, written_bytes: as programs saw them; what the kernel's page cache answered is not seen.
        tap: is told of each request that was answered: call, seconds, errno (0: none), result.
    """

    def __init__(self) -> None:
        self.durations = {name: Histogram() for name in OPERATIONS}
        self.errors: dict[tuple[str, int], int] = {}
        self.running: set[Call] = set()
        self.openers: dict[int, tuple[int, int]] = {}
        self.read_bytes = 0
        self.written_bytes = 0
        self.tap: Callable[[Call, float, int, object], None] | None = None

    def begin(self, operation: str, arguments: tuple[object, ...]) -> Call:
        """A request has come."""
        call = Call(operation, arguments, perf_counter())
        self.running.add(call)
        return call

    def end(self, call: Call, number: int, result: object) -> None:
        """It is answered; `number` is the errno, 0 for none."""
        elapsed_s = perf_counter() - call.began_s
        self.running.discard(call)
        self.durations[call.operation].add(elapsed_s)
        if number:
            key = (call.operation, number)
            self.errors[key] = self.errors.get(key, 0) + 1
        if self.tap is not None:
            self.tap(call, elapsed_s, number, result)
