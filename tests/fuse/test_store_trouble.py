"""A store that lists nonsense, changes its keys or its bucket under a mount, or sends without an end."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import boto3
import pytest
import trio
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin

from objfs.errors import PreconditionFailedError
from objfs.store.probe import ProbedStore, probe_conditions
from objfs.store.retry import RetryingStore
from objfs.store.threads import ThreadedStore
from objfs.store.values import ANY, PutOptions
from objfs.upload.copies import PUT_COPY_BYTES, Copies
from objfs.upload.uploads import Uploads
from objfs_cache.journal import open_journal
from tests.fuse import proxy as faults
from tests.fuse.failing import HOST, RESOLVER, Faults
from tests.fuse.mounting import a_place, mounted
from tests.fuse.proxy import Proxy
from tests.fuse.test_life import wait_until
from tests.fuse.test_promises import MIB, reads
from tests.servers import ACCESS_KEY, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from objfs.store.forward import RequestKind
    from objfs.store.protocol import ObjectStore
    from objfs.store.values import Version
    from objfs_cache.journal import Journal
    from tests.fuse.conftest import Bucket
    from tests.servers import Server

ENOUGH = 5  # refusals that were no more
NAMES = [f"f{number:04}" for number in range(1100)]  # two pages of a listing


# -- listings ---------------------------------------------------------------------------------------


@pytest.fixture
def many(minio_bucket: Bucket) -> Bucket:
    """A directory of more than one page."""
    threads = [
        threading.Thread(
            target=lambda part: [minio_bucket.store.put(f"d/{name}", b"x") for name in part],
            args=(NAMES[at::8],),
        )
        for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return minio_bucket


def on_disk(bucket: Bucket, minio: Server) -> Path:
    """Where MinIO keeps what is in a bucket."""
    assert minio.disk is not None
    return minio.disk / bucket.url.removeprefix(f"minio://{minio.host}/").removeprefix("s3://")


@pytest.mark.parametrize("kind", ["minio", "s3"])
def test_folders_that_a_dead_client_left_in_the_store(
    kind: str, request: pytest.FixtureRequest, minio: Server
) -> None:
    bucket: Bucket = request.getfixturevalue(f"{kind}_bucket")
    for key in ("d/kept/f", "d/other/deep/f", "d/f"):
        bucket.store.put(key, b"x")
    top = on_disk(bucket, minio) / "d"
    for name in ("n1", "n2/n3", "kept/n4"):  # an upload cut short leaves this when its object is deleted
        (top / name / str(uuid.uuid4())).mkdir(parents=True)
        next((top / name).iterdir()).joinpath("xl.meta.bkp").write_bytes(b"x")
    assert "d/n1/" in bucket.store.list("d/", delimiter="/").prefixes
    with mounted(bucket.url, environment=bucket.environment, metadata_ttl="0s") as mount:
        folder = mount.path / "d"
        for _ in range(2):
            assert sorted(os.listdir(folder)) == ["f", "kept", "other"]
            assert not (folder / "n1").exists()
            assert os.listdir(folder / "kept") == ["f"]
        (folder / "n1").write_bytes(b"a file")
        (folder / "n2").mkdir()
        assert os.listdir(folder / "n2") == []
        mount.drain()
        assert (folder / "n1").read_bytes() == b"a file"
        assert os.listdir(folder / "n2") == []
        done = subprocess.run(["rm", "-r", str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        mount.drain()
        assert os.listdir(mount.path) == []
    assert not bucket.contents()


@pytest.mark.parametrize("kind", ["minio", "s3"])
def test_writes_while_others_empty_the_folder(kind: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(f"{kind}_bucket")
    repeated: list[RequestKind] = []
    store = RetryingStore(bucket.store, on_retry=repeated.append)
    store.put("source", b"x")
    folder = "n/" * 100  # MinIO makes and removes a folder for each, and fails where both meet

    def put_and_delete(name: str) -> None:
        for _ in range(3000):
            if len(repeated) >= ENOUGH:
                return
            if name == "copied":
                store.copy("source", folder + name)
            else:
                store.put(folder + name, b"x")
            assert not store.delete([folder + name])

    with ThreadPoolExecutor() as pool:
        list(pool.map(put_and_delete, ["", "put", "copied"]))
    assert len(repeated) >= ENOUGH


def test_attributes_are_not_changed_in_place(minio_bucket: Bucket, minio: Server) -> None:
    """What MinIO overwrites is lost if it is stopped then."""
    minio_bucket.store.put("small-and-alone", b"x")
    minio_bucket.store.put("large-and-alone", bytes(300_000))
    for name in ("small-and-alone", "large-and-alone"):
        file = on_disk(minio_bucket, minio) / name / "xl.meta"
        before = file.stat().st_ino
        version = minio_bucket.store.head(name).version
        options = PutOptions(metadata={"mode": "33188"})
        assert minio_bucket.store.copy(name, name, options=options) == version
        assert file.stat().st_ino != before
        assert minio_bucket.store.head(name).metadata == options.metadata


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_attributes_changed_beside_a_write(minio_bucket: Bucket, tmp_path: Path, size: int) -> None:
    """MinIO's COPY knows no condition; all the same the write is not undone."""
    store = ProbedStore(minio_bucket.store, probe_conditions(minio_bucket.store))
    assert not store.capabilities.copy_conditions
    options = PutOptions(metadata={"x": "1"})

    async def change(journal: Journal, before: Version) -> None:
        threaded = ThreadedStore(store)
        copies = Copies(threaded, Uploads(threaded, journal, lambda: None))
        with suppress(PreconditionFailedError):
            await copies.make("a", "a", before, options, ANY)

    with ThreadPoolExecutor() as pool, open_journal(tmp_path / "journal") as journal:
        for _ in range(60):
            before = store.put("a", b"x" * size)
            writing = pool.submit(_write_late, store, "a", b"after")
            trio.run(change, journal, before)
            written, blob = writing.result(), store.get("a")
            assert (blob.info.version, blob.data) == (written, b"after")
            assert not blob.info.metadata
        assert journal.notes() == {}
    assert not minio_bucket.store.multipart.list_uploads("a")  # type: ignore[union-attr]


