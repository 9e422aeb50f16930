"""A door between a mount and its store that can be shut: connections are then refused and broken off."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount
    from tests.servers import Server

_PIECE_BYTES = 65536


class Gate:
    """Passes connections to `target` (`host:port`) while it is open."""

    def __init__(self, target: str) -> None:
        name, _, port = target.rpartition(":")
        self._target = (name, int(port))
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._port = 0
        self.open()

    @property
    def host(self) -> str:
        """`host:port` to use in place of the target's."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.shut()

    def open(self) -> None:
        """Let connections pass, at the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(128)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Break off all connections, and refuse new ones."""
        listener, self._listener = self._listener, None
        with self._lock:
            doomed = [*self._connections, *([listener] if listener else [])]
        for one in doomed:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if listener is not None:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            with self._lock:
                self._connections |= {client, server}
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()
            with self._lock:
                self._connections -= {client, server}


@contextmanager
def gated_mount(bucket: Bucket, minio: Server, **options: str | bool) -> Iterator[tuple[Mount, Gate]]:
    """A mount behind a gate that is open."""
    with Gate(minio.host) as gate:
        url = bucket.url.replace(minio.host, gate.host)
        with mounted(url, cache=None, environment=bucket.environment, allow_errors=True, **options) as mount:
            yield mount, gate


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            sink.sendall(piece)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
