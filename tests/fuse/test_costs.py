"""What common jobs cost in requests on a store like Amazon S3: not more than the README says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs.upload.pacing import COMPANY_S
from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount

README = Path(__file__).parents[2] / "README.md"
KINDS = {  # columns of the table
    "PUT": ("put", "copy", "create_upload", "upload_part", "copy_part", "complete"),
    "LIST": ("list", "list_uploads"),
    "GET": ("get",),
    "HEAD": ("head",),
    "DELETE": ("delete", "abort"),
}
MANY, FEW, DIRECTORIES = 1000, 100, 50
SMALL, LARGE, PATCH = 4096, 64 * 1024**2, 4096
TTL = "1h"  # that of no job ends in the middle, however slow the machine
ABOUT = 2  # how many deletes go together, and how far reading ahead goes, depends on timing
REMOVED_WITHIN_S = 60.0
SLACK = 3  # requests that depend on timing, for instance a listing that ended its life meanwhile


def promised() -> dict[str, Counter[str]]:
    """The README's table: job -> requests by column."""
    rows = re.findall(
        r"^\| ([^|]+?) +\|" + r" *(\d[\d,]*|-) *\|" * len(KINDS) + "$", README.read_text(), re.MULTILINE
    )
    numbers = {row[0]: [int(text.replace(",", "").replace("-", "0")) for text in row[1:]] for row in rows}
    return {job: Counter(dict(zip(KINDS, counts, strict=True))) for job, counts in numbers.items()}


def counted(mount: Mount) -> Counter[str]:
    """Requests since the mount began."""
    done = mount.place.run("top", str(mount.path), "--once", "--json")
    assert done.returncode == 0, done.stderr
    totals = {name: one["total"] for name, one in json.loads(done.stdout)["requests"].items()}
    known = {kind for kinds in KINDS.values() for kind in kinds}
    assert totals.keys() <= known, totals.keys() - known
    return Counter({column: sum(totals.get(kind, 0) for kind in kinds) for column, kinds in KINDS.items()})


def write_many(root: Path) -> None:
    (root / "many").mkdir()
    for number in range(MANY):
        (root / "many" / f"{number:04}").write_bytes(b"x" * SMALL)


def read_many(root: Path) -> None:
    for number in range(MANY):
        assert len((root / "many" / f"{number:04}").read_bytes()) == SMALL


def list_many(root: Path) -> None:
    assert sum(entry.stat().st_size for entry in (root / "many").iterdir()) == MANY * SMALL


def write_tree(root: Path) -> None:
    for directory in range(DIRECTORIES):
        (root / "tree" / f"d{directory}").mkdir(parents=True)
        for number in range(2):
            (root / "tree" / f"d{directory}" / f"{number}").write_bytes(b"x")


def walk_tree(root: Path) -> None:
    assert len([path for path in (root / "tree").rglob("*") if path.is_file()]) == 2 * DIRECTORIES