def _write_late(store: ObjectStore, key: str, data: bytes) -> Version:
    time.sleep(random.uniform(0.0, 0.01))
    return store.put(key, data)


@pytest.mark.parametrize("size", [1000, 300_000])
@pytest.mark.parametrize("how", ["rename over", "rename", "directory", "attributes"])
def test_nothing_is_copied_over_a_write_of_others(
    minio_bucket: Bucket, minio: Server, how: str, size: int
) -> None:
    """It comes between the comparison and the last request of a copy."""
    ours, store = b"o" * size, minio_bucket.store
    old, new = ("d/f", "e/f") if how == "directory" else ("old", "new")
    changed = old if how == "attributes" else new
    store.put(old, ours)
    if how == "rename over":
        store.put(new, b"before")

    def write_first(_proxy: Proxy, request: faults.Request, forward: faults.Forward) -> faults.Reply:
        store.put(changed, b"theirs")
        return forward(request)

    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(url, environment=minio_bucket.environment, upload_delay="0s") as mount:
            proxy.seen.clear()  # what the mount found out about the store
            proxy.rule(frozenset({"put", "complete", "copy"}), write_first, times=1, part=f"/{changed}$")
            if how == "attributes":
                (mount.path / old).chmod(0o600)
            elif how == "directory":
                (mount.path / "d").rename(mount.path / "e")
            else:
                (mount.path / old).rename(mount.path / new)
            mount.drain()
            assert sum(proxy.struck.values()) == 1
            assert "copy" not in proxy.seen
    contents = minio_bucket.contents()
    assert contents.pop(changed) == b"theirs"
    assert [*contents.values()] == ([] if how == "attributes" else [ours])
    assert all(".conflict-" in key for key in contents)
    assert all(("-" in store.head(key).version.etag) is (size > PUT_COPY_BYTES) for key in contents)
    assert not store.multipart.list_uploads(changed)  # type: ignore[union-attr]


