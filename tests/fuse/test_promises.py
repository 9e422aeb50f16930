"""What is promised about other writers, full disks, slow stores and memory, on real mounts."""

from __future__ import annotations

import errno
import json
import mmap
import os
import re
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuse import proxy as faults
from tests.fuse.mounting import mounted
from tests.fuse.proxy import Proxy
from tests.fuse.test_life import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount
    from tests.servers import Server

MIB = 1024 * 1024
MEMORY_MAX_MIB = 400
FILES = 10_000 if os.environ.get("OBJFS_SOAK") else 2_000


@contextmanager
def two_mounts(bucket: Bucket, **options: str) -> Iterator[tuple[Mount, Mount]]:
    """Two mounts of one bucket, each with a cache of its own."""
    given = {"metadata_ttl": "100ms", "upload_delay": "0s", **options}
    with (
        mounted(bucket.url, environment=bucket.environment, **given) as one,  # type: ignore[arg-type]
        mounted(bucket.url, environment=bucket.environment, **given) as two,  # type: ignore[arg-type]
    ):
        yield one, two


def conflict_copies(bucket: Bucket, name: str) -> dict[str, bytes]:
    """Everything that was kept beside an object, and the object."""
    return {key: data for key, data in bucket.contents().items() if key == name or ".conflict-" in key}


# -- P3: in the bucket ------------------------------------------------------------------------------


def test_write_through_is_in_the_bucket_at_once(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, write_mode="through") as mount:
        file = mount.path / "a"
        file.write_bytes(b"one")
        assert bucket.contents() == {"a": b"one"}
        with file.open("ab") as opened:
            opened.write(b" two")
        assert bucket.contents() == {"a": b"one two"}
        file.chmod(0o600)
        assert (bucket.store.head("a").metadata or {})["mode"] == str(0o100600)
        file.rename(mount.path / "b")
        assert bucket.contents() == {"b": b"one two"}
        os.truncate(mount.path / "b", 3)
        assert bucket.contents() == {"b": b"one"}
        (mount.path / "d").mkdir()
        (mount.path / "l").symlink_to("b")
        assert bucket.contents() == {"b": b"one", "d/": b"", "l": b"b"}
        (mount.path / "b").unlink()
        (mount.path / "l").unlink()
        (mount.path / "d").rmdir()
        assert bucket.contents() == {}


# -- P4 and remote changes --------------------------------------------------------------------------


def test_an_open_file_never_mixes_versions(bucket: Bucket) -> None:
    old, new = b"o" * 6 * MIB, b"n" * 6 * MIB
    bucket.store.put("f", old)
    with mounted(bucket.url, environment=bucket.environment, metadata_ttl="100ms") as mount:
        file = mount.path / "f"
        with file.open("rb", buffering=0) as opened:
            seen = opened.read(100_000)
            bucket.store.put("f", new)
            time.sleep(0.3)
            with suppress(OSError):
                while piece := opened.read(100_000):
                    seen += piece
            assert seen == old[: len(seen)]
        assert file.read_bytes() == new
        bucket.store.put("f", b"shorter")
        time.sleep(0.3)
        assert (file.stat().st_size, file.read_bytes()) == (7, b"shorter")


def test_a_map_keeps_its_version(bucket: Bucket) -> None:
    bucket.store.put("f", b"o" * 2 * MIB)
    with (
        mounted(bucket.url, environment=bucket.environment, metadata_ttl="100ms") as mount,
        (mount.path / "f").open("rb") as opened,
    ):
        shown = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        assert shown[:] == b"o" * 2 * MIB
        bucket.store.put("f", b"n" * 2 * MIB)
        time.sleep(0.3)
        assert (mount.path / "f").read_bytes() == b"n" * 2 * MIB
        assert shown[:] == b"o" * 2 * MIB
        shown.close()


def test_remote_changes_are_seen(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, metadata_ttl="200ms") as mount:
        assert list(mount.path.iterdir()) == []
        bucket.store.put("d/new", b"1")
        wait_until(lambda: (mount.path / "d" / "new").exists(), 3)
        assert (mount.path / "d" / "new").read_bytes() == b"1"
        bucket.store.put("d/new", b"22")
        wait_until(lambda: (mount.path / "d" / "new").read_bytes() == b"22", 3)
        bucket.store.delete(["d/new"])
        wait_until(lambda: not (mount.path / "d" / "new").exists(), 3)
        wait_until(lambda: not (mount.path / "d").exists(), 3)
        bucket.store.put("d", b"a file now")
        wait_until(lambda: (mount.path / "d").is_file(), 3)
        bucket.store.delete(["d"])
        bucket.store.put("d/f", b"a directory again")
        wait_until(lambda: (mount.path / "d").is_dir(), 3)
        assert (mount.path / "d" / "f").read_bytes() == b"a directory again"


# -- P5: two writers --------------------------------------------------------------------------------


