"""Faults of a store, between a real mount and a real MinIO: right bytes or a clean error, nothing is lost."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuse import proxy as faults
from tests.fuse.mounting import mounted
from tests.fuse.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount
    from tests.fuse.proxy import Action
    from tests.servers import Server

STORE_TIMEOUT_S = 4.0
ONE_REQUEST_BYTES = 100_000
TIMES = 15_000  # a name, so often, is more than a GET and a PUT copy
PASSING: dict[str, Action] = {
    "500": faults.status(500, "InternalError"),
    "502 without XML": faults.status(502),
    "503": faults.status(503, "SlowDown"),
    "503 Retry-After": faults.status(503, "SlowDown", Retry_After="1"),
    "429": faults.status(429, "TooManyRequests"),
    "429 Retry-After": faults.status(429, "TooManyRequests", Retry_After="1"),
    "reset": faults.reset,
    "reset in the answer": faults.reset_in_answer,
    "late": faults.late(1.0),
}
BAD_BODIES: dict[str, Action] = {
    "truncated": faults.truncated,
    "shortened": faults.shortened,
    "lengthened": faults.lengthened,
    "corrupted": faults.corrupted,
    "of another key": faults.of_another_key,
    "body of another key": faults.body_of_another_key,
    "whole for a range": faults.as_whole,
    "of another range": faults.of_another_range,
    "empty": faults.empty,
    "wrong ETag": faults.wrong_etag,
    "stall in the body": faults.stall_in_body(30),
    "drip": faults.drip(1.0),
}
EFFECTIVE: dict[str, Action] = {
    "answer lost": faults.lose_answer,
    "500 after effect": faults.fail_after(500, "InternalError"),
    "503 after effect": faults.fail_after(503, "SlowDown"),
    "reset in the answer": faults.reset_in_answer,
    "sent twice": faults.twice,
    "sent twice, the first answer comes": faults.twice_first,
}
LYING: dict[str, Action] = {
    "empty 200": faults.empty,
    "empty 200 after effect": faults.empty_after,
    "error in a 200": faults.error_in_success,
}
REFUSING: dict[str, Action] = {
    "403": faults.status(403, "AccessDenied"),
    "403 expired": faults.status(403, "ExpiredToken"),
    "403 skewed": faults.status(403, "RequestTimeTooSkewed"),
    "400 without XML": faults.status(400),
    "400": faults.status(400, "InvalidArgument"),
    "301": faults.status(301, "PermanentRedirect", x_amz_bucket_region="eu-west-9"),
    "416": faults.status(416, "InvalidRange"),
}


@contextmanager
def faulty_mount(bucket: Bucket, minio: Server, **options: str | bool) -> Iterator[tuple[Mount, Proxy]]:
    """A mount behind a proxy that does no harm yet."""
    with Proxy(minio.host) as proxy:
        url = bucket.url.replace(minio.host, proxy.host)
        given: dict[str, Any] = {"store_timeout": f"{STORE_TIMEOUT_S}s", "upload_delay": "0s", **options}
        with mounted(url, environment=bucket.environment, allow_errors=True, **given) as mount:
            try:
                yield mount, proxy
            finally:
                proxy.heal()


# -- reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10_000, 3_000_000], ids=["small", "large"])
def test_a_fault_that_passes_is_not_seen_by_readers(size: int, minio_bucket: Bucket, minio: Server) -> None:
    bodies = {**PASSING, **BAD_BODIES}
    if size > ONE_REQUEST_BYTES:  # a range has no checksum: TLS and TCP have to keep its bytes
        del bodies["corrupted"], bodies["body of another key"]
    expected = {f"f{number}": os.urandom(size) for number in range(len(bodies))}
    for name, data in expected.items():
        minio_bucket.store.put(name, data)
    minio_bucket.store.put("other", os.urandom(size + 1))
    with faulty_mount(minio_bucket, minio) as (mount, proxy):
        assert len((mount.path / "other").read_bytes()) == size + 1
        for (what, action), (name, data) in zip(bodies.items(), expected.items(), strict=True):
            proxy.rule("get", action, times=1, part=f"/{name}$")
            assert (mount.path / name).read_bytes() == data, what
            assert proxy.struck["get"] > 0, what
            proxy.heal()
            proxy.struck.clear()


def test_a_fault_that_stays_is_an_error_in_time(minio_bucket: Bucket, minio: Server) -> None:
    bodies = {**BAD_BODIES, **REFUSING, "500": faults.status(500, "InternalError"), "stall": faults.stall(30)}
    expected = {f"f{number}": os.urandom(50_000) for number in range(len(bodies))}
    for name, data in expected.items():
        minio_bucket.store.put(name, data)
    minio_bucket.store.put("other", os.urandom(300_000))
    with faulty_mount(minio_bucket, minio) as (mount, proxy):
        assert len((mount.path / "other").read_bytes()) == 300_000
        wrong: list[str] = []

        def read(what: str, name: str) -> None:
            began = time.monotonic()
            try:
                if (mount.path / name).read_bytes() != expected[name]:
                    wrong.append(f"{what}: other bytes")
            except OSError as error:
                if error.errno not in (errno.EIO, errno.ETIMEDOUT, errno.EACCES, errno.ESTALE, errno.EINVAL):
                    wrong.append(f"{what}: {error}")
            if time.monotonic() - began > 3 * STORE_TIMEOUT_S:
                wrong.append(f"{what}: {time.monotonic() - began:.0f} s")

        threads = []
        for (what, action), name in zip(bodies.items(), expected, strict=True):
            proxy.rule("get", action, part=f"/{name}$")
            threads.append(threading.Thread(target=read, args=(what, name)))
            threads[-1].start()
        assert sorted(path.name for path in mount.path.iterdir()) == sorted([*expected, "other"])
        for thread in threads:
            thread.join()
        assert not wrong
        proxy.heal()
        for name, data in expected.items():
            assert (mount.path / name).read_bytes() == data, name


def test_faults_of_listings_and_heads(minio_bucket: Bucket, minio: Server) -> None:
    for number in range(30):
        minio_bucket.store.put(f"d{number}/file", b"x" * number)
        minio_bucket.store.put(f"alone/{number}/d/file", b"x")  # no listing of a sibling tells of these
    bad = {**PASSING, "empty": faults.empty, "shortened": faults.shortened, "truncated": faults.truncated}
    with faulty_mount(minio_bucket, minio, metadata_ttl="0s") as (mount, proxy):
        for number, (what, action) in enumerate(bad.items()):
            proxy.rule(frozenset({"list", "head"}), action, times=2)
            assert [path.name for path in (mount.path / f"d{number}").iterdir()] == ["file"], what
            assert (mount.path / f"d{number}" / "file").stat().st_size == number, what
            assert not (mount.path / f"d{number}" / "none").exists(), what
            proxy.heal()
        for number, (what, action) in enumerate(REFUSING.items()):
            folder = mount.path / "alone" / str(number) / "d"
            proxy.rule(frozenset({"list", "head"}), action)
            with pytest.raises(OSError, match=r"Permission|Input/output|Invalid|Stale"):
                os.listdir(folder)
            proxy.heal()
            assert os.listdir(folder) == ["file"], what


# -- writing ----------------------------------------------------------------------------------------


class Work:
    """Changes of every kind in one folder, on objects that were there and new ones."""

    def __init__(self, mount: Mount, folder: str) -> None:
        self._path = mount.path / folder
        self._folder = folder
        self._chance = random.Random(folder)
        self._large = self._chance.randbytes(17 * 1024 * 1024) if folder.startswith("large") else b""
        self.expected: dict[str, bytes] = {f"{folder}/": b""}

    def begin(self) -> None:
        """What is in the store before."""
        self._path.mkdir()
        for name in ("changed", "renamed", "gone", "moded", "target"):
            (self._path / name).write_bytes(name.encode() * TIMES)
        (self._path / "tree").mkdir()
        for number in range(5):
            (self._path / "tree" / f"{number}").write_bytes(b"%d" % number)

    def change(self) -> None:
        """What faults befall."""
        with (self._path / "changed").open("ab") as file:
            file.write(b"more")
        (self._path / "renamed").rename(self._path / "target")
        (self._path / "gone").unlink()
        (self._path / "moded").chmod(0o600)
        (self._path / "new").write_bytes(b"new")
        (self._path / "tree").rename(self._path / "forest")
        if self._large:
            (self._path / "large").write_bytes(self._large)
        expected = {"changed": b"changed" * TIMES + b"more", "target": b"renamed" * TIMES, "new": b"new"}
        expected |= {"moded": b"moded" * TIMES, "forest/": b""}
        expected |= {f"forest/{number}": b"%d" % number for number in range(5)}
        if self._large:
            expected["large"] = self._large
        self.expected |= {f"{self._folder}/{name}": data for name, data in expected.items()}

    def check_mount(self) -> None:
        """The mount shows it, whatever the store did."""
        for key, data in self.expected.items():
            if not key.endswith("/"):
                assert (self._path.parent / key).read_bytes() == data, key
        names = {key.split("/")[1] for key in self.expected} - {""}
        assert set(os.listdir(self._path)) == names


KINDS = {
    "put": frozenset({"put"}),
    "copy": frozenset({"create", "copy-part", "complete"}),
    "delete": frozenset({"delete", "delete-batch"}),
    "parts": frozenset({"create", "part", "copy-part", "complete"}),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_fault_that_passes_is_not_seen_by_writers(kind: str, minio_bucket: Bucket, minio: Server) -> None:
    struck = {**PASSING, **EFFECTIVE, **LYING}
    struck["late"] = faults.late(1.5)
    if kind != "delete":
        struck["wrong ETag"] = faults.wrong_etag
    with faulty_mount(minio_bucket, minio, store_timeout="4s") as (mount, proxy):
        prefix = "large" if kind == "parts" else "small"
        works = {what: Work(mount, f"{prefix}{number}") for number, what in enumerate(struck)}
        for number, (what, work) in enumerate(works.items()):
            work.begin()
            for one in KINDS[kind] - ({"delete"} if what in LYING else set()):  # a DELETE answers nothing
                times = 1 if what in PASSING else 3
                proxy.rule(one, struck[what], times=times, part=f"/{prefix}{number}/")
            proxy.break_early(KINDS[kind], times=1, part=f"/{prefix}{number}/")
        mount.drain()
        for work in works.values():
            work.change()
            work.check_mount()
        mount.drain()
        for work in works.values():
            work.check_mount()
        assert mount.status().uploads.parked_count == 0, mount.status().uploads.parked
        assert mount.status().uploads.conflicts == 0
        assert sum(proxy.struck[one] for one in KINDS[kind]) >= len(struck)
        mount.umount()
        wanted = {key: data for work in works.values() for key, data in work.expected.items()}
        found = minio_bucket.contents()
        assert found.keys() == wanted.keys()
        assert found == wanted
        assert minio_bucket.store.multipart is not None
        assert minio_bucket.store.multipart.list_uploads("") == []


@pytest.mark.parametrize("scheme", ["minio", "s3"])
def test_a_wrong_etag_in_the_answers_to_our_own_writes(
    scheme: str, request: pytest.FixtureRequest, minio: Server
) -> None:
    bucket: Bucket = request.getfixturevalue(f"{scheme}_bucket")
    with Proxy(minio.host) as proxy:
        url = bucket.url.replace(minio.host, proxy.host)
        environment = {**bucket.environment, "AWS_ENDPOINT_URL": f"http://{proxy.host}"}
        with mounted(url, environment=environment, upload_delay="0s", metadata_ttl="1h") as mount:
            proxy.rule(frozenset({"put", "complete"}), faults.wrong_etag)
            large = os.urandom(17 * 1024 * 1024)
            gone = ("gone", "large gone", "copied gone", "moded gone")
            for name in ("changed", "replaced", "moded", "source", *gone):
                (mount.path / name).write_bytes(large if "large" in name else name.encode() * TIMES)
            (mount.path / "d").mkdir()
            (mount.path / "d" / "in a directory").write_bytes(b"in a directory")
            mount.drain()
            struck = proxy.struck.copy()
            assert struck["put"] > 0
            assert struck["complete"] > 0
            (mount.path / "source").rename(mount.path / "renamed")
            (mount.path / "copied gone").rename(mount.path / "copied")
            (mount.path / "moded").chmod(0o600)
            (mount.path / "moded gone").chmod(0o600)
            (mount.path / "d").rename(mount.path / "e")
            mount.drain()
            assert proxy.struck["put"] > struck["put"]
            assert proxy.struck["complete"] > struck["complete"]
            assert (mount.path / "replaced").read_bytes() == b"replaced" * TIMES
            with (mount.path / "changed").open("ab") as file:
                file.write(b"more")
            (mount.path / "replaced").write_bytes(b"by this")
            for name in ("gone", "large gone", "copied", "moded gone", "e/in a directory"):
                (mount.path / name).unlink()
            (mount.path / "e").rmdir()
            mount.drain()
            expected = {"changed": b"changed" * TIMES + b"more", "replaced": b"by this"}
            expected |= {"moded": b"moded" * TIMES, "renamed": b"source" * TIMES}
            assert {path.name: path.read_bytes() for path in mount.path.iterdir()} == expected
            uploads = mount.status().uploads
            assert (uploads.conflicts, uploads.parked_count) == (0, 0)
            assert bucket.contents() == expected
            assert proxy.seen["head"] > 0
