"""A proxy before an S3 server that can refuse writes, as after a change of the bucket's policy."""

from __future__ import annotations

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSAL = b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})
_TIMEOUT_S = 20.0


class Proxy(ThreadingHTTPServer):
    """Passes requests on; with `refuses` set, all that write are answered 403."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.refuses = False

    @property
    def host(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed leave broken connections; nobody wants to read of them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        assert isinstance(self.server, Proxy)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuses and self.command in ("PUT", "POST", "DELETE"):
            self._answer(403, [("Content-Type", "application/xml")], _REFUSAL)
            return
        connection = http.client.HTTPConnection(self.server.upstream, timeout=_TIMEOUT_S)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            self._answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP and (name.lower() != "content-length" or not body):
                self.send_header(name, value)
        if body or "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # names of the base class


@contextmanager
def refusing(upstream: str) -> Iterator[Proxy]:
    """A proxy on loopback before the server at `host:port`."""
    with Proxy(upstream) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