def write_large(root: Path) -> None:
    with (root / "large").open("wb") as file:
        for _ in range(LARGE // 1024**2):
            file.write(b"x" * 1024**2)


def read_large(root: Path) -> None:
    with (root / "large").open("rb") as file:
        assert sum(map(len, iter(lambda: file.read(1024**2), b""))) == LARGE


def patch_large(root: Path) -> None:
    with (root / "large").open("r+b") as file:
        file.seek(LARGE // 2)
        file.write(b"y" * PATCH)


def rename_tree(root: Path) -> None:
    (root / "tree").rename(root / "moved")


def remove_many(root: Path) -> None:
    shutil.rmtree(root / "many")


def nothing(root: Path) -> None:
    assert root.is_dir()


# In this order; cold: by a mount with an empty cache.
JOBS: list[tuple[str, bool, Callable[[Path], None]]] = [
    ("mount an empty bucket, and unmount", True, nothing),
    ("write 1,000 small files", False, write_many),
    ("read 1,000 small files, first time", True, read_many),
    ("read 1,000 small files again", False, read_many),
    ("`ls -l` of 1,000 files, first time", True, list_many),
    ("write a tree of 50 directories with 100 files", False, write_tree),
    ("`find` in that tree, first time", True, walk_tree),
    ("rename that tree", False, rename_tree),
    ("write a file of 64 MiB", False, write_large),
    ("read that file, first time", True, read_large),
    ("change 4 KiB in the middle of it", False, patch_large),
    ("remove 1,000 files", False, remove_many),
]


@contextmanager
def a_mount(bucket: Bucket, cache: Path, *, upload_delay: str = "1s") -> Iterator[Mount]:
    with mounted(
        bucket.url,
        cache=cache,
        environment=bucket.environment,
        metadata_ttl=TTL,
        upload_delay=upload_delay,
    ) as mount:
        yield mount


def make_like_amazon(bucket: Bucket, cache: Path) -> None:
    """Have mounts with this cache directory not know that MinIO's listings tell metadata."""
    with a_mount(bucket, cache):
        pass
    (memory,) = cache.rglob("conditions.json")
    known = json.loads(memory.read_text())
    assert known["listing_metadata"]
    memory.write_text(json.dumps({**known, "listing_metadata": False}))


def measure(bucket: Bucket, folder: Path) -> dict[str, Counter[str]]:
    """Run all jobs; requests by job."""
    found: dict[str, Counter[str]] = {}
    stages: list[list[tuple[str, Callable[[Path], None]]]] = []
    for name, cold, job in JOBS:
        stages += [[]] if cold else []
        stages[-1].append((name, job))
    for number, stage in enumerate(stages):
        make_like_amazon(bucket, folder / f"cache{number}")
        with a_mount(bucket, folder / f"cache{number}") as mount:
            before = Counter[str]() if number == 0 else counted(mount)
            for name, job in stage:
                job(mount.path)
                mount.drain()
                after = counted(mount)
                found[name] = after - before
                before = after
    return found


@pytest.mark.parametrize("store", ["s3", "moto"])
def test_many_removals_are_few_requests(store: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """They wait for one another, however early the first of them is due, and are compared by listings."""
    bucket: Bucket = request.getfixturevalue(f"{store}_bucket")
    with a_mount(bucket, tmp_path / "first") as mount:
        write_many(mount.path)
    with a_mount(bucket, tmp_path / "second", upload_delay="0.1s") as mount:
        start_s = time.monotonic()
        subprocess.run(["rm", "-rf", str(mount.path / "many")], check=True)
        took_s = time.monotonic() - start_s
        while bucket.store.list("many/").objects:  # the status would cost requests of the mount
            assert time.monotonic() < start_s + took_s + REMOVED_WITHIN_S
            time.sleep(0.1)
        cost = counted(mount)
        assert not bucket.contents()
    batches = took_s / COMPANY_S + 2 * SLACK  # one by one they would be a thousand
    assert cost["DELETE"] <= batches, (cost, took_s)
    assert cost["LIST"] <= 2 * batches + SLACK, (cost, took_s)
    looks = 0 if store == "s3" else MANY + 1  # what listings don't tell: whether a name is a directory
    assert cost["HEAD"] <= looks + batches, (cost, took_s)


def test_listings_of_minio_tell_attributes(s3_bucket: Bucket, tmp_path: Path) -> None:
    with a_mount(s3_bucket, tmp_path / "first") as mount:
        write_many(mount.path)
        write_tree(mount.path)
    with a_mount(s3_bucket, tmp_path / "second") as mount:
        list_many(mount.path)
        walk_tree(mount.path)
        cost = counted(mount)
    assert cost["HEAD"] <= DIRECTORIES + 3 + SLACK, cost  # markers of directories
    assert cost["LIST"] <= 8 + SLACK, cost  # as many as the README tells, elsewhere too


@pytest.mark.skipif(not os.environ.get("OBJFS_SOAK"), reason="two minutes: make soak")
def test_jobs_cost_what_the_readme_says(s3_bucket: Bucket, tmp_path: Path) -> None:
    found, table = measure(s3_bucket, tmp_path), promised()
    lines = [
        f"| {name} | " + " | ".join(f"{counts[kind]:,}" for kind in KINDS) + " |"
        for name, counts in found.items()
    ]
    assert table.keys() == found.keys(), "\n".join(lines)
    for name, counts in found.items():
        for kind in KINDS:
            assert counts[kind] <= ABOUT * table[name][kind] + SLACK, (name, kind, "\n".join(lines))
            assert table[name][kind] <= ABOUT * counts[kind] + SLACK, (name, kind, "\n".join(lines))
