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
from objfs.control.values import status_to_json
from objfs.errors import MountError, ObjfsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from objfs.control.values import DrainProgress, MountStatus

log = logging.getLogger("objfs.control")

_PROGRESS_INTERVAL_S = 0.25  # smooth to the eye, nothing to the processor
_IDLE_TIMEOUT_S = 30.0  # a client that says nothing for this long is sent away
_MAX_CONNECTIONS = 32  # a few commands and monitors at once; the next one waits in the backlog


class MountControl(Protocol):
    """What the control socket needs of a mount."""

    async def status(self) -> MountStatus: ...

    def progress(self) -> DrainProgress: ...

    async def drain(self) -> None: ...

    async def unmount(self, *, drain: bool) -> None:
        """Free the mountpoint and begin to leave; raises MountError if it is in use."""
        ...


@asynccontextmanager
async def open_control_server(path: Path, mount: MountControl) -> AsyncIterator[None]:
    """Answer commands at the socket `path` while the block runs; its folder is created for the owner alone.

    Raises:
        MountError: another objfs answers there, or the socket cannot be made.
    """
    protocol.ensure_private(path.parent)
    listener, facts = _listen(path)
    limit = trio.CapacityLimiter(_MAX_CONNECTIONS)

    async def serve(stream: trio.SocketStream) -> None:
        async with limit, stream:
            await _serve_connection(stream, mount)

    try:
        async with trio.open_nursery() as nursery:
            listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            yield
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


async def _serve_connection(stream: trio.SocketStream, mount: MountControl) -> None:
    _pid, uid = protocol.peer_pid_and_uid(stream.socket)
    if uid not in (os.geteuid(), 0):
        log.warning("control: refused a connection of uid %d", uid)
        return
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # the client left
        while (request := await _receive(stream)) is not None:
            await _answer(stream, mount, request)


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


async def _answer(stream: trio.SocketStream, mount: MountControl, request: dict[str, Any]) -> None:
    try:
        await _run(stream, mount, request)
    except ObjfsError as error:
        await _send(stream, {"error": str(error)})
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        raise
    except Exception:
        log.exception("control: request failed")
        await _send(stream, {"error": "internal error, the details are in the log"})


async def _run(stream: trio.SocketStream, mount: MountControl, request: dict[str, Any]) -> None:
    match request.get("command"):
        case "ping":
            await _send(stream, {"ok": {"pid": os.getpid()}})
        case "status":
            await _send(stream, {"ok": status_to_json(await mount.status())})
        case "drain":
            await _drain(stream, mount)
        case "unmount":
            await mount.unmount(drain=request.get("drain") is not False)
            await _send(stream, {"ok": {}})
            await _send_progress_for_ever(stream, mount)  # cancelled when the mount has gone
        case _:
            await _send(stream, {"error": "no such command"})


async def _drain(stream: trio.SocketStream, mount: MountControl) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_send_progress_for_ever, stream, mount)
        await mount.drain()
        nursery.cancel_scope.cancel()
    await _send(stream, {"ok": {}})


async def _send_progress_for_ever(stream: trio.SocketStream, mount: MountControl) -> None:
    while True:
        await _send(stream, {"progress": asdict(mount.progress())})
        await trio.sleep(_PROGRESS_INTERVAL_S)


async def _send(stream: trio.SocketStream, answer: dict[str, Any]) -> None:
    await stream.send_all(protocol.encode_line(answer))
