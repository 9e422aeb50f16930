"""Upload rules on real mounts: how objects are stored, single files, expiry, and what the commands say."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from objfs.store.values import PutOptions
from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs.store.values import ObjectInfo
    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount

WAIT_S = 20.0
SOON_S = 5
PAST = "2020-01-01T00:00:00Z"
RULES: list[dict[str, object]] = [
    {"glob": "*.tmp", "expire_after": f"{SOON_S}s"},
    {"glob": "*.week", "expire_after": "7d", "tags": {"team": "a"}},
    {"glob": "*.idle", "expire_idle": "5s"},
    {
        "glob": "kept/**",
        "storage_class": "reduced_redundancy",
        "tags": {"team": "a", "env": "b c"},
        "cache_control": "max-age=5",
        "metadata": {"project": "x"},
        "content_type": "text/x-kept",
    },
    {"glob": "*.sec", "max_size": 0, "encryption": "kms:no-such-key"},
]


@contextmanager
def a_mount(bucket: Bucket, rules: list[dict[str, object]] = RULES, options: str = "rw") -> Iterator[Mount]:
    environment = {**bucket.environment, "OBJFS_RULES": json.dumps(rules)}
    with mounted(
        bucket.url, environment=environment, metadata_ttl="1s", upload_delay="0s", o=options
    ) as mount:
        yield mount


def wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while path.exists():
        assert time.monotonic() < deadline, f"{path} stays"
        time.sleep(0.1)


def head(bucket: Bucket, key: str) -> ObjectInfo:
    return bucket.store.head(key)


def tags(bucket: Bucket, key: str) -> dict[str, str]:
    api = bucket.store.tags
    assert api is not None
    return api.read(key)


def check_kept(bucket: Bucket, key: str) -> None:
    info = head(bucket, key)
    metadata = info.metadata or {}
    assert info.storage_class == "REDUCED_REDUNDANCY"
    assert info.cache_control == "max-age=5"
    assert info.content_type == "text/x-kept"
    assert metadata["project"] == "x"
    assert tags(bucket, key) == {"team": "a", "env": "b c"}


@pytest.fixture(params=["file", "minio"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    found: Bucket = request.getfixturevalue(f"{request.param}_bucket")
    return found


def test_files_are_stored_by_rules(bucket: Bucket) -> None:
    with a_mount(bucket) as mount:
        assert "cannot honour encryption of rule 5 (*.sec)" in mount.place.log_text()
        (mount.path / "kept").mkdir()
        (mount.path / "kept" / "a").write_text("a")
        (mount.path / "plain.html").write_text("p")
        os.symlink("a", mount.path / "kept" / "link")
        with (mount.path / "kept" / "big").open("wb") as big:  # in parts
            big.write(os.urandom(17 * 1024 * 1024))
        mount.drain()
        for name in ("kept/a", "kept/big"):
            check_kept(bucket, name)
        plain = head(bucket, "plain.html")
        assert plain.content_type == "text/html"
        assert plain.storage_class in (None, "STANDARD")
        assert not {name for name in plain.metadata or {} if name.startswith("objfs-")} - {"objfs-upload"}
        assert tags(bucket, "plain.html") == {}
        assert head(bucket, "kept/link").content_type == "application/octet-stream"
        # Copies in the store keep it: other attributes, another name, another directory.
        (mount.path / "kept" / "a").chmod(0o600)
        mount.drain()
        check_kept(bucket, "kept/a")
        (mount.path / "kept" / "a").rename(mount.path / "moved")
        mount.drain()
        check_kept(bucket, "moved")
        (mount.path / "kept").rename(mount.path / "else")
        mount.drain()
        check_kept(bucket, "else/big")
        assert [one for one in bucket.contents() if one.startswith(".objfs")] == []


def test_a_change_behind_an_upload_keeps_how_it_is_stored(minio_bucket: Bucket) -> None:
    with a_mount(minio_bucket) as mount:
        (mount.path / "kept").mkdir()
        for number in range(20):
            path = mount.path / "kept" / f"{number}"
            path.write_text("x" * 100_000)
            path.chmod(0o640)
            os.utime(path, (1, 1))
        mount.drain()
        for number in range(20):
            check_kept(minio_bucket, f"kept/{number}")
            assert (head(minio_bucket, f"kept/{number}").metadata or {})["mode"] == str(0o100640)


def test_the_decision_outlives_a_crash(file_bucket: Bucket) -> None:
    with a_mount(file_bucket) as mount:
        (mount.path / "a.week").write_text("1")
        mount.kill()
        mount.mount_again()
        mount.drain()
        assert "objfs-expires" in (head(file_bucket, "a.week").metadata or {})
        (mount.path / "a.week").chmod(0o600)
        mount.drain()
        assert "objfs-expires" in (head(file_bucket, "a.week").metadata or {})


def test_expired_files_vanish(bucket: Bucket) -> None:
    with a_mount(bucket) as mount:
        for name in ("a.tmp", "b.tmp", "stays"):
            (mount.path / name).write_text(name)
        (mount.path / "d").mkdir()
        (mount.path / "d" / "c.tmp").write_text("c")
        reader = (mount.path / "b.tmp").open("rb")
        mount.drain()
        wait_until_gone(mount.path / "a.tmp")
        assert sorted(os.listdir(mount.path)) == ["d", "stays"]
        assert os.listdir(mount.path / "d") == []
        assert reader.read() == b"b.tmp"  # who has it open goes on reading
        reader.close()
        assert "a.tmp" in bucket.contents()  # it is hidden, not deleted
        # The names are free: for files, by renames, and for directories; the directory is empty.
        (mount.path / "a.tmp").write_text("new")
        (mount.path / "stays").rename(mount.path / "b.tmp")
        (mount.path / "d").rmdir()
        mount.drain()
        contents = bucket.contents()
        assert contents == {"a.tmp": b"new", "b.tmp": b"stays"}
        assert mount.status().uploads.conflicts == 0
        # What is being written does not vanish, nor what was just written.
        with (mount.path / "w.tmp").open("w") as writer:
            writer.write("1")
            writer.flush()
            wait_until_gone(mount.path / "a.tmp")
            assert (mount.path / "w.tmp").exists()
            writer.write("2")
        assert (mount.path / "w.tmp").read_text() == "12"


def test_a_fresh_mount_shows_nothing_expired(s3_bucket: Bucket) -> None:
    expired = PutOptions(metadata={"objfs-expires": PAST})
    s3_bucket.store.put("d/gone.week", b"1", options=expired)
    s3_bucket.store.put("d/stays.week", b"2")
    s3_bucket.store.put("d/gone.other", b"3", options=expired)
    with a_mount(s3_bucket, [{"glob": "*.week", "expire_after": "1s"}]) as mount:
        time.sleep(1.1)  # what is younger than any rule lets expire costs no request
        assert "gone.week" not in os.listdir(mount.path / "d")
        assert not (mount.path / "d" / "gone.other").exists()
        assert os.listdir(mount.path / "d") == ["stays.week"]
        (mount.path / "d" / "gone.week").mkdir()  # needs the name, not the object
        (mount.path / "d" / "gone.other").write_text("new")
        mount.drain()
        assert s3_bucket.contents() == {
            "d/gone.week/": b"",
            "d/stays.week": b"2",
            "d/gone.other": b"new",
        }
        assert mount.status().uploads.conflicts == 0


def test_reads_put_expiry_off(file_bucket: Bucket) -> None:
    with a_mount(file_bucket) as mount:
        for name in ("read.idle", "not.idle"):
            (mount.path / name).write_text(name)
        mount.drain()
        before = (head(file_bucket, "read.idle").metadata or {})["objfs-expires"]
        time.sleep(1)
        assert (mount.path / "read.idle").read_text() == "read.idle"
        mount.drain()
        after = (head(file_bucket, "read.idle").metadata or {})["objfs-expires"]
        assert after > before
        assert (mount.path / "read.idle").read_text() == "read.idle"
        mount.drain()
        assert (head(file_bucket, "read.idle").metadata or {})["objfs-expires"] == after  # once a day
        wait_until_gone(mount.path / "not.idle")
        assert os.listdir(mount.path) == ["read.idle"]


def test_single_files_are_stored_in_another_way(minio_bucket: Bucket) -> None:
    with a_mount(minio_bucket, options="xattrs") as mount:
        path = mount.path / "a.week"
        path.write_text("1")
        mount.drain()
        done = mount.place.run(
            "set", str(path), "storage_class=reduced_redundancy", "expire_after=14d", "tags=x=y"
        )
        assert (done.returncode, done.stderr) == (0, "")
        mount.drain()
        info = head(minio_bucket, "a.week")
        expires = (info.metadata or {})["objfs-expires"]
        assert info.storage_class == "REDUCED_REDUNDANCY"
        assert tags(minio_bucket, "a.week").get("x") == "y"
        assert os.getxattr(path, "user.objfs.storage_class") == b"reduced_redundancy"
        told = mount.place.run("stat", "--json", str(path))
        assert json.loads(told.stdout)[0]["treatment"]["set.expire_after"] == "14d"
        # It survives the next upload, and another mount.
        path.write_text("2")
        mount.drain()
        info = head(minio_bucket, "a.week")
        assert info.storage_class == "REDUCED_REDUNDANCY"
        assert (info.metadata or {})["objfs-expires"] >= expires
        os.setxattr(path, "user.objfs.content_type", b"text/x-one")
        with pytest.raises(OSError, match="Invalid argument"):
            os.setxattr(path, "user.objfs.storage_class", b"a b")
        with pytest.raises(OSError, match="Invalid argument"):
            os.setxattr(path, "user.objfs.colour", b"red")
        os.removexattr(path, "user.objfs.expire_after")
        mount.drain()
        info = head(minio_bucket, "a.week")
        assert info.content_type == "text/x-one"
        assert (info.metadata or {})["objfs-expires"] < expires  # seven days again
        done = mount.place.run("set", str(path), "storage_class=x?")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        done = mount.place.run("set", str(mount.path / "missing"), "compress=off")
        assert done.returncode == 1
        assert "no such file" in done.stderr
        told = mount.place.run("rules", "test", str(path))
        assert "set for this file: storage_class=reduced_redundancy" in told.stdout


def test_a_store_refuses_what_it_does_not_know(minio_bucket: Bucket) -> None:
    with a_mount(minio_bucket, [{"glob": "*", "storage_class": "glacier"}]) as mount:
        assert "cannot honour storage_class of rule 1 (*)" in mount.place.log_text()
        (mount.path / "a").write_text("a")
        mount.drain()
        assert head(minio_bucket, "a").storage_class in (None, "STANDARD")
        done = mount.place.run("set", str(mount.path / "a"), "storage_class=glacier")
        assert done.returncode == 1
        assert "the store refuses that" in done.stderr
        assert mount.status().uploads.parked_count == 0


def test_expire_lifecycle_and_verify(minio_bucket: Bucket) -> None:
    with a_mount(minio_bucket, options="sha256,origin_metadata") as mount:
        (mount.path / "gone.tmp").write_text("g")
        (mount.path / "a").write_text("a")
        (mount.path / "a.week").write_text("1")
        with (mount.path / "big").open("wb") as big:
            big.write(os.urandom(20 * 1024 * 1024))
        mount.drain()
        assert "/" in (head(minio_bucket, "a").metadata or {})["objfs-origin"]
        done = mount.place.run("verify", str(mount.path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("4 files (20.0 MiB) read: 4 good by")
        assert "SHA-256" in done.stdout
        wait_until_gone(mount.path / "gone.tmp")
        done = mount.place.run("expire", "--dry-run", str(mount.path))
        assert done.stdout.endswith("1 file of 4 expired (1 B); nothing was deleted.\n")
        done = mount.place.run("expire", str(mount.path))
        assert done.stdout == "1 file of 4 expired (1 B): 1 deleted.\n"
        assert sorted(minio_bucket.contents()) == ["a", "a.week", "big"]
        info = head(minio_bucket, "a")
        options = PutOptions(metadata=info.metadata or {})
        minio_bucket.store.put("a", b"?", options=options)  # other bytes, the old digest
        done = mount.place.run("verify", "--json", str(mount.path / "a"), str(mount.path / "big"))
        assert done.returncode == 1
        assert [one["verdict"] for one in json.loads(done.stdout)] == ["mismatch", "good"]
        assert tags(minio_bucket, "a.week") == {"team": "a", "objfs-expire": "7d"}
        done = mount.place.run("lifecycle", "apply", str(mount.path))
        assert (done.returncode, done.stderr) == (0, "")
        assert "objects tagged objfs-expire=7d: deleted after 7 days" in done.stdout
        api = minio_bucket.store.lifecycle
        assert api is not None
        assert sorted((dict(rule.tags)["objfs-expire"], rule.expire_days) for rule in api.read()) == [
            ("1d", 1),
            ("2d", 2),
            ("7d", 7),
        ]
        done = mount.place.run("lifecycle", "show", "--json", str(mount.path))
        assert all(rule["ours"] for rule in json.loads(done.stdout))
