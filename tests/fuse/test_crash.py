"""Real mounts killed at random instants while programs write: nothing acknowledged is lost, mixed or back."""

from __future__ import annotations

import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuse.acknowledged import Writer, difference, observe
from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from tests.fuse.acknowledged import Tree
    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount

WRITERS = 3
CONTINUOUS = bool(os.environ.get("OBJFS_SOAK"))
ROUNDS = 200 if CONTINUOUS else 20  # for each of two stores
DELAYS = ("0s", "20ms", "200ms", "2s")  # how long a change rests before it is sent
JOIN_TIMEOUT_S = 60.0


def write_until_killed(mount: Mount, writers: list[Writer], alive_s: float) -> None:
    """Let writers work, kill the mount under them, and see that they met nothing else."""
    killed = threading.Event()
    wrong: list[BaseException] = []

    def work(writer: Writer) -> None:
        try:
            while True:
                writer.step()
        except OSError as error:
            if not killed.is_set():
                wrong.append(error)
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    time.sleep(alive_s)
    pid_known = mount.pid
    killed.set()
    mount.kill()
    for thread in threads:
        thread.join(JOIN_TIMEOUT_S)
        assert not thread.is_alive(), f"a program hangs after the death of {pid_known}"
    assert not wrong, (wrong, [writer.history[-5:] for writer in writers])


def as_objects(trees: dict[str, Tree]) -> dict[str, bytes]:
    """Keys and bytes that a bucket must have for these trees; directories as their markers."""
    wanted: dict[str, bytes] = {}
    for folder, tree in trees.items():
        wanted[f"{folder}/"] = b""
        for name, entry in tree.items():
            key = f"{folder}/{name}"
            wanted[f"{key}/" if entry.kind == "directory" else key] = entry.data
    return wanted


@pytest.mark.parametrize("store", ["file", "minio"])
def test_killed_at_random_instants(store: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(f"{store}_bucket")
    seed = int(os.environ.get("OBJFS_TEST_SEED") or random.randrange(1 << 32))
    chance = random.Random(seed)
    options: dict[str, Any] = {"metadata_ttl": "2s"}
    if chance.random() < 0.5:
        options["xattrs"] = True
    with mounted(bucket.url, environment=bucket.environment, **options) as mount:
        names = [f"w{number}" for number in range(WRITERS)]
        for name in names:
            (mount.path / name).mkdir()
        writers = [
            Writer(mount.path / name, random.Random(chance.random()), "xattrs" in options) for name in names
        ]
        for round_ in range(ROUNDS):
            try:
                write_until_killed(mount, writers, chance.uniform(0.05, 1.5))
                mount.options = {**mount.options, "upload_delay": chance.choice(DELAYS)}
                mount.mount_again()
                for writer in writers:
                    writer.check()
            except AssertionError as error:
                raise AssertionError(f"round {round_} of OBJFS_TEST_SEED={seed}: {error}") from error
        assert sorted(path.name for path in mount.path.iterdir()) == names
        told = [line for line in mount.place.log_text().splitlines() if " WARNING " in line]
        assert not [line for line in told if "conflict" in line or "nothing to act on" in line], told
        done = mount.place.run("flush", str(mount.path))
        assert done.returncode == 0, done.stderr
        wanted = {name: writer.acknowledged for name, writer in zip(names, writers, strict=True)}
        found = bucket.contents()
        for key in [key for key in as_objects(wanted) if key.endswith("/") and key not in found]:
            assert any(other.startswith(key) for other in found), f"lost {key!r}, seed {seed}"
            found[key] = b""
        assert found == as_objects(wanted), f"OBJFS_TEST_SEED={seed}"
    with mounted(bucket.url, environment=bucket.environment, **options) as mount:
        for name, tree in wanted.items():
            seen = observe(mount.path / name)
            assert seen == tree, f"OBJFS_TEST_SEED={seed}: {difference(seen, tree)}"