def test_listings_out_of_order(many: Bucket, minio: Server) -> None:
    with Proxy(minio.host) as proxy:
        url = many.url.replace(minio.host, proxy.host)
        with mounted(url, environment=many.environment, metadata_ttl="0s") as mount:
            changes = {
                "repeated": lambda entries: [*entries, *entries[:50]],
                "unsorted": lambda entries: [*entries[500:], *entries[:500]],
                "backwards": lambda entries: entries[::-1],
            }
            for what, change in changes.items():
                proxy.rule("list", faults.listing(change), part="")
                assert sorted(os.listdir(mount.path / "d")) == NAMES, what
                assert (mount.path / "d" / NAMES[7]).read_bytes() == b"x", what
                assert proxy.struck["list"], what
                proxy.struck.clear()
                proxy.heal()


def test_a_refused_page_is_an_error_and_no_short_listing(many: Bucket, minio: Server) -> None:
    with Proxy(minio.host) as proxy:
        url = many.url.replace(minio.host, proxy.host)
        with mounted(
            url, environment=many.environment, metadata_ttl="0s", store_timeout="3s", allow_errors=True
        ) as mount:
            proxy.rule("list", faults.next_page(faults.status(400, "InvalidArgument")))
            with pytest.raises(OSError, match=r"Invalid|Input/output"):
                os.listdir(mount.path / "d")
            assert (mount.path / "d" / NAMES[-1]).read_bytes() == b"x"
            proxy.heal()
            assert sorted(os.listdir(mount.path / "d")) == NAMES


def test_a_listing_that_lags_behind_hides_nothing_of_ours(minio_bucket: Bucket, minio: Server) -> None:
    minio_bucket.store.put("d/old", b"old")
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(
            url, environment=minio_bucket.environment, metadata_ttl="0s", upload_delay="0s"
        ) as mount:
            lagging = faults.listing(lambda entries: [one for one in entries if b"d/new" not in one])
            proxy.rule("list", faults.with_delimiter(lagging))
            (mount.path / "d" / "new").write_bytes(b"new")
            mount.drain()
            assert (mount.path / "d" / "new").read_bytes() == b"new"
            with (mount.path / "d" / "new").open("ab") as file:
                file.write(b" and more")
            mount.drain()
            assert (mount.path / "d" / "new").read_bytes() == b"new and more"
            proxy.heal()
            wait_until(lambda: sorted(os.listdir(mount.path / "d")) == ["new", "old"], 5)
    assert minio_bucket.contents() == {"d/old": b"old", "d/new": b"new and more"}


# -- what a mount stands on is taken away -----------------------------------------------------------


def test_the_bucket_is_deleted_and_made_again(minio_bucket: Bucket, minio: Server) -> None:
    minio_bucket.store.put("d/cached", b"cached")
    minio_bucket.store.put("d/other", b"other")
    name = minio_bucket.url.split("/")[3]
    client = boto3.client("s3", endpoint_url=minio.endpoint)
    with mounted(
        minio_bucket.url, environment=minio_bucket.environment, allow_errors=True, metadata_ttl="1h",
        store_timeout="3s", upload_delay="0s",
    ) as mount:  # fmt: skip
        assert (mount.path / "d" / "cached").read_bytes() == b"cached"
        minio_bucket.store.delete(["d/cached", "d/other"])
        client.delete_bucket(Bucket=name)
        assert (mount.path / "d" / "cached").read_bytes() == b"cached"
        (mount.path / "d" / "new").write_bytes(b"new")
        (mount.path / "d" / "cached").rename(mount.path / "d" / "moved")
        wait_until(lambda: mount.status().store.error is not None)
        assert "bucket" in (mount.status().store.error or "").lower()
        assert (mount.path / "d" / "new").read_bytes() == b"new"
        mount.kill()
        client.create_bucket(Bucket=name)
        mount.mount_again()
        assert (mount.path / "d" / "new").read_bytes() == b"new"
        mount.drain()
        assert minio_bucket.contents()["d/new"] == b"new"
    client.close()


