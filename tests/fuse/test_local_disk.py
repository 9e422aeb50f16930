"""The local disk fills up, fails, or is taken away under a running mount."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.fuse.failing import BLOCKS, JOURNAL, STAGING, Faults
from tests.fuse.mounting import mounted
from tests.fuse.test_life import wait_until
from tests.fuse.test_promises import MIB, small_disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def folder_of(mount: Mount, name: str) -> Path:
    """The one folder or file of that name in the cache of a mount."""
    (found,) = mount.place.cache.rglob(name)
    return found


def change_until_refused(folder: Path, accepted: dict[str, bytes], numbers: range) -> set[int]:
    """Changes of each kind; what was accepted is noted, the errnos of the others are returned."""
    refused: set[int] = set()

    def attempt(name: str, data: bytes, change: object) -> None:
        assert callable(change)
        try:
            change()
        except OSError as error:
            refused.add(error.errno or 0)
        else:
            accepted[name] = data

    for number in numbers:
        attempt(f"d{number}/", b"", (folder / f"d{number}").mkdir)
        data = b"%d" % number * 3000
        with suppress(OSError):
            path = folder / f"f{number}"
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
            accepted[f"f{number}"] = b""
            try:
                accepted[f"f{number}"] = data[: os.write(descriptor, data)]
            except OSError as error:
                refused.add(error.errno or 0)
            finally:
                os.close(descriptor)  # never fails for want of room
        attempt(f"l{number}", b"target", lambda: os.symlink("target", folder / f"l{number}"))  # noqa: B023
    return refused


def test_no_room_for_the_journal(file_bucket: Bucket, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", 48) as disk,
        mounted(file_bucket.url, cache=disk / "cache", upload_delay="1h", allow_errors=True) as mount,
    ):
        accepted: dict[str, bytes] = {}
        assert change_until_refused(mount.path, accepted, range(5)) == set()
        with (disk / "others").open("wb") as others, suppress(OSError):
            while True:
                others.write(bytes(MIB))
                others.flush()
        refused = change_until_refused(mount.path, accepted, range(5, 400))
        assert refused
        assert refused <= {*NO_ROOM}
        assert (mount.path / "f0").read_bytes() == accepted["f0"]
        mount.kill()
        (disk / "others").unlink()
        mount.mount_again()
        for name, data in accepted.items():
            path = mount.path / name
            if name.endswith("/"):
                assert path.is_dir(), name
            else:
                found = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
                assert found == data, name
        assert change_until_refused(mount.path, accepted, range(400, 405)) == set()
        mount.umount()
    assert file_bucket.contents() == accepted


def test_a_cache_that_was_deleted_accepts_nothing_more(file_bucket: Bucket) -> None:
    file_bucket.store.put("stored", b"stored")
    with mounted(file_bucket.url, upload_delay="1h", metadata_ttl="1h", allow_errors=True) as mount:
        (mount.path / "accepted").write_bytes(b"accepted")
        shutil.rmtree(mount.place.cache)
        for change in (
            lambda: (mount.path / "d").mkdir(),
            lambda: (mount.path / "f").write_bytes(b"f"),
            lambda: (mount.path / "accepted").rename(mount.path / "moved"),
            lambda: (mount.path / "stored").unlink(),
            lambda: (mount.path / "accepted").chmod(0o600),
        ):
            with pytest.raises(OSError, match="Input/output error"):
                change()
        assert (mount.path / "stored").read_bytes() == b"stored"
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "accepted").read_bytes()  # its bytes are gone, and nobody is told anything else
        assert "was deleted while it was in use" in mount.place.log_text()
        mount.kill()
    assert file_bucket.contents() == {"stored": b"stored"}


def test_a_journal_that_fails_stops_changes_alone(file_bucket: Bucket) -> None:
    file_bucket.store.put("stored", b"stored")
    with mounted(file_bucket.url, upload_delay="1h", allow_errors=True) as mount:
        (mount.path / "accepted").write_bytes(b"accepted")
        with closing(sqlite3.connect(folder_of(mount, "journal.db"), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(OSError, match="Input/output error"):
                (mount.path / "d").mkdir()
            assert (mount.path / "stored").read_bytes() == b"stored"
            assert (mount.path / "accepted").read_bytes() == b"accepted"
            assert sorted(os.listdir(mount.path)) == ["accepted", "stored"]
            other.execute("ROLLBACK")
        assert "journal" in mount.place.log_text()
        (mount.path / "d").mkdir()
        mount.umount()
    assert file_bucket.contents() == {"stored": b"stored", "accepted": b"accepted", "d/": b""}


def test_a_lost_staged_file_is_told_and_never_uploaded(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url, upload_delay="1h", allow_errors=True) as mount:
        (mount.path / "good").write_bytes(b"good" * 1000)
        (mount.path / "bad").write_bytes(b"bad" * 1000)
        for staged in folder_of(mount, "staging").iterdir():
            if staged.read_bytes().startswith(b"bad"):
                os.truncate(staged, 10)
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "bad").read_bytes()
        assert (mount.path / "good").read_bytes() == b"good" * 1000
        mount.kill()
        mount.mount_again()
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "bad").read_bytes()
        mount.drain()
        wait_until(lambda: mount.status().uploads.parked_count == 1)
        assert "bad" in mount.place.log_text()
        assert file_bucket.contents() == {"good": b"good" * 1000}
        (mount.path / "bad").unlink()


def test_a_staged_file_that_was_cut_is_never_sent(minio_bucket: Bucket) -> None:
    with mounted(
        minio_bucket.url, environment=minio_bucket.environment, upload_delay="1h", allow_errors=True
    ) as mount:
        for name in ("good", "bad"):
            (mount.path / name).write_bytes(name.encode() * 1_000_000)
        for staged in folder_of(mount, "staging").iterdir():
            if staged.read_bytes().startswith(b"bad"):
                os.truncate(staged, 1_000_000)
        mount.drain()
        (parked,) = mount.status().uploads.parked
        assert (parked.key, "shorter" in parked.error) == ("bad", True)
        assert minio_bucket.contents() == {"good": b"good" * 1_000_000}
        (mount.path / "bad").unlink()


# -- a disk that fails (EIO) ------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Faults:
    """The disk of daemons that are started in its environment."""
    return Faults(tmp_path / "faults")


def test_blocks_that_cannot_be_read_or_kept_are_fetched_from_the_store(
    minio_bucket: Bucket, disk: Faults
) -> None:
    data = os.urandom(3 * MIB)
    for name in ("cached", "new"):
        minio_bucket.store.put(name, data)
    environment = {**minio_bucket.environment, **disk.environment}
    with mounted(minio_bucket.url, environment=environment, allow_errors=True) as mount:
        assert (mount.path / "cached").read_bytes() == data
        mount.umount()
        mount.mount_again()  # nothing is in memory now
        with disk.failing(BLOCKS):
            assert (mount.path / "cached").read_bytes() == data
            assert (mount.path / "new").read_bytes() == data
            (mount.path / "written").write_bytes(data)
            assert (mount.path / "written").read_bytes() == data
            mount.drain()
        assert minio_bucket.contents()["written"] == data
        mount.umount()
        mount.mount_again()
        assert all((mount.path / name).read_bytes() == data for name in ("cached", "new", "written"))


def test_staged_bytes_that_cannot_be_read_are_an_error_and_told(minio_bucket: Bucket, disk: Faults) -> None:
    minio_bucket.store.put("stored", b"stored" * 1000)
    environment = {**minio_bucket.environment, **disk.environment}
    with mounted(minio_bucket.url, environment=environment, allow_errors=True, upload_delay="1h") as mount:
        (mount.path / "dirty").write_bytes(b"dirty" * 1000)
        with disk.failing(STAGING):
            with pytest.raises(OSError, match="Input/output error"):
                (mount.path / "dirty").read_bytes()
            with pytest.raises(OSError, match="Input/output error"):
                (mount.path / "refused").write_bytes(b"refused")
            assert (mount.path / "stored").read_bytes() == b"stored" * 1000
            mount.drain()
            (parked,) = mount.status().uploads.parked
            assert (parked.key, "Input/output error" in parked.error) == ("dirty", True)
            assert "dirty" in mount.place.run("status", str(mount.path)).stdout
            assert "dirty" in mount.place.log_text()
        assert (mount.path / "dirty").read_bytes() == b"dirty" * 1000
        done = mount.place.run("flush", "--retry-parked", str(mount.path))
        assert done.returncode == 0, done.stderr
        assert minio_bucket.contents()["dirty"] == b"dirty" * 1000
        assert mount.status().uploads.parked_count == 0


def test_a_journal_on_a_failing_disk_stops_changes_alone(minio_bucket: Bucket, disk: Faults) -> None:
    for name in ("stored", "gone"):
        minio_bucket.store.put(name, name.encode() * 1000)
    environment = {**minio_bucket.environment, **disk.environment}
    with mounted(minio_bucket.url, environment=environment, allow_errors=True, upload_delay="1s") as mount:
        (mount.path / "accepted").write_bytes(b"accepted")
        with disk.failing(JOURNAL):
            for change in (
                (mount.path / "d").mkdir,
                (mount.path / "gone").unlink,
                lambda: (mount.path / "f").write_bytes(b"f"),
                lambda: (mount.path / "accepted").rename(mount.path / "moved"),
                lambda: (mount.path / "accepted").chmod(0o600),
            ):
                with pytest.raises(OSError, match="Input/output error"):
                    change()
            assert (mount.path / "stored").read_bytes() == b"stored" * 1000
            assert (mount.path / "accepted").read_bytes() == b"accepted"
            assert {"accepted", "gone", "stored"} <= set(os.listdir(mount.path))
            assert "journal" in mount.place.log_text()
        (mount.path / "d").mkdir()
        mount.drain()
        assert mount.status().uploads.parked_count == 0
        mount.umount()
    found = minio_bucket.contents()
    assert found.pop("f", b"") == b""  # created before its bytes were refused, perhaps
    assert found == {"stored": b"stored" * 1000, "gone": b"gone" * 1000, "accepted": b"accepted", "d/": b""}
