"""What some requests leave in the counters besides time and errno: bytes, and who opened a handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from objfs.observe.operations import Operations


def _read(operations: Operations, _arguments: Any, data: Any) -> None:  # noqa: ANN401  # of any handler
    operations.read_bytes += len(data)


def _written(operations: Operations, _arguments: Any, count: Any) -> None:  # noqa: ANN401
    operations.written_bytes += count


def _opened(operations: Operations, arguments: Any, info: Any) -> None:  # noqa: ANN401
    operations.openers[info.fh] = (arguments[-1].pid, arguments[0])


def _created(operations: Operations, arguments: Any, answer: Any) -> None:  # noqa: ANN401
    operations.openers[answer[0].fh] = (arguments[-1].pid, answer[1].st_ino)


def _listed(operations: Operations, arguments: Any, handle: Any) -> None:  # noqa: ANN401
    operations.openers[handle] = (arguments[-1].pid, arguments[0])


def _released(operations: Operations, arguments: Any, _result: Any) -> None:  # noqa: ANN401
    operations.openers.pop(arguments[0], None)


# By handler: called with its arguments and its result, after every request that did not fail.
AFTERWARDS: Mapping[str, Callable[[Operations, Any, Any], None]] = {
    "read": _read,
    "write": _written,
    "open": _opened,
    "create": _created,
    "opendir": _listed,
    "release": _released,
    "releasedir": _released,
}
