"""`objfs flush` and `objfs rescue`: on a mount, and on what a mount left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.gate import gated_mount
from tests.fuse.mounting import Mount, mounted
from tests.fuse.refusing import refusing
from tests.fuse.test_life import wait_until

if TYPE_CHECKING:
    import subprocess

    from tests import servers
    from tests.fuse.conftest import Bucket


def flush(mount: Mount, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`objfs flush` with the mount's cache."""
    return mount.place.run("flush", *arguments, "--cache-dir", str(mount.place.cache))


def test_flush_of_a_mount(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h") as mount:
        for number in range(20):
            (mount.path / f"{number}").write_text(f"{number}")
        (mount.path / "0").rename(mount.path / "moved")
        assert bucket.contents() == {}
        done = flush(mount, str(mount.path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{mount.path}: everything is in the store.\n"
        assert bucket.contents() == {"moved": b"0"} | {f"{n}": f"{n}".encode() for n in range(1, 20)}
        (mount.path / "more").write_text("more")
        done = flush(mount)  # all of them
        assert done.stdout == f"{mount.path}: everything is in the store.\n"
        done = flush(mount, bucket.url)
        assert done.stdout == f"{mount.path}: everything is in the store.\n"
        assert bucket.contents()["more"] == b"more"


def test_flush_of_open_files(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h") as mount:
        with (mount.path / "log").open("wb", buffering=0) as file:
            file.write(b"first")
            assert flush(mount, str(mount.path)).returncode == 0
            assert bucket.contents() == {"log": b"first"}
            file.write(b" and second")
            assert (mount.path / "log").read_bytes() == b"first and second"
        assert flush(mount, str(mount.path)).returncode == 0
        assert bucket.contents() == {"log": b"first and second"}


def test_fsync_of_the_remote_kind(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h", fsync="remote") as mount:
        with (mount.path / "a").open("wb", buffering=0) as file:
            file.write(b"first")
            os.fsync(file.fileno())
            assert bucket.contents() == {"a": b"first"}
            file.write(b" and second")
            os.fsync(file.fileno())
            assert bucket.contents() == {"a": b"first and second"}
        (mount.path / "a").rename(mount.path / "b")
        (mount.path / "dir").mkdir()
        (mount.path / "dir" / "later").touch()
        folder = os.open(mount.path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        assert bucket.contents() == {"b": b"first and second", "dir/": b""}


def test_fsync_of_the_remote_kind_while_the_store_is_away(
    minio_bucket: Bucket, minio: servers.Server
) -> None:
    options = {"fsync": "remote", "metadata_ttl": "1h", "store_timeout": "2s"}
    with gated_mount(minio_bucket, minio, **options) as (mount, gate):
        assert list(mount.path.iterdir()) == []
        gate.shut()
        with (mount.path / "a").open("wb", buffering=0) as file:
            file.write(b"a")
            with pytest.raises(OSError, match=r"Input/output error|timed out"):
                os.fsync(file.fileno())
        gate.open()
        with (mount.path / "a").open("rb+") as file:
            os.fsync(file.fileno())
        assert minio_bucket.contents() == {"a": b"a"}


def test_flush_after_a_crash(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h") as mount:
        (mount.path / "big").write_bytes(b"0123456789" * 1_000_000)
        mount.drain()
        with (mount.path / "big").open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"patched")
        (mount.path / "dir").mkdir()
        (mount.path / "dir" / "link").symlink_to("../big")
        (mount.path / "gone").write_text("gone")
        (mount.path / "gone").unlink()
        mount.kill()
        done = flush(mount, str(mount.path), "--no-progress")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{bucket.url}: everything is in the store.\n"
        contents = bucket.contents()
        assert set(contents) == {"big", "dir/", "dir/link"}
        assert contents["big"][4_999_998:5_000_009] == b"89patched78"
        assert len(contents["big"]) == 10_000_000
        assert flush(mount).stdout == "Nothing is mounted, and nothing was left to upload.\n"
        mount.mount_again()
        assert (mount.path / "dir" / "link").read_bytes() == contents["big"]


def test_flush_of_what_umount_left(minio_bucket: Bucket, minio: servers.Server) -> None:
    with gated_mount(minio_bucket, minio, metadata_ttl="1h") as (mount, gate):
        assert list(mount.path.iterdir()) == []
        (mount.path / "a").write_bytes(b"kept")
        gate.shut()
        mount.umount("--no-drain")
        refused = flush(mount, mount.url)
        assert refused.returncode == 1
        assert "not reachable" in refused.stderr
        assert refused.stderr.count("\n") == 1
        gate.open()
        done = flush(mount)
        assert (done.returncode, done.stdout) == (0, f"{mount.url}: everything is in the store.\n")
        assert minio_bucket.contents() == {"a": b"kept"}


def test_what_the_store_refuses(minio_bucket: Bucket, minio: servers.Server) -> None:
    with refusing(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        environment = minio_bucket.environment
        with mounted(url, environment=environment, allow_errors=True, metadata_ttl="1h") as mount:
            assert list(mount.path.iterdir()) == []
            proxy.refuses = True
            (mount.path / "a").write_bytes(b"first")
            wait_until(lambda: mount.status().uploads.parked_count == 1)
            (mount.path / "a").write_bytes(b"second")
            for name in (str(mount.path), url):
                done = flush(mount, name)
                assert done.returncode == 1
                assert "the store refuses 1 change;" in done.stderr
            proxy.refuses = False
            assert flush(mount, str(mount.path)).returncode == 1  # refused for good, until told otherwise
            assert minio_bucket.contents() == {}
            done = flush(mount, str(mount.path), "--retry-parked")
            assert (done.returncode, done.stderr) == (0, "")
            assert minio_bucket.contents() == {"a": b"second"}


def test_refused_without_a_mount(minio_bucket: Bucket, minio: servers.Server) -> None:
    with refusing(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        environment = minio_bucket.environment
        with mounted(url, environment=environment, allow_errors=True, upload_delay="1h") as mount:
            (mount.path / "a").write_bytes(b"a")
            (mount.path / "b").write_bytes(b"b")
            mount.kill()
            proxy.refuses = True
            done = flush(mount, str(mount.path))
            assert done.returncode == 1
            assert "the store refuses 2 changes; 2 files (2 B) and 0 other changes stay" in done.stderr
            proxy.refuses = False
            assert flush(mount, str(mount.path)).returncode == 0
            assert minio_bucket.contents() == {"a": b"a", "b": b"b"}


def test_what_cannot_be_flushed(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        unknown = flush(mount, str(mount.place.folder))
        assert unknown.returncode == 1
        assert "is not mounted by objfs, and no cache below" in unknown.stderr
        other = flush(mount, "memory://")
        assert other.returncode == 1
        assert "there is no cache of memory:// at" in other.stderr
        assert flush(mount, "gopher://x").returncode == 2


def rescue(mount: Mount, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`objfs rescue` with the mount's cache."""
    return mount.place.run("rescue", *arguments, "--cache-dir", str(mount.place.cache))


def listed(folder: Path) -> dict[str, dict[str, object]]:
    """The list of what was rescued, by path."""
    lines = (folder / "objfs-rescue.jsonl").read_text().splitlines()
    return {str(value["path"]): value for value in map(json.loads, lines)}


def test_refused_files_are_rescued(minio_bucket: Bucket, minio: servers.Server) -> None:
    minio_bucket.store.put("old", b"0" * 3_000_000)
    with refusing(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        environment = minio_bucket.environment
        with mounted(url, environment=environment, allow_errors=True, metadata_ttl="1h") as mount:
            out = mount.place.folder
            assert [path.name for path in mount.path.iterdir()] == ["old"]
            assert "the store refused no file" in rescue(mount, str(mount.path), str(out / "none")).stdout
            (mount.path / "done").write_text("done")
            mount.drain()
            proxy.refuses = True
            with (mount.path / "old").open("r+b") as file:  # a hole over what the store has
                file.seek(1_000_000)
                file.write(b"1" * 10)
            (mount.path / "dir").mkdir()
            (mount.path / "dir" / "new").write_bytes(b"new")
            (mount.path / "dir" / "new").chmod(0o640)
            os.utime(mount.path / "dir" / "new", ns=(5, 1_234_567_890_123_456_789))
            (mount.path / "link").symlink_to("/etc/passwd")
            wait_until(lambda: mount.status().uploads.parked_count == 4)
            with (mount.path / "old").open("r+b") as file:  # a second layer
                file.write(b"2" * 10)
            done = rescue(mount, str(mount.path), str(out / "mounted"))
            assert (done.returncode, done.stderr) == (0, "")
            mount.kill()
            again = rescue(mount, str(out / "killed"))
            assert (again.returncode, again.stderr) == (0, "")
            for folder in (out / "mounted", out / "killed"):
                assert set(listed(folder)) == {"old", "dir", "dir/new", "link"}
                assert all(one["complete"] and one["state"] == "refused" for one in listed(folder).values())
                patched = b"2" * 10 + b"0" * 999_990 + b"1" * 10 + b"0" * 1_999_990
                assert (folder / "old").read_bytes() == patched
                new = (folder / "dir" / "new").stat()
                assert (new.st_size, new.st_mode & 0o777) == (3, 0o640)
                assert new.st_mtime_ns == 1_234_567_890_123_456_789
                assert (folder / "link").readlink() == Path("/etc/passwd")
            assert "is not empty" in rescue(mount, str(out / "killed")).stderr
            proxy.refuses = False
            assert flush(mount, url).returncode == 0  # the journal still has everything
            assert minio_bucket.contents()["old"] == patched
            assert "so there is nothing to copy" in rescue(mount, str(out / "later")).stderr


def test_what_waits_is_rescued_while_the_store_is_away(minio_bucket: Bucket, minio: servers.Server) -> None:
    minio_bucket.store.put("unread", b"0" * 2_000_000)  # too large for its base to be kept at close()
    minio_bucket.store.put("read", b"1" * 1_000_000)
    with gated_mount(minio_bucket, minio, upload_delay="1h") as (mount, gate):
        assert (mount.path / "read").read_bytes() == b"1" * 1_000_000
        for name in ("read", "unread"):
            with (mount.path / name).open("r+b") as file:
                file.seek(500_000)
                file.write(b"patch")
        (mount.path / "a").write_text("a")
        (mount.path / "a").rename(mount.path / "b")
        mount.umount("--no-drain")
        gate.shut()
        folder = mount.place.folder / "rescued"
        done = rescue(mount, mount.url, str(folder), "--all")
        assert done.returncode == 1
        assert "1 file could not be copied as they should be, first unread" in done.stderr
        found = listed(folder)
        assert set(found) == {"b", "read", "unread"}
        assert (folder / "b").read_text() == "a"
        assert (folder / "read").read_bytes() == b"1" * 500_000 + b"patch" + b"1" * 499_995
        assert found["unread"]["missing"] == [[0, 500_000], [500_005, 2_000_000]]
        assert (folder / "unread").read_bytes() == bytes(500_000) + b"patch" + bytes(1_499_995)
        gate.open()
        mount.mount_again()
    assert minio_bucket.contents()["unread"][499_999:500_006] == b"0patch0"


def test_caches_are_shown_and_cleared(file_bucket: Bucket) -> None:
    file_bucket.store.put("a", b"0" * 1_000_000)
    with mounted(file_bucket.url, upload_delay="1h") as mount:

        def cache(*arguments: str) -> subprocess.CompletedProcess[str]:
            return mount.place.run("cache", *arguments, "--cache-dir", str(mount.place.cache))

        assert (mount.path / "a").read_bytes() == b"0" * 1_000_000
        (mount.path / "b").write_text("waits")
        (one,) = json.loads(cache("show", "--json").stdout)
        assert (one["url"], one["waiting_changes"], one["in_use"]) == (file_bucket.url, 1, True)
        refused = cache("clear", str(mount.path))
        assert (refused.returncode, "is mounted; run" in refused.stderr) == (1, True)
        mount.umount("--no-drain")
        shown = cache("show").stdout
        assert "1 change to upload, not mounted" in shown
        (one,) = json.loads(cache("show", "--json").stdout)
        assert one["clean_bytes"] >= 1_000_000
        done = cache("clear", str(mount.path))
        assert (done.returncode, done.stderr) == (0, "")
        (one,) = json.loads(cache("show", "--json").stdout)
        assert (one["clean_bytes"], one["waiting_changes"]) == (0, 1)
        mount.mount_again()
        assert (mount.path / "b").read_text() == "waits"
    assert file_bucket.contents()["b"] == b"waits"
