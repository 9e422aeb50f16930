"""The blocking client of control sockets, for the command line."""

from __future__ import annotations

import os
import select
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from objfs.control import protocol
from objfs.control.values import progress_from_json, status_from_json
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from objfs.control.figures import Figures
    from objfs.control.tracing import TraceEvent
    from objfs.control.values import DrainProgress, MountStatus

_ANSWER_TIMEOUT_S = 8.0  # a status asks the store and gives it 3 s; the rest is a busy machine


class NoAnswerError(MountError):
    """Nobody answers at the control socket."""


class ControlClient:
    """One connection to a running mount."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lines = connection.makefile("rb")
        self.pid, self.uid = protocol.peer_pid_and_uid(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._lines.close()
        self._socket.close()

    def status(self) -> MountStatus:
        """What the mount tells of itself."""
        return status_from_json(self._ask({"command": "status"}))

    def figures(self) -> Figures:
        """All counters of the mount."""
        from objfs.control.figures import figures_from_json

        return figures_from_json(self._ask({"command": "figures"}))

    def stat(self, path: str) -> dict[str, Any]:
        """What is known of a path below the mount's root: the fields of `objfs.vfs.inspection.FileStatus`.

        Raises:
            MountError: there is no such file.
        """
        return self._ask({"command": "stat", "path": path})

    def trace(self, path: str, operations: Sequence[str], least_s: float) -> Iterator[TraceEvent | int]:
        """Live requests from now until the mount ends: events, and at times how many were dropped so far."""
        request = {"command": "trace", "path": path, "operations": [*operations], "least_s": least_s}
        self._send(request)
        if "progress" not in (answer := self._receive()):
            _result(answer)
        self._socket.settimeout(None)
        return self._events()

    def _events(self) -> Iterator[TraceEvent | int]:
        from objfs.control.tracing import event_from_json

        while answer := self._receive_or_end() or {}:
            if "event" in answer:
                yield event_from_json(answer["event"])
            elif "dropped" in answer:
                yield int(answer["dropped"])

    def drain(self, *, retry_parked: bool = False) -> Iterator[DrainProgress]:
        """Wait until nothing waits for its upload, with a progress every fraction of a second.

        Args:
            retry_parked: try what the store refused once more.
        """
        self._send({"command": "drain", "retry_parked": retry_parked})
        while "progress" in (answer := self._receive()):
            yield progress_from_json(answer["progress"])
        _result(answer)

    def unmount(self, *, drain: bool) -> None:
        """Take the mount away; afterwards `wait_for_end` tells when objfs is gone.

        Raises:
            MountError: it is in use.
        """
        self._ask({"command": "unmount", "drain": drain})

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        """One request that is answered at once; see `protocol`."""
        return self._ask({"command": command, **arguments})

    def follow(
        self, command: str, on_progress: Callable[[dict[str, Any]], None], **arguments: object
    ) -> dict[str, Any]:
        """One request that takes a while, with a progress every fraction of a second; see `protocol`."""
        self._send({"command": command, **arguments})
        while "progress" in (answer := self._receive()):
            on_progress(answer["progress"])
        return _result(answer)

    def progress_until_end(self) -> Iterator[DrainProgress]:
        """After `unmount`: what is still uploaded, until objfs closes the connection."""
        self._socket.settimeout(None)
        while (answer := self._receive_or_end()) is not None:
            if "progress" in answer:
                yield progress_from_json(answer["progress"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._send(request)
        return _result(self._receive())

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._socket.sendall(protocol.encode_line(request))
        except OSError as error:
            raise NoAnswerError("objfs closed the connection.") from error

    def _receive(self) -> dict[str, Any]:
        answer = self._receive_or_end()
        if answer is None:
            raise NoAnswerError("objfs ended before it answered; see its log.")
        return answer

    def _receive_or_end(self) -> dict[str, Any] | None:
        try:
            line = self._lines.readline(protocol.MAX_LINE_BYTES)
            return protocol.decode_line(line) if line else None
        except TimeoutError as error:
            raise NoAnswerError(f"objfs (process {self.pid}) does not answer.") from error
        except (OSError, ValueError):
            return None


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    if "ok" not in answer:
        raise MountError(str(answer.get("error", "objfs sent no answer this version understands")))
    ok: dict[str, Any] = answer["ok"]
    return ok


@contextmanager
def connect(path: Path) -> Iterator[ControlClient]:
    """A connection to the control socket at `path`.

    Raises:
        NoAnswerError: there is none, or nobody listens any more.
        MountError: it belongs to another user.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_TIMEOUT_S)
    try:
        with protocol.short_address(path) as address:
            connection.connect(address)
    except OSError as error:
        connection.close()
        raise NoAnswerError(f"no objfs answers at {path}: {error.strerror or error}.") from error
    with ControlClient(connection) as client:
        if client.uid not in (os.geteuid(), 0):
            raise MountError(f"the control socket {path} belongs to another user (uid {client.uid}).")
        yield client


def sockets_in(folder: Path) -> list[Path]:
    """All control sockets of a runtime folder; none if there is no such folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".sock")
    except OSError:
        return []


def wait_for_end(pid: int, timeout_s: float) -> bool:
    """Whether the process has ended within the time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)
