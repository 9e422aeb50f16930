"""A MinIO of four nodes on this machine: erasure coded, each node a process that may die and come back."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NODES = 4
START_TIMEOUT_S = 120.0
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


class Node:
    """One process of the cluster."""

    def __init__(self, folder: Path, number: int, addresses: Sequence[str]) -> None:
        self._folder = folder
        self.address = addresses[number]
        self._console = f"127.0.0.1:{servers.free_port()}"
        self._disks = [f"http://{address}{folder}/node{at}/disk" for at, address in enumerate(addresses)]
        self._log = folder / f"log{number}"
        self.start()

    def start(self) -> None:
        """Join the cluster."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._folder),
            "MINIO_ROOT_USER": servers.ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": servers.SECRET_KEY,
            "MINIO_UPDATE": "off",
            "MINIO_BROWSER": "off",
            "CI": "true",  # lets all disks of a test lie on one file system
        }
        arguments = ["server", "--quiet", "--address", self.address, "--console-address", self._console]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(servers.build_minio()), *arguments, *self._disks],
                env=environment,
                cwd=self._folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Die at once."""
        self._process.kill()
        self._process.wait()

    def log_text(self) -> str:
        """What the node said."""
        return self._log.read_text(errors="replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """All nodes; `server` is the first one."""

    nodes: Sequence[Node]

    @property
    def server(self) -> servers.Server:
        return servers.Server(endpoint=f"http://{self.nodes[0].address}")

    def wait_until_healthy(self) -> None:
        """Wait until every node knows all others: without itself there is still a quorum for writing."""
        try:
            for node in self.nodes:
                url = f"http://{node.address}/minio/health/cluster?maintenance=true"
                servers.wait_until_healthy(url, START_TIMEOUT_S)
        except RuntimeError as error:
            logs = "\n".join(node.log_text()[-1000:] for node in self.nodes)
            raise RuntimeError(f"{error}:\n{logs}") from error


@contextmanager
def open_cluster() -> Iterator[Cluster]:
    """Four nodes with empty disks, which answer."""
    with tempfile.TemporaryDirectory(prefix="objfs-cluster-") as name, ExitStack() as stack:
        folder = Path(name)
        host = stack.enter_context(_host())
        addresses = [f"{host}:{servers.free_port()}" for _ in range(NODES)]
        for number in range(NODES):
            (folder / f"node{number}" / "disk").mkdir(parents=True)
        nodes: list[Node] = []
        for number in range(NODES):
            nodes.append(Node(folder, number, addresses))
            stack.callback(nodes[-1].kill)
        cluster = Cluster(nodes=nodes)
        cluster.wait_until_healthy()
        yield cluster


@contextmanager
def _host() -> Iterator[str]:
    """An address of this machine alone, that MinIO takes for a node's.

    In a container it waits for ever for addresses in 127.0.0.0/8 to become real ones; there the loopback
    device gets a further address for a while, out of the network for benchmarks (RFC 2544).
    """
    if not any(Path(mark).exists() for mark in _CONTAINER_MARKS):
        yield "127.0.0.1"
        return
    host = f"198.18.{random.randrange(256)}.{random.randrange(1, 255)}"
    subprocess.run(["ip", "address", "add", f"{host}/32", "dev", "lo"], check=True)
    try:
        yield host
    finally:
        subprocess.run(["ip", "address", "del", f"{host}/32", "dev", "lo"], check=True)