def test_both_of_two_contents_survive(bucket: Bucket) -> None:
    bucket.store.put("f", b"base")
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h", metadata_ttl="1h") as mount:
        file = mount.path / "f"
        with file.open("ab") as opened:
            opened.write(b" and ours")
        time.sleep(0.5)  # the rest of a small file is fetched when it is closed
        (mount.path / "g").write_bytes(b"our new")
        bucket.store.put("f", b"theirs")
        bucket.store.put("g", b"their new")
        mount.drain()
        found = bucket.contents()
        assert {found["f"], found["g"]} == {b"theirs", b"their new"}
        copies = {data for key, data in found.items() if ".conflict-" in key}
        assert copies == {b"base and ours", b"our new"}
        assert mount.status().uploads.conflicts == 2
        assert len(re.findall("WARNING.*conflict", mount.place.log_text())) == 2
        assert {path.read_bytes() for path in mount.path.iterdir()} == set(found.values())


def test_two_mounts_write_one_file(bucket: Bucket) -> None:
    bucket.store.put("f", b"base")
    with two_mounts(bucket, upload_delay="300ms") as (one, two):
        barrier = threading.Barrier(2)

        def write(mount: Mount, data: bytes) -> None:
            assert (mount.path / "f").read_bytes() == b"base"
            barrier.wait()
            (mount.path / "f").write_bytes(data)

        threads = [
            threading.Thread(target=write, args=(mount, data)) for mount, data in ((one, b"1"), (two, b"22"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one.drain()
        two.drain()
        kept = conflict_copies(bucket, "f")
        assert sorted(kept.values()) == [b"1", b"22"], kept
        wait_until(lambda: {path.name for path in one.path.iterdir()} == set(kept), 5)
        wait_until(lambda: {path.name for path in two.path.iterdir()} == set(kept), 5)
        for mount in (one, two):
            assert {name: (mount.path / name).read_bytes() for name in kept} == kept


def test_exclusive_creation_has_one_winner(bucket: Bucket) -> None:
    with two_mounts(bucket, write_mode="through") as (one, two):
        for number in range(5):
            won: list[int] = []
            barrier = threading.Barrier(2)

            def create(who: int, mount: Mount) -> None:
                path = mount.path / f"lock{number}"  # noqa: B023  # joined within the round
                barrier.wait()  # noqa: B023
                with suppress(FileExistsError, OSError):
                    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                    try:
                        os.write(descriptor, b"%d" % who)
                    finally:
                        os.close(descriptor)
                    won.append(who)  # noqa: B023

            threads = [
                threading.Thread(target=create, args=(who, mount)) for who, mount in enumerate((one, two))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(won) == 1, (number, won)


def test_a_change_of_a_deleted_file_is_kept(bucket: Bucket) -> None:
    bucket.store.put("f", b"base")
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h", metadata_ttl="1h") as mount:
        (mount.path / "f").write_bytes(b"ours")
        bucket.store.delete(["f"])
        mount.drain()
        assert bucket.contents() == {"f": b"ours"}


def test_what_others_wrote_meanwhile_is_neither_deleted_nor_replaced(bucket: Bucket) -> None:
    for name in ("gone", "moved", "target", "moded"):
        bucket.store.put(name, b"base")
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h", metadata_ttl="1h") as mount:
        assert len(list(mount.path.iterdir())) == 4
        (mount.path / "gone").unlink()
        (mount.path / "moded").chmod(0o600)
        (mount.path / "new").write_bytes(b"ours")
        (mount.path / "new").rename(mount.path / "target")
        (mount.path / "moved").rename(mount.path / "away")
        for name in ("gone", "moved", "target", "moded"):
            bucket.store.put(name, f"their {name}".encode())
        mount.drain()
        found = bucket.contents()
        assert {f"their {name}".encode() for name in ("gone", "moved", "target", "moded")} <= set(
            found.values()
        )
        assert b"ours" in found.values()


# -- P6, P9: a store that does not answer -----------------------------------------------------------


def reads(path: Path, expected: bytes) -> bool:
    """Whether a file can be read; what is read is right."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    assert data == expected
    return True


def test_a_stalled_object_stops_nobody_else(minio_bucket: Bucket, minio: Server) -> None:
    for name in ("slow", "slow2", "cached", "good"):
        minio_bucket.store.put(f"{name}/f", name.encode() * 1000)
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(
            url,
            environment=minio_bucket.environment,
            allow_errors=True,
            store_timeout="5s",
            metadata_ttl="1h",
        ) as mount:
            assert (mount.path / "cached" / "f").read_bytes() == b"cached" * 1000
            assert (mount.path / "slow" / "f").stat().st_size == 4000
            proxy.rule(frozenset({"get"}), faults.stall(120), part="/slow/f$")
            proxy.rule(frozenset({"list", "head"}), faults.stall(120), part="/slow2/")
            outcomes: list[int | None] = []

            def stalled(path: Path) -> None:
                try:
                    path.read_bytes()
                    outcomes.append(None)
                except OSError as error:
                    outcomes.append(error.errno)

            threads = [threading.Thread(target=stalled, args=(mount.path / "slow" / "f",)) for _ in range(20)]
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            assert (mount.path / "cached" / "f").read_bytes() == b"cached" * 1000
            assert (mount.path / "good" / "f").read_bytes() == b"good" * 1000
            (mount.path / "good" / "new").write_bytes(b"new")
            assert sorted(path.name for path in (mount.path / "good").iterdir()) == ["f", "new"]
            mount.drain()
            assert outcomes == [], "somebody waited for those who wait for the stalled object"
            for thread in threads:
                thread.join(60)
            assert len(outcomes) == len(threads), "the deadline passed long ago"
            assert set(outcomes) <= {errno.EIO, errno.ETIMEDOUT}
            proxy.heal()
            wait_until(lambda: reads(mount.path / "slow" / "f", b"slow" * 1000), 5)
    assert minio_bucket.contents()["good/new"] == b"new"


def fill(folder: Path, accepted: dict[str, bytes]) -> str:
    """Write files until there is no room; the name of the one that was refused."""
    for number in range(100):
        data = os.urandom(300_000)
        try:
            with (folder / f"f{number}").open("wb", buffering=0) as file:
                written = file.write(data)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return f"f{number}"
            raise
        assert written == len(data)
        accepted[f"f{number}"] = data
    raise AssertionError("everything was accepted")


def test_staging_fills_up_while_the_store_is_away(minio_bucket: Bucket, minio: Server) -> None:
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        with mounted(
            url, environment=minio_bucket.environment, allow_errors=True, store_timeout="2s", cache_size="8M"
        ) as mount:
            assert list(mount.path.iterdir()) == []
            proxy.rule(faults.ANY, faults.reset)
            accepted: dict[str, bytes] = {}
            full = fill(mount.path, accepted)
            assert len(accepted) > 20
            for name, data in accepted.items():
                assert (mount.path / name).read_bytes() == data
            (mount.path / "f0").unlink()
            del accepted["f0"]
            (mount.path / "f0").write_bytes(b"again")
            accepted["f0"] = b"again"
            proxy.heal()
            mount.umount()
    found = minio_bucket.contents()
    found.pop(full, None)
    assert found == accepted


# -- P7: no local disk ------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}M", "objfs-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_told_at_write(minio_bucket: Bucket, tmp_path: Path) -> None:
    minio_bucket.store.put("big", os.urandom(20 * MIB))
    with (
        small_disk(tmp_path / "disk", 64) as disk,
        mounted(
            minio_bucket.url,
            environment=minio_bucket.environment,
            cache=disk / "cache",
            upload_delay="1h",
            allow_errors=True,
        ) as mount,
    ):
        assert len((mount.path / "big").read_bytes()) == 20 * MIB  # clean data, that gives way
        accepted: dict[str, bytes] = {}
        refused = False
        for number in range(200):
            data = os.urandom(1_000_000)
            file = os.open(mount.path / f"f{number}", os.O_CREAT | os.O_WRONLY)
            written = 0
            try:
                while written < len(data):
                    written += os.write(file, data[written:])
            except OSError as error:
                refused = error.errno == errno.ENOSPC
            os.close(file)  # what was accepted is kept: close() never fails for want of room
            accepted[f"f{number}"] = data[:written]
            if refused:
                break
        assert refused
        assert "NONE on the disk" in mount.place.run("status", str(mount.path)).stdout
        found = json.loads(mount.place.run("doctor", "--json").stdout)
        of_mount = {one["name"]: one for one in found if one["group"] == f"Mount {mount.path}"}
        assert of_mount["cache folder"]["text"].startswith(f"{disk}/")
        assert of_mount["cache space"]["result"] == "warning"
        assert sum(map(len, accepted.values())) > 30 * MIB  # the clean data were given up for it
        for name, data in accepted.items():
            assert (mount.path / name).read_bytes() == data
        mount.kill()
        mount.mount_again()
        for name, data in accepted.items():
            assert (mount.path / name).read_bytes() == data, name
        (mount.path / "f1").unlink()
        del accepted["f1"]
        (mount.path / "again").write_bytes(b"a" * 100_000)
        accepted["again"] = b"a" * 100_000
        mount.umount()
    found = minio_bucket.contents()
    assert len(found.pop("big")) == 20 * MIB
    assert found == accepted


# -- P8: memory -------------------------------------------------------------------------------------


def memory_mib(mount: Mount) -> float:
    """The most memory that the daemon ever had."""
    status = Path(f"/proc/{mount.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def test_many_files_need_little_memory(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url, memory_limit="64M") as mount:
        for number in range(FILES):
            folder = mount.path / f"d{number % 10}"
            if number < 10:
                folder.mkdir()
            (folder / f"f{number}").write_bytes(b"x" * 100)
        handles = [os.open(mount.path / f"d{n % 10}" / f"f{n}", os.O_RDONLY) for n in range(0, FILES, 5)]
        large = mount.path / "large"
        with large.open("wb") as file:
            for _ in range(100):
                file.write(os.urandom(MIB))
        assert sum(len(list((mount.path / f"d{number}").iterdir())) for number in range(10)) == FILES
        assert all(os.read(handle, 200) == b"x" * 100 for handle in handles)
        for handle in handles:
            os.close(handle)
        mount.drain()
        assert len(large.read_bytes()) == 100 * MIB
        assert memory_mib(mount) < MEMORY_MAX_MIB