@pytest.mark.parametrize("scheme", ["minio", "s3"])
def test_credentials_are_changed_under_a_mount(
    scheme: str, request: pytest.FixtureRequest, minio: Server, tmp_path: Path
) -> None:
    bucket: Bucket = request.getfixturevalue(f"{scheme}_bucket")
    keys = tmp_path / "credentials"

    def write(secret: str) -> None:
        keys.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n")
        keys.chmod(0o600)

    write(SECRET_KEY)
    hidden = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environment = {name: value for name, value in bucket.environment.items() if name not in hidden}
    with Proxy(minio.host) as proxy:
        url = bucket.url.replace(minio.host, proxy.host)
        environment["AWS_ENDPOINT_URL"] = f"http://{proxy.host}"
        with mounted(
            url, environment=environment, allow_errors=True, upload_delay="0s", store_timeout="3s",
            credentials_file=str(keys), metadata_ttl="1h",
        ) as mount:  # fmt: skip
            (mount.path / "before").write_bytes(b"before")
            mount.drain()
            proxy.rule(faults.ANY, faults.status(403, "ExpiredToken"))
            (mount.path / "during").write_bytes(b"during")
            wait_until(lambda: mount.status().uploads.waiting_files == 1)
            assert (mount.path / "during").read_bytes() == b"during"
            assert (mount.path / "before").read_bytes() == b"before"
            proxy.heal()
            mount.drain()
            assert mount.status().uploads.parked_count == 0
    assert bucket.contents() == {"before": b"before", "during": b"during"}


@pytest.mark.parametrize("scheme", ["minio", "s3"])
def test_revoked_credentials_are_replaced_in_their_file(
    scheme: str, request: pytest.FixtureRequest, minio: Server, tmp_path: Path
) -> None:
    bucket: Bucket = request.getfixturevalue(f"{scheme}_bucket")
    for name in ("cached", "read", "gone", "moved", "changed"):
        bucket.store.put(name, name.encode() * 1000)
    keys = tmp_path / "credentials"
    provider = StaticProvider(ACCESS_KEY, SECRET_KEY)
    admin = MinioAdmin(endpoint=minio.host, credentials=provider, secure=False)

    def rotate(user: str) -> None:
        """A new user's keys are in the file."""
        admin.user_add(user, SECRET_KEY)
        admin.policy_set("readwrite", user=user)
        keys.write_text(f"[default]\naws_access_key_id = {user}\naws_secret_access_key = {SECRET_KEY}\n")
        keys.chmod(0o600)

    old, new = (f"user-{uuid.uuid4().hex[:12]}" for _ in range(2))
    rotate(old)
    hidden = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    environment = {name: value for name, value in bucket.environment.items() if name not in hidden}
    with mounted(
        bucket.url, environment=environment, allow_errors=True, upload_delay="0s", store_timeout="3s",
        credentials_file=str(keys), metadata_ttl="1h",
    ) as mount:  # fmt: skip
        assert (mount.path / "cached").read_bytes() == b"cached" * 1000
        assert len(list(mount.path.iterdir())) == 5
        admin.user_remove(old)
        (mount.path / "new").write_bytes(b"new")
        (mount.path / "gone").unlink()
        (mount.path / "moved").rename(mount.path / "there")
        with (mount.path / "changed").open("ab") as file:
            file.write(b"more")
        wait_until(lambda: mount.status().store.error is not None)
        assert not reads(mount.path / "read", b"read" * 1000)
        assert (mount.path / "cached").read_bytes() == b"cached" * 1000
        assert mount.status().uploads.parked_count == 0
        rotate(new)
        assert (mount.path / "read").read_bytes() == b"read" * 1000
        mount.drain()
        assert mount.status().uploads.parked_count == 0
        assert mount.status().store.error is None
        assert bucket.contents() == {
            "cached": b"cached" * 1000, "read": b"read" * 1000, "there": b"moved" * 1000,
            "changed": b"changed" * 1000 + b"more", "new": b"new",
        }  # fmt: skip
    admin.user_remove(new)


