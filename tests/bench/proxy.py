"""Distance: toxiproxy (Go, built once beside MinIO) delays every byte, half of the latency each way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.bench.errors import BenchError
from tests.servers import minio_binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server@latest"
BUILD_TIMEOUT_S = 600.0
START_TIMEOUT_S = 10.0
REPLY_TIMEOUT_S = 5.0


@contextmanager
def open_proxy(upstream: str, latency_ms: int, folder: Path) -> Iterator[str]:
    """The endpoint of a proxy to `upstream` (`host:port`) that adds `latency_ms` to each round trip."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    log = folder / f"proxy-{latency_ms}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_binary(), "-host", "127.0.0.1", "-port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        api = f"http://127.0.0.1:{port}/proxies"
        _wait_until_listens(port, process)
        made = _post(api, {"name": "far", "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True})
        for stream in ("upstream", "downstream"):
            latency = {"latency": latency_ms // 2, "jitter": 0}
            _post(f"{api}/far/toxics", {"type": "latency", "stream": stream, "attributes": latency})
        yield f"http://{made['listen']}"
    finally:
        process.terminate()
        process.wait()


def _binary() -> Path:
    """Toxiproxy's server, built if it is missing."""
    binary = minio_binary().parent / "server"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(binary.parent)}
        subprocess.run(["go", "install", MODULE], check=True, env=environment, timeout=BUILD_TIMEOUT_S)
    return binary


def _wait_until_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError("toxiproxy does not start")


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310  # an http URL of ours
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=REPLY_TIMEOUT_S) as reply:  # noqa: S310  # the same
        value: dict[str, Any] = json.load(reply)
        return value
