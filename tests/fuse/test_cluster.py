"""A MinIO of four nodes that loses one in the middle of the work, and gets it back (`make soak`)."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs.store.registry import open_store
from tests import servers
from tests.fuse.conftest import credentials
from tests.fuse.mounting import mounted
from tests.fuse.test_life import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = 4
FILES = 2000
LARGE_PIECES = 1024
PIECE_BYTES = 1024 * 1024
START_TIMEOUT_S = 120.0


class Node:
    """One process of the cluster; it may die and come back."""

    def __init__(self, folder: Path, number: int, ports: list[int]) -> None:
        self._folder = folder
        self._address = f"127.0.0.1:{ports[number]}"
        self._console = f"127.0.0.1:{servers.free_port()}"
        self._disks = [f"http://127.0.0.1:{port}{folder}/node{at}/disk" for at, port in enumerate(ports)]
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
        arguments = ["server", "--quiet", "--address", self._address, "--console-address", self._console]
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


@contextmanager
def cluster() -> Iterator[tuple[list[Node], servers.Server]]:
    """Four nodes, and the first one's address."""
    with tempfile.TemporaryDirectory(prefix="objfs-cluster-") as name, ExitStack() as stack:
        folder = Path(name)
        ports = [servers.free_port() for _ in range(NODES)]
        for number in range(NODES):
            (folder / f"node{number}" / "disk").mkdir(parents=True)
        nodes: list[Node] = []
        for number in range(NODES):
            nodes.append(Node(folder, number, ports))
            stack.callback(nodes[-1].kill)
        server = servers.Server(endpoint=f"http://127.0.0.1:{ports[0]}")
        servers.wait_until_healthy(f"{server.endpoint}/minio/health/cluster", START_TIMEOUT_S)
        yield nodes, server


@pytest.mark.skipif(not os.environ.get("OBJFS_SOAK"), reason="a test of minutes: make soak")
def test_a_node_dies_and_comes_back() -> None:
    chance = random.Random(4)
    small = {
        f"d{number % 20}/f{number}": chance.randbytes(chance.randrange(20_000)) for number in range(FILES)
    }
    large = hashlib.sha256()
    with cluster() as (nodes, server), servers.bucket_of(server) as bucket:
        url = f"minio://{server.host}/{bucket}"
        with mounted(url, environment=credentials(server), upload_delay="0s") as mount:

            def write_small() -> None:
                for name, data in small.items():
                    path = mount.path / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(data)
                    time.sleep(0.005)

            def write_large() -> None:
                with (mount.path / "large").open("wb") as file:
                    for _ in range(LARGE_PIECES):
                        piece = os.urandom(PIECE_BYTES)
                        large.update(piece)
                        file.write(piece)

            writers = [threading.Thread(target=write) for write in (write_small, write_large)]
            for writer in writers:
                writer.start()
            time.sleep(3)
            nodes[2].kill()
            time.sleep(5)
            nodes[2].start()
            for writer in writers:
                writer.join()
            wait_until(lambda: mount.status().uploads.waiting_files == 0, 600)
            status = mount.status().uploads
            assert (status.conflicts, status.parked_count) == (0, 0)
            mount.umount()
            store = open_store(url)
            for name, data in small.items():
                assert store.get(name).data == data, name
            mount.mount_again()
            found = hashlib.sha256()
            with (mount.path / "large").open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    found.update(piece)
            assert found.digest() == large.digest()
            for number in range(20):
                names = {name.split("/")[1] for name in small if name.startswith(f"d{number}/")}
                assert set(os.listdir(mount.path / f"d{number}")) == names
            store.close()