# -- the store's name -------------------------------------------------------------------------------


def test_a_name_that_cannot_be_resolved_at_the_mount(
    minio_bucket: Bucket, minio: Server, tmp_path: Path
) -> None:
    machine = Faults(tmp_path / "faults")
    with a_place(environment={**minio_bucket.environment, **machine.environment}) as place:
        port = minio.host.partition(":")[2]
        url = f"{minio_bucket.url.replace(minio.host, f'{HOST}:{port}')}?tls=0"
        with machine.failing(RESOLVER):
            done = place.mount(url)
        assert done.returncode == 1
        (sentence,) = done.stderr.splitlines()
        assert f"The name of the store at http://{HOST}:{port} cannot be resolved" in sentence
        assert "check" in sentence
        assert not os.path.ismount(place.mountpoint)


def test_a_name_that_cannot_be_resolved_for_a_while(
    minio_bucket: Bucket, minio: Server, tmp_path: Path
) -> None:
    for name in ("cached", "other"):
        minio_bucket.store.put(name, name.encode())
    machine = Faults(tmp_path / "faults")
    with Proxy(minio.host) as proxy:
        url = f"{minio_bucket.url.replace(minio.host, proxy.host.replace('127.0.0.1', HOST))}?tls=0"
        with mounted(
            url, environment={**minio_bucket.environment, **machine.environment}, allow_errors=True,
            upload_delay="0s", store_timeout="3s", metadata_ttl="1h",
        ) as mount:  # fmt: skip
            assert (mount.path / "cached").read_bytes() == b"cached"
            assert len(list(mount.path.iterdir())) == 2
            with machine.failing(RESOLVER):
                # Connections that are open would go on: they are broken off.
                proxy.rule(faults.ANY, faults.reset)
                (mount.path / "new").write_bytes(b"new")
                (mount.path / "cached").rename(mount.path / "moved")
                wait_until(lambda: "cannot be resolved" in (mount.status().store.error or ""))
                assert "cannot be resolved" in mount.place.run("status", str(mount.path)).stdout
                assert (mount.path / "new").read_bytes() == b"new"
                assert (mount.path / "moved").read_bytes() == b"cached"
                assert not reads(mount.path / "other", b"other")
                proxy.heal()
            wait_until(lambda: mount.status().store.error is None, 60)
            assert (mount.path / "other").read_bytes() == b"other"
            mount.drain()
            assert mount.status().uploads.parked_count == 0
    assert minio_bucket.contents() == {"moved": b"cached", "other": b"other", "new": b"new"}


# -- bodies without an end --------------------------------------------------------------------------


