"""The control socket of a running mount."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import trio

from objfs.control import protocol
from objfs.control.actions import ActionReply
from objfs.control.figures import figures_to_json
from objfs.control.streaming import send_trace
from objfs.control.values import status_to_json
from objfs.errors import MountError, ObjfsError, first_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from objfs.control.actions import Actions
    from objfs.control.values import DrainProgress, MountStatus
    from objfs.control.view import View

log = logging.getLogger("objfs.control")

_PROGRESS_INTERVAL_S = 0.25  # smooth to the eye, nothing to the processor
_IDLE_TIMEOUT_S = 30.0  # a client that says nothing for this long is sent away
_LAST_WORDS_S = 1.0  # for one line to each command that waits; local and short
_MAX_CONNECTIONS = 32  # a few commands and monitors at once; the next one waits in the backlog


class MountControl(Protocol):
    """What the control socket needs of a mount."""

    async def status(self) -> MountStatus: ...

    def progress(self) -> DrainProgress: ...

    async def drain(self, *, retry_parked: bool) -> None: ...

    async def unmount(self, *, drain: bool) -> None:
        """Free the mountpoint and begin to leave; raises MountError if it is in use."""
        ...


@asynccontextmanager
async def open_control_server(
    path: Path, mount: MountControl, actions: Actions | None = None, view: View | None = None
) -> AsyncIterator[None]:
    """Answer commands at the socket `path` while the block runs; its folder is created for the owner alone.

    Raises:
        MountError: another objfs answers there, or the socket cannot be made.
    """
    protocol.ensure_private(path.parent)
    listener, facts = _listen(path)
    server = _Server(mount, actions, view)
    try:
        async with trio.open_nursery() as nursery:
            listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
            nursery.start_soon(trio.serve_listeners, server.serve, listeners)
            yield
            await server.say_last_words()
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        _remove(path, facts)


def _listen(path: Path) -> tuple[socket.socket, os.stat_result]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with protocol.short_address(path) as address:
            if _is_stale(address):
                path.unlink()
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(_MAX_CONNECTIONS)
        return listener, path.lstat()
    except MountError:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        raise MountError(f"the control socket {path} cannot be made: {error.strerror or error}.") from error


def _remove(path: Path, facts: os.stat_result) -> None:
    with suppress(OSError):  # gone already, or replaced by that of a new mount
        if os.path.samestat(facts, path.lstat()):
            path.unlink()


def _is_stale(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    raise MountError("another objfs already answers for this mountpoint; see 'objfs status'.")


class _Server:
    """Answers connections for one mount."""

    def __init__(self, mount: MountControl, actions: Actions | None, view: View | None) -> None:
        self._mount = mount
        self._actions = actions
        self._view = view
        self._limit = trio.CapacityLimiter(_MAX_CONNECTIONS)
        self._ending = trio.Event()
        self._followers = 0
        self._told = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, as long as the client likes."""
        async with self._limit, stream:
            _pid, uid = protocol.peer_pid_and_uid(stream)
            if uid not in (os.geteuid(), 0):
                log.warning("refused a connection of uid %d", uid)
                return
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the client left
                while (request := await _receive(stream)) is not None:
                    await self._answer(stream, request)

    async def say_last_words(self) -> None:
        """Send those who wait for the end the last progress."""
        self._told = trio.Event()
        self._ending.set()
        with trio.move_on_after(_LAST_WORDS_S):
            if self._followers:
                await self._told.wait()

    async def _answer(self, stream: trio.SocketStream, request: dict[str, Any]) -> None:
        try:
            await self._run(stream, request)
        except Exception as caught:
            error = first_error(caught)
            if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
                raise error from None
            if not isinstance(error, ObjfsError):
                log.exception("request failed")
                error = MountError("internal error, the details are in the log.")
            await _send(stream, {"error": str(error)})

    async def _run(self, stream: trio.SocketStream, request: dict[str, Any]) -> None:
        match request.get("command"):
            case "ping":
                await _send(stream, {"ok": {"pid": os.getpid()}})
            case "status":
                await _send(stream, {"ok": status_to_json(await self._mount.status())})
            case "drain":
                await self._drain(stream, retry_parked=request.get("retry_parked") is True)
            case "unmount":
                await self._unmount(stream, drain=request.get("drain") is not False)
            case "figures" if self._view is not None:
                await _send(stream, {"ok": figures_to_json(await self._view.figures())})
            case "stat" if self._view is not None:
                await _send(stream, {"ok": asdict(await self._view.inspect(str(request.get("path", ""))))})
            case "trace" if self._view is not None:
                await send_trace(stream, self._view.tracer, request)
            case name if self._actions is not None and self._actions.knows(name):
                await self._act(self._actions, stream, request)
            case _:
                await _send(stream, {"error": "no such command"})

    async def _act(self, actions: Actions, stream: trio.SocketStream, request: dict[str, Any]) -> None:
        reply = ActionReply()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_action_progress, stream, reply)
            answer = await actions.run(request, reply)
            nursery.cancel_scope.cancel()
        await _send(stream, {"ok": answer})

    async def _drain(self, stream: trio.SocketStream, *, retry_parked: bool) -> None:
        done = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_progress, stream, done)
            await self._mount.drain(retry_parked=retry_parked)
            done.set()
        await _send(stream, {"ok": {}})

    async def _unmount(self, stream: trio.SocketStream, *, drain: bool) -> None:
        self._followers += 1  # before the mount is gone, and with it maybe everything else
        try:
            await self._mount.unmount(drain=drain)
            await _send(stream, {"ok": {}})
            await self._send_progress(stream, self._ending)
        finally:
            self._followers -= 1
            if not self._followers:
                self._told.set()

    async def _send_progress(self, stream: trio.SocketStream, end: trio.Event) -> None:
        """Progress every now and then, and once more at the end."""
        while not end.is_set():
            await _send(stream, {"progress": asdict(self._mount.progress())})
            with trio.move_on_after(_PROGRESS_INTERVAL_S):
                await end.wait()
        await _send(stream, {"progress": asdict(self._mount.progress())})


async def _send_action_progress(stream: trio.SocketStream, reply: ActionReply) -> None:
    while True:
        await trio.sleep(_PROGRESS_INTERVAL_S)
        with trio.CancelScope(shield=True):  # half a line would spoil the answer
            await _send(stream, {"progress": reply.progress})


async def _receive(stream: trio.SocketStream) -> dict[str, Any] | None:
    line = b""
    with trio.move_on_after(_IDLE_TIMEOUT_S):
        while not line.endswith(b"\n") and len(line) <= protocol.MAX_REQUEST_BYTES:
            chunk = await stream.receive_some(protocol.MAX_REQUEST_BYTES)
            if not chunk:
                return None
            line += chunk
        try:
            return protocol.decode_line(line)
        except ValueError:
            await _send(stream, {"error": "the request is no line of JSON"})
    return None


async def _send(stream: trio.SocketStream, answer: dict[str, Any]) -> None:
    await stream.send_all(protocol.encode_line(answer))
