"""Real servers for tests: moto (PyPI) and MinIO (built by Go once, kept outside the checkout).

`python tests/servers.py build-minio` builds MinIO ahead of the first test run.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3.session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ACCESS_KEY = "objfs-tests"
SECRET_KEY = "objfs-tests-secret"  # noqa: S105  # of servers that live for one test run on loopback
MINIO_MODULE = "github.com/minio/minio@latest"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
BUILD_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running S3 server.

    Attributes:
        endpoint: `http://host:port`.
        ours: it was started by us, takes our credentials and vanishes with its data.
        disk: where a MinIO keeps its buckets.
    """

    endpoint: str
    ours: bool = True
    disk: Path | None = None

    @property
    def host(self) -> str:
        """`host:port`."""
        return self.endpoint.partition("://")[2]


def minio_binary() -> Path:
    """Where MinIO is kept, built or not."""
    cache = os.environ.get("OBJFS_TEST_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "objfs-tests") / "bin" / "minio"


def has_minio() -> bool:
    """Whether MinIO is there, or can be built."""
    return minio_binary().exists() or shutil.which("go") is not None


def build_minio() -> Path:
    """MinIO's binary, built if it is missing (some minutes, once)."""
    binary = minio_binary()
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(binary.parent)}
        subprocess.run(["go", "install", MINIO_MODULE], check=True, env=environment, timeout=BUILD_TIMEOUT_S)
    return binary


@contextmanager
def minio_server() -> Iterator[Server]:
    """A MinIO with an empty disk."""
    with _folder() as folder:
        address = f"127.0.0.1:{free_port()}"
        console = f"127.0.0.1:{free_port()}"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_UPDATE": "off",
            "MINIO_BROWSER": "off",
        }
        disk = folder / "disk"
        arguments = ["server", "--quiet", "--address", address, "--console-address", console, str(disk)]
        command = [str(build_minio()), *arguments]
        with _process(command, environment, folder, f"http://{address}/minio/health/ready"):
            yield Server(endpoint=f"http://{address}", disk=disk)


@contextmanager
def moto_server() -> Iterator[Server]:
    """A moto server with its own threads."""
    with _folder() as folder:
        port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        endpoint = f"http://127.0.0.1:{port}"
        with _process(command, dict(os.environ), folder, f"{endpoint}/moto-api/data.json"):
            yield Server(endpoint=endpoint)


def external_server() -> Server | None:
    """The server of OBJFS_TEST_S3_ENDPOINT; it takes the credentials of the environment."""
    endpoint = os.environ.get("OBJFS_TEST_S3_ENDPOINT")
    return Server(endpoint=endpoint.rstrip("/"), ours=False) if endpoint else None


@contextmanager
def bucket_of(server: Server) -> Iterator[str]:
    """A new bucket, empty. The environment has the server's credentials meanwhile."""
    with _credentials(server):
        name = f"objfs-test-{uuid.uuid4().hex[:20]}"
        session = boto3.session.Session(region_name="us-east-1")
        client = session.client("s3", endpoint_url=server.endpoint)
        try:
            client.create_bucket(Bucket=name)
            yield name
            if not server.ours:
                for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
                    client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
                while found := client.list_objects_v2(Bucket=name).get("Contents"):
                    for item in found:
                        client.delete_object(Bucket=name, Key=item["Key"])
                client.delete_bucket(Bucket=name)
        finally:
            client.close()


@contextmanager
def _credentials(server: Server) -> Iterator[None]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
    before = {name: os.environ.get(name) for name in names}
    if server.ours:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="objfs-server-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _process(
    command: Sequence[str], environment: dict[str, str], folder: Path, ready_url: str
) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, ready_url, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_healthy(url: str, timeout_s: float) -> None:
    """Wait for an answer that is no error."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310  # an http URL of ours
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310  # an http URL of ours
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Build what tests need ahead of time."""
    if sys.argv[1:] != ["build-minio"]:
        sys.stderr.write("usage: python tests/servers.py build-minio\n")
        return 2
    sys.stdout.write(f"{build_minio()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
