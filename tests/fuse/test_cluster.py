"""A MinIO of four nodes that loses some in the middle of the work, and gets them back (`make soak`)."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from objfs.store.registry import open_store
from tests import servers
from tests.fuse.cluster import open_cluster
from tests.fuse.conftest import credentials
from tests.fuse.mounting import mounted
from tests.fuse.test_life import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from objfs.store.protocol import ObjectStore
    from tests.fuse.cluster import Cluster
    from tests.fuse.mounting import Mount

pytestmark = pytest.mark.skipif(not os.environ.get("OBJFS_SOAK"), reason="a test of minutes: make soak")

FILES = 2000
FOLDERS = 20
MOVED = 200
LARGE_PIECES = 1024
PIECE_BYTES = 1024 * 1024
AWAY_S = 5.0
STORE_TIMEOUT = "5m"  # on a busy machine a node takes its time to start
DRAIN_TIMEOUT_S = 600.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """All nodes up."""
    with open_cluster() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _whole(cluster: Cluster) -> None:
    cluster.wait_until_healthy()


def in_threads(*works: Callable[[], None]) -> Iterator[None]:
    """Start all, let the caller act, then join; what one of them raised is raised here."""
    wrong: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            wrong.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


while_running = contextmanager(in_threads)


class Content:
    """2,000 small files, 200 that are renamed later, and one of 1 GiB."""

    def __init__(self) -> None:
        chance = random.Random(4)
        self.small = {
            f"d{number % FOLDERS}/f{number}": chance.randbytes(chance.randrange(20_000))
            for number in range(FILES)
        }
        self.moved = {f"f{number}": chance.randbytes(chance.randrange(20_000)) for number in range(MOVED)}
        self.large = ""

    def write_small(self, folder: Path) -> None:
        to_be_moved = {f"old/{name}": data for name, data in self.moved.items()}
        for name, data in (to_be_moved | self.small).items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            time.sleep(0.005)

    def write_large(self, folder: Path) -> None:
        digest = hashlib.sha256()
        with (folder / "large").open("wb") as file:
            for _ in range(LARGE_PIECES):
                piece = os.urandom(PIECE_BYTES)
                digest.update(piece)
                file.write(piece)
        self.large = digest.hexdigest()

    def move(self, folder: Path) -> None:
        (folder / "new").mkdir()
        for name in self.moved:
            path = folder / "old" / name
            path.chmod(0o600)
            path.rename(folder / "new" / name)
            time.sleep(0.05)

    def check_moved(self, store: ObjectStore) -> None:
        assert [info.key for info in store.list("old/").objects] == ["old/"]
        for name, data in self.moved.items():
            found = store.get(f"new/{name}")
            assert found.data == data, name
            assert dict(found.info.metadata or {})["mode"] == str(stat.S_IFREG | 0o600), name

    def check_small(self, folder: Path) -> None:
        for number in range(FOLDERS):
            names = {name.split("/")[1] for name in self.small if name.startswith(f"d{number}/")}
            assert set(os.listdir(folder / f"d{number}")) == names
        for name, data in self.small.items():
            assert (folder / name).read_bytes() == data, name

    def check_large(self, folder: Path) -> None:
        digest = hashlib.sha256()
        with (folder / "large").open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
        assert digest.hexdigest() == self.large


def lose(cluster: Cluster, dying: Sequence[int]) -> None:
    """Kill nodes in turn, each until the one before is whole again; say how long each was away."""
    for number in dying:
        began = time.monotonic()
        cluster.nodes[number].kill()
        time.sleep(AWAY_S)
        cluster.nodes[number].start()
        cluster.wait_until_healthy()
        sys.stdout.write(f"node {number} was away for {time.monotonic() - began:.0f} s\n")


def assert_drained(mount: Mount) -> None:
    """All that was changed is stored, under its name."""
    wait_until(lambda: mount.status().uploads.waiting_files == 0, DRAIN_TIMEOUT_S)
    status = mount.status().uploads
    assert (status.conflicts, status.parked_count) == (0, 0)


@pytest.mark.parametrize("dying", [[2], [1, 3, 2], [0]], ids=["one", "one after the other", "ours"])
def test_nodes_die_and_come_back(dying: Sequence[int], cluster: Cluster) -> None:
    content, server = Content(), cluster.server
    with servers.bucket_of(server) as bucket:
        url = f"minio://{server.host}/{bucket}?tls=0"
        known = credentials(server)
        with mounted(url, environment=known, upload_delay="0s", store_timeout=STORE_TIMEOUT) as mount:
            with while_running(
                lambda: content.write_small(mount.path), lambda: content.write_large(mount.path)
            ):
                time.sleep(3)
                lose(cluster, dying)
            assert_drained(mount)
            mount.umount()
        store = open_store(url)
        assert store.multipart is not None
        assert store.multipart.list_uploads("") == []
        for name, data in content.small.items():
            assert store.get(name).data == data, name
        store.close()
        with mounted(url, environment=known, store_timeout=STORE_TIMEOUT) as mount:  # nothing is cached
            with while_running(
                lambda: content.check_small(mount.path),
                lambda: content.check_large(mount.path),
                lambda: content.move(mount.path),
            ):
                time.sleep(1)
                lose(cluster, dying)
            assert_drained(mount)
            mount.umount()
        store = open_store(url)
        content.check_moved(store)
        store.close()
