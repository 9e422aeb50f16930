"""`objfs flush`: on a mount, and on what a mount left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuse.gate import Gate
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
    with Gate(minio.host) as gate:
        url = minio_bucket.url.replace(minio.host, gate.host)
        environment = minio_bucket.environment
        with mounted(url, environment=environment, allow_errors=True, metadata_ttl="1h") as mount:
            assert list(mount.path.iterdir()) == []
            (mount.path / "a").write_bytes(b"kept")
            gate.shut()
            mount.umount("--no-drain")
            refused = flush(mount, url)
            assert refused.returncode == 1
            assert "not reachable" in refused.stderr
            assert refused.stderr.count("\n") == 1
            gate.open()
            done = flush(mount)
            assert (done.returncode, done.stdout) == (0, f"{url}: everything is in the store.\n")
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
