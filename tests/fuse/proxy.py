"""An HTTP proxy in front of a real S3 server, that does to chosen requests what networks and stores do.

A test gives rules; the first whose kinds and chance fit a request decides what becomes of it.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    import ssl

UPSTREAM_TIMEOUT_S = 60.0
READS = frozenset({"get", "head", "list"})
WRITES = frozenset({"put", "copy", "delete", "delete-batch", "create", "part", "copy-part", "complete"})
ANY = READS | WRITES | {"abort", "uploads"}
_HOP_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_DOCUMENT_ETAG = re.compile(rb"(<ETag>(?:&#34;|&quot;|\")?)[0-9a-f]{32}(-\d+)?")
_ENTRY = re.compile(rb"<(Contents|CommonPrefixes)>.*?</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """The key, with whatever prefix the mount has."""
        return unquote(urlsplit(self.target).path).removeprefix("/").partition("/")[2]

    @property
    def kind(self) -> str:
        """Which request of S3 it is."""
        query = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        headers = {name.lower() for name in self.headers}
        part, copied = "partNumber" in query, "x-amz-copy-source" in headers
        if self.method == "GET":
            return "list" if "list-type" in query else "uploads" if "uploads" in query else "get"
        if self.method == "PUT":
            return f"copy{'-part' if part else ''}" if copied else "part" if part else "put"
        if self.method == "POST":
            return "create" if "uploads" in query else "complete" if "uploadId" in query else "delete-batch"
        if self.method == "DELETE":
            return "abort" if "uploadId" in query else "delete"
        return self.method.lower()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    `declared` is the Content-Length told where it is not the body's; with `gap_s` the body goes out byte by
    byte, so many seconds apart.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    declared: int | None = None
    gap_s: float = 0.0


class Broken(Exception):  # not an error of the proxy
    """The connection is to be reset, after some bytes of an answer and some time, or an event."""

    def __init__(
        self, sent: Reply | None = None, after_s: float = 0.0, until: threading.Event | None = None
    ) -> None:
        super().__init__()
        self.sent = sent
        self.after_s = after_s
        self.until = until


Forward = Callable[[Request], Reply]
Action = Callable[["Proxy", Request, Forward], Reply]


@dataclass(slots=True)
class Rule:
    """What becomes of requests of these kinds, by chance, at most so many times.

    `part` is a part of the keys meant; of a batch delete, of any of its keys.
    """

    kinds: frozenset[str]
    action: Action
    chance: float = 1.0
    times: int | None = None
    part: str = ""

    def takes(self, request: Request, draw: float) -> bool:
        """Whether this request is meant; counts it."""
        if request.kind not in self.kinds or draw >= self.chance or self.times == 0:
            return False
        named = request.body.decode(errors="replace") if request.kind == "delete-batch" else request.key
        if self.part not in f"/{named}$":
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Proxy:
    """Passes requests to `target` (`host:port`), but for those that a rule takes."""

    def __init__(self, target: str, *, seed: int = 0) -> None:
        self._target = target
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._early: list[Rule] = []
        self.latency_s = 0.0
        self.seen: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self.replies: dict[str, Reply] = {}
        """The last good answer to a GET of each key."""
        self.closing = threading.Event()
        self._server = _Server(self)

    @property
    def host(self) -> str:
        """`host:port` to use in place of the target's."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on; before the first request."""
        # The handshake is the handler's: whoever fails it keeps nobody else waiting.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )

    def rule(
        self,
        kinds: frozenset[str] | str,
        action: Action,
        *,
        chance: float = 1.0,
        times: int | None = None,
        part: str = "",
    ) -> None:
        """Add a rule; `$` in `part` is the end of a key."""
        chosen = frozenset({kinds}) if isinstance(kinds, str) else kinds
        with self._lock:
            self._rules.append(Rule(chosen, action, chance, times, part))

    def break_early(self, kinds: frozenset[str], *, times: int, part: str) -> None:
        """Reset so many connections in the middle of a request's body."""
        with self._lock:
            self._early.append(Rule(kinds, reset, times=times, part=part))

    def strikes_early(self, request: Request) -> bool:
        """Whether a request is to be broken off before it was read."""
        with self._lock:
            struck = any(rule.takes(request, 0.0) for rule in self._early)
            self.struck[request.kind] += struck
            return struck

    def heal(self) -> None:
        """Do no harm any more."""
        with self._lock:
            self._rules.clear()
            self._early.clear()
        self.latency_s = 0.0

    def answer(self, request: Request) -> Reply:
        """The answer to a request, or `Broken`."""
        time.sleep(self.latency_s)
        with self._lock:
            self.seen[request.kind] += 1
            draw = self._chance.random()
            rule = next((rule for rule in self._rules if rule.takes(request, draw)), None)
            if rule is not None:
                self.struck[request.kind] += 1
        if rule is not None:
            return rule.action(self, request, self.forward)
        reply = self.forward(request)
        if request.kind == "get" and reply.status < 300:
            self.replies[request.key] = reply
        return reply

    def forward(self, request: Request) -> Reply:
        """What the server answers."""
        connection = http.client.HTTPConnection(self._target, timeout=UPSTREAM_TIMEOUT_S)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
            connection.request(request.method, request.target, body=request.body or None, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_HEADERS}
            declared = answer.getheader("Content-Length") if request.method == "HEAD" else None
            return Reply(answer.status, kept, body, int(declared) if declared else None)
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  # the base class's
        """Clients that leave early are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # made by no other server
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """One request, without the base class's dispatch by name."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length") or 0)
        if self.server.proxy.strikes_early(Request(self.command, self.path, dict(self.headers.items()), b"")):
            self.rfile.read(length // 2)
            self._reset()
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        try:
            reply = self.server.proxy.answer(request)
        except Broken as broken:
            if broken.sent is not None:
                self._send(broken.sent)
            if broken.until is not None:
                _wait_for(broken.until, self.server.proxy.closing)
            self.server.proxy.closing.wait(broken.after_s)
            self._reset()
            return
        except OSError:
            self._reset()
            return
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        declared = len(reply.body) if reply.declared is None else reply.declared
        self.send_header("Content-Length", str(declared))
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(reply)
            self.close_connection = self.close_connection or declared != len(reply.body)
        self.wfile.flush()

    def _send_body(self, reply: Reply) -> None:
        if not reply.gap_s:
            self.wfile.write(reply.body)
            return
        for at in range(len(reply.body)):
            if self.server.proxy.closing.wait(reply.gap_s):
                break
            self.wfile.write(reply.body[at : at + 1])
            self.wfile.flush()

    def _reset(self) -> None:
        """End the connection with RST instead of FIN."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


# -- what may become of a request ---------------------------------------------------------------------


def status(number: int, code: str = "", **headers: str) -> Action:
    """An error answer; without a code its body is no XML. Header names have `_` for `-`."""
    document = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>"
    body = document.encode() if code else b"<html>gateway says no\x00"

    def action(_proxy: Proxy, _request: Request, _forward: Forward) -> Reply:
        return Reply(number, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    return action


def reset(_proxy: Proxy, _request: Request, _forward: Forward) -> Reply:
    """The request is read and the connection reset; nothing happens."""
    raise Broken


def reset_in_answer(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """It takes effect, and the connection is reset in the middle of the answer."""
    reply = forward(request)
    raise Broken(replace(reply, body=reply.body[: len(reply.body) // 2], declared=len(reply.body) + 1))


def lose_answer(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """It takes effect, and nobody is told."""
    forward(request)
    raise Broken


def fail_after(number: int, code: str) -> Action:
    """It takes effect, and an error is answered."""

    def action(proxy: Proxy, request: Request, forward: Forward) -> Reply:
        forward(request)
        return status(number, code)(proxy, request, forward)

    return action


def stall(seconds: float) -> Action:
    """No answer for a long time, then a reset."""

    def action(proxy: Proxy, _request: Request, _forward: Forward) -> Reply:
        proxy.closing.wait(seconds)
        raise Broken

    return action


def stall_in_body(seconds: float) -> Action:
    """Half of the body, then nothing for a long time, then a reset."""

    def action(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
        reply = forward(request)
        half = replace(reply, body=reply.body[: len(reply.body) // 2], declared=len(reply.body))
        raise Broken(half, seconds)

    return action


def drip(gap_s: float) -> Action:
    """The right body, byte by byte."""

    def action(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
        return replace(forward(request), gap_s=gap_s)

    return action


def twice(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """The network sends it again before anybody answers: the second answer is the one that comes."""
    forward(request)
    return forward(request)


def twice_first(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """The same, and the first answer comes."""
    reply = forward(request)
    forward(request)
    return reply


def wrong_etag(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """The answer has an ETag that is no object's."""
    reply = forward(request)
    wrong = '"0123456789abcdef0123456789abcdef"'
    headers = {name: wrong if name.lower() == "etag" else value for name, value in reply.headers.items()}
    if request.kind not in ("complete", "copy", "copy-part"):
        return replace(reply, headers=headers)
    body = _DOCUMENT_ETAG.sub(rb"\g<1>" + b"0" * 32, reply.body)
    return replace(reply, headers=headers, body=body)


def listing(change: Callable[[list[bytes]], list[bytes]]) -> Action:
    """The entries of a listing, changed: each is one <Contents> or <CommonPrefixes>."""

    def action(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
        reply = forward(request)
        entries = list(_ENTRY.finditer(reply.body))
        if reply.status != 200 or not entries:
            return reply
        changed = b"".join(change([entry[0] for entry in entries]))
        body = reply.body[: entries[0].start()] + changed + reply.body[entries[-1].end() :]
        return replace(reply, body=body)

    return action


def next_page(harm: Action) -> Action:
    """Another action, done to all pages of a listing but the first."""

    def action(proxy: Proxy, request: Request, forward: Forward) -> Reply:
        return harm(proxy, request, forward) if "continuation-token" in request.target else forward(request)

    return action


def with_delimiter(harm: Action) -> Action:
    """Another action, done to listings of one directory alone."""

    def action(proxy: Proxy, request: Request, forward: Forward) -> Reply:
        return harm(proxy, request, forward) if "delimiter=" in request.target else forward(request)

    return action


def below(prefix: str, harm: Action) -> Action:
    """Another action, done to listings of keys that begin so, below whatever prefix the mount has."""

    def action(proxy: Proxy, request: Request, forward: Forward) -> Reply:
        asked = parse_qs(urlsplit(request.target).query).get("prefix", [""])[0]
        return harm(proxy, request, forward) if f"/{prefix}" in f"/{asked}" else forward(request)

    return action


def late(seconds: float) -> Action:
    """A good answer after some time."""

    def action(proxy: Proxy, request: Request, forward: Forward) -> Reply:
        proxy.closing.wait(seconds)
        return forward(request)

    return action


def truncated(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """Half of the body under the whole's Content-Length."""
    reply = forward(request)
    return replace(reply, body=reply.body[: len(reply.body) // 2], declared=len(reply.body))


def shortened(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """Half of the body, and the Content-Length says so too."""
    reply = forward(request)
    return replace(reply, body=reply.body[: len(reply.body) // 2])


def lengthened(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """More body than there is."""
    reply = forward(request)
    return replace(reply, body=reply.body + b"more")


def corrupted(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """One bit of the body is wrong."""
    reply = forward(request)
    at = len(reply.body) // 3
    return replace(reply, body=reply.body[:at] + bytes([reply.body[at] ^ 4]) + reply.body[at + 1 :])


def of_another_key(proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """The answer that another key's GET got."""
    others = [reply for key, reply in proxy.replies.items() if key != request.key]
    return others[-1] if others else forward(request)


def body_of_another_key(proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """Our headers, and another key's bytes of the same length."""
    reply = forward(request)
    length = len(reply.body)
    others = [other.body for key, other in proxy.replies.items() if key != request.key]
    return replace(reply, body=next((body[:length] for body in others if len(body) >= length), reply.body))


def as_whole(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """200 for a ranged GET, as from a server that knows no ranges."""
    reply = forward(request)
    headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-range"}
    return replace(reply, status=200 if reply.status == 206 else reply.status, headers=headers)


def of_another_range(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """A Content-Range that nobody asked for."""
    reply = forward(request)
    shifted = {
        name: re.sub(r"\d+-(\d+)/", r"7-\1/", value) if name.lower() == "content-range" else value
        for name, value in reply.headers.items()
    }
    return replace(reply, headers=shifted)


def empty(_proxy: Proxy, _request: Request, _forward: Forward) -> Reply:
    """An empty 200 where a document is due; nothing happens."""
    return Reply(200)


def empty_after(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
    """It takes effect, and the answer is an empty 200."""
    forward(request)
    return Reply(200)


def error_in_success(_proxy: Proxy, _request: Request, _forward: Forward) -> Reply:
    """200 with an error inside, as CompleteMultipartUpload and COPY may answer; nothing happens."""
    body = b"<?xml version='1.0'?>\n<Error><Code>InternalError</Code><Message>m</Message></Error>"
    return Reply(200, {"Content-Type": "application/xml"}, body)


def held(until: threading.Event, *, in_body: bool = False) -> Action:
    """No answer, or half of a body, until an event, then a reset."""

    def action(proxy: Proxy, request: Request, forward: Forward) -> Reply:
        if not in_body:
            _wait_for(until, proxy.closing)
            raise Broken
        reply = forward(request)
        half = replace(reply, body=reply.body[: len(reply.body) // 2], declared=len(reply.body))
        raise Broken(half, until=until)

    return action


def _wait_for(until: threading.Event, closing: threading.Event) -> None:
    while not until.wait(0.1) and not closing.is_set():
        pass