def test_bodies_that_drip_stop_nobody_else(minio_bucket: Bucket, minio: Server) -> None:
    names = [f"f{number}" for number in range(10)]
    for name in [*names, "good"]:
        minio_bucket.store.put(name, b"x" * 5000)
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(
            url, environment=minio_bucket.environment, allow_errors=True, store_timeout="4s"
        ) as mount:
            assert len(list(mount.path.iterdir())) == len(names) + 1
            proxy.rule("get", faults.drip(1.0), part="/f")
            threads = [
                threading.Thread(target=reads, args=(mount.path / name, b"x" * 5000)) for name in names
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            began = time.monotonic()
            assert (mount.path / "good").read_bytes() == b"x" * 5000
            assert time.monotonic() - began < 30
            proxy.heal()
            wait_until(lambda: all(reads(mount.path / name, b"x" * 5000) for name in names), 30)


# -- objects that stall -----------------------------------------------------------------------------

STALLED = 40  # more than a mount has requests under way at a time


@contextmanager
def readers(paths: Mapping[Path, bytes]) -> Iterator[list[threading.Thread]]:
    """Programs that read a file each; at the end all of them must have got what there is."""
    wrong: list[Path] = []

    def read(path: Path, data: bytes) -> None:
        if not reads(path, data):
            wrong.append(path)

    threads = [threading.Thread(target=read, args=one) for one in paths.items()]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("in_body", [False, True], ids=["no answer", "half a body"])
def test_many_stalled_objects_stop_nobody_else(in_body: bool, minio_bucket: Bucket, minio: Server) -> None:
    stalled = {f"stalled/{number}": os.urandom(400_000) for number in range(STALLED)}
    good = {f"good/{number}": os.urandom(5_000) for number in range(50)} | {
        "good/large": os.urandom(20 * MIB)
    }
    for key, data in {**stalled, **good}.items():
        minio_bucket.store.put(key, data)
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(url, environment=minio_bucket.environment, upload_delay="0s") as mount:
            assert len(list((mount.path / "stalled").iterdir())) == STALLED
            healed = threading.Event()
            proxy.rule("get", faults.held(healed, in_body=in_body), part="/stalled/")
            with readers({mount.path / key: data for key, data in stalled.items()}) as threads:
                wait_until(lambda: proxy.struck["get"] >= STALLED, 60)
                for key, data in good.items():
                    assert (mount.path / key).read_bytes() == data, key
                (mount.path / "good" / "new").write_bytes(b"new")
                mount.drain()
                assert all(thread.is_alive() for thread in threads)
                proxy.heal()
                healed.set()
    assert minio_bucket.contents()["good/new"] == b"new"


def test_many_stalled_uploads_stop_nobody_else(minio_bucket: Bucket, minio: Server) -> None:
    stalled = {f"stalled/{number}": os.urandom(5_000) for number in range(STALLED)}
    good = {f"good/{number}": os.urandom(5_000) for number in range(20)}
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(url, environment=minio_bucket.environment, upload_delay="0s") as mount:
            healed = threading.Event()
            proxy.rule("put", faults.held(healed), part="/stalled/")
            for folder, files in (("stalled", stalled), ("good", good)):
                (mount.path / folder).mkdir()
                for key, data in files.items():
                    (mount.path / key).write_bytes(data)
            wait_until(lambda: good.keys() <= minio_bucket.contents().keys(), 60)
            assert not stalled.keys() & minio_bucket.contents().keys()
            proxy.heal()
            healed.set()
            mount.drain()
    found = minio_bucket.contents()
    assert {key: data for key, data in found.items() if not key.endswith("/")} == {**stalled, **good}


def test_many_stalled_directories_stop_nobody_else(minio_bucket: Bucket, minio: Server) -> None:
    stalled = {f"stalled{number}/f": b"%d" % number for number in range(STALLED)}
    good = {f"good{number}/f": os.urandom(5_000) for number in range(20)}
    for key, data in {**stalled, **good}.items():
        minio_bucket.store.put(key, data)
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(url, environment=minio_bucket.environment, metadata_ttl="1h") as mount:
            assert len(list(mount.path.iterdir())) == len(stalled) + len(good)
            for key in good:
                assert (mount.path / key).parent.is_dir()
            for key in stalled:
                assert (mount.path / key).parent.is_dir()
            healed = threading.Event()
            proxy.rule("head", faults.held(healed), part="/stalled")
            proxy.rule("list", faults.below("stalled", faults.held(healed)))
            with readers({mount.path / key: data for key, data in stalled.items()}) as threads:
                wait_until(lambda: proxy.struck["head"] + proxy.struck["list"] >= STALLED, 60)
                for key, data in good.items():
                    assert (mount.path / key).read_bytes() == data, key
                assert all(thread.is_alive() for thread in threads)
                proxy.heal()
                healed.set()
