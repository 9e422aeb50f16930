"""Where metrics can be had: a port of this machine, a unix socket, or a file for node_exporter.

The counters are read on the event loop, which takes tens of microseconds; the text is made in a thread.
"""

from __future__ import annotations

import logging
import os
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import h11
import trio

from objfs.config.metrics import MetricsKind, parse_metrics
from objfs.control import protocol
from objfs.control.metrics import CONTENT_TYPE, exposition
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from objfs.control.figures import Figures

log = logging.getLogger("objfs.metrics")

TEXTFILE_INTERVAL_S = 15.0  # as often as Prometheus usually asks
_REQUEST_TIMEOUT_S = 10.0  # a scraper on this machine that is slower than that has gone
_MAX_CONNECTIONS = 8  # a scraper or two, and somebody with curl
_RECEIVE_BYTES = 4096
_PATHS = (b"/metrics", b"/")


@asynccontextmanager
async def open_metrics(where: str | None, read: Callable[[], Awaitable[Figures]]) -> AsyncIterator[None]:
    """Give the metrics out at `where` (see `objfs.config.metrics`) while the block runs; None: nowhere.

    Raises:
        MountError: the port is taken, or the file cannot be made.
    """
    if where is None:
        yield
        return
    place = parse_metrics(where)
    if place.kind is MetricsKind.TEXTFILE:
        async with _open_text_file(Path(place.path), read):
            yield
        return
    listener = _listen(place.kind, place.path, place.host, place.port)
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, _Server(read).serve, listeners)
            yield
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        if place.kind is MetricsKind.UNIX:
            with suppress(OSError):
                os.unlink(place.path)


def _listen(kind: MetricsKind, path: str, host: str, port: int) -> socket.socket:
    family = (
        socket.AF_UNIX if kind is MetricsKind.UNIX else socket.AF_INET6 if ":" in host else socket.AF_INET
    )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if kind is MetricsKind.UNIX:
            _bind_unix(listener, Path(path))
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
        listener.listen(_MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        where = path if kind is MetricsKind.UNIX else f"{host}:{port}"
        raise MountError(
            f"metrics cannot be had at {where}: {error.strerror}; each mount needs a --metrics of its own."
        ) from error
    return listener


def _bind_unix(listener: socket.socket, path: Path) -> None:
    """Bind; a socket of a mount that was killed is replaced, anything else is left alone."""
    with protocol.short_address(path) as address:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(address)
                except ConnectionRefusedError:
                    path.unlink()
        listener.bind(address)
    path.chmod(0o600)


class _Server:
    """Answers GET /metrics, one request a connection."""

    def __init__(self, read: Callable[[], Awaitable[Figures]]) -> None:
        self._read = read
        self._limit = trio.CapacityLimiter(_MAX_CONNECTIONS)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        async with self._limit, stream:
            try:
                with trio.move_on_after(_REQUEST_TIMEOUT_S):
                    await self._answer(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # the client left
            except Exception:  # whatever is wrong with the metrics, the mount goes on
                log.exception("metrics could not be given out")

    async def _answer(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            request = await _receive(connection, stream)
        except h11.RemoteProtocolError as error:
            await _reply(connection, stream, error.error_status_hint, b"no HTTP request\n")
            return
        if request is None:
            return
        if request.method not in (b"GET", b"HEAD"):
            await _reply(connection, stream, 405, b"only GET\n")
        elif request.target.partition(b"?")[0] not in _PATHS:
            await _reply(connection, stream, 404, b"see /metrics\n")
        else:
            text = await trio.to_thread.run_sync(exposition, await self._read())
            await _reply(connection, stream, 200, text, with_body=request.method == b"GET")


async def _receive(connection: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    """The head of a request, or None if the client left."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await stream.receive_some(_RECEIVE_BYTES))


async def _reply(
    connection: h11.Connection,
    stream: trio.SocketStream,
    status: int,
    body: bytes,
    *,
    with_body: bool = True,
) -> None:
    headers = [
        ("content-type", CONTENT_TYPE),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    parts = [
        connection.send(h11.Response(status_code=status, headers=headers)),
        connection.send(h11.Data(data=body)) if with_body else b"",
        connection.send(h11.EndOfMessage()),
    ]
    await stream.send_all(b"".join(part for part in parts if part))


@asynccontextmanager
async def _open_text_file(path: Path, read: Callable[[], Awaitable[Figures]]) -> AsyncIterator[None]:
    writer = _TextFile(path, read)
    await writer.write()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            yield
            nursery.cancel_scope.cancel()
    finally:
        writer.remove()


class _TextFile:
    """Writes the metrics to a file every now and then, whole or not at all."""

    def __init__(self, path: Path, read: Callable[[], Awaitable[Figures]]) -> None:
        self._path = path
        self._read = read

    async def run(self) -> None:
        """Write until cancelled; a full disk is told once."""
        told = False
        while True:
            await trio.sleep(TEXTFILE_INTERVAL_S)
            try:
                await self.write()
                told = False
            except MountError as error:
                if not told:
                    log.warning("%s", error)
                told = True

    async def write(self) -> None:
        """Write once; raises MountError."""
        figures = await self._read()
        try:
            await trio.to_thread.run_sync(self._write, exposition, figures)
        except OSError as error:
            raise MountError(
                f"the metrics cannot be written to {self._path}: {error.strerror}; "
                "name another file with --metrics."
            ) from error

    def remove(self) -> None:
        """Nobody shall take old figures for new ones."""
        with suppress(OSError):
            self._path.unlink()

    def _write(self, render: Callable[[Figures], bytes], figures: Figures) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_bytes(render(figures))
        temporary.chmod(0o644)  # for node_exporter, which is another user
        temporary.replace(self._path)
