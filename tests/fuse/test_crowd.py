"""Many programs at once in a few folders: each finds what it did, and so does the bucket."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuse.conftest import Bucket

PROGRAMS = 6
STEPS = 3000 if os.environ.get("OBJFS_SOAK") else 150
FOLDERS = ("a", "a/b", "a/b/c", "d", "d/e")  # each program makes and removes them, as it likes
SIZES = (0, 10, 5_000, 200_000)  # the last one is beyond what MinIO keeps beside the attributes


class Program:
    """Makes, changes, renames and removes files of its own in folders that all share."""

    def __init__(self, top: Path, number: int) -> None:
        self.top = top
        self.number = number
        self.chance = random.Random(number)  # reproducible
        self.files: dict[str, bytes] = {}

    def run(self) -> None:
        for step in range(STEPS):
            with suppress(FileNotFoundError):  # of a folder that another program removed
                self._act(step)
            time.sleep(self.chance.choice((0, 0, 0.01, 0.05)))

    def _act(self, step: int) -> None:
        what = self.chance.random()
        folder = self.chance.choice(FOLDERS)
        mine = self.chance.choice([*self.files]) if self.files else None
        name = f"{folder}/{self.number}-{step}"
        if what < 0.15:
            with suppress(OSError):
                (self.top / folder).rmdir()
        elif mine is None or what < 0.45:
            (self.top / folder).mkdir(parents=True, exist_ok=True)
            self._write(name)
        elif what < 0.55:
            self._write(mine)
        elif what < 0.7:
            (self.top / mine).rename(self.top / name)
            self.files[name] = self.files.pop(mine)
        else:
            (self.top / mine).unlink()
            del self.files[mine]

    def _write(self, name: str) -> None:
        data = self.chance.randbytes(self.chance.choice(SIZES))
        (self.top / name).write_bytes(data)
        self.files[name] = data


def test_each_finds_what_it_did(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="0s") as mount:
        programs = [Program(mount.path, number) for number in range(PROGRAMS)]
        with ThreadPoolExecutor(PROGRAMS) as pool:
            for done in [pool.submit(program.run) for program in programs]:
                done.result()
        expected = {name: data for program in programs for name, data in program.files.items()}
        assert files_below(mount.path) == expected
        mount.drain()
        uploads = mount.status().uploads
        assert (uploads.parked_count, uploads.conflicts) == (0, 0), uploads
        folders = folders_below(mount.path)
        mount.umount()
        assert {key: data for key, data in bucket.contents().items() if not key.endswith("/")} == expected
    with mounted(bucket.url, environment=bucket.environment) as fresh:
        assert files_below(fresh.path) == expected
        assert folders_below(fresh.path) == folders


def files_below(top: Path) -> dict[str, bytes]:
    """All files by their path below `top`."""
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def folders_below(top: Path) -> set[str]:
    """All folders by their path below `top`."""
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_dir()}
