"""Acting on a running mount: warm, pin, verify, conflicts, remount, limits."""

from __future__ import annotations

import io
import json
import os
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import pytest

from objfs.cli import main
from objfs.control.pins import read_pins
from objfs.store.values import KIB, MIB
from tests.fuse.mounting import a_place, mounted
from tests.fuse.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount
    from tests.servers import Server

PATIENCE_S = 30.0


def content(seed: int, size_bytes: int) -> bytes:
    return bytes((seed + at) % 251 for at in range(1021)) * (size_bytes // 1021 + 1)


def body(seed: int, size_bytes: int) -> bytes:
    return content(seed, size_bytes)[:size_bytes]


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that a mount does by itself."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.1)


@contextmanager
def counted(
    bucket: Bucket, server: Server, *, cache_size: str = "1G", metadata_ttl: str = "5s"
) -> Iterator[tuple[Mount, Proxy]]:
    """A mount of a MinIO bucket, with the requests of it counted."""
    with Proxy(server.host) as proxy:
        url = bucket.url.replace(server.host, proxy.host)
        with mounted(
            url,
            environment=bucket.environment,
            cache_size=cache_size,
            metadata_ttl=metadata_ttl,
            upload_delay="0s",
        ) as mount:
            yield mount, proxy


def objfs(mount: Mount, *argv: str, status: int = 0) -> str:
    """Run the command in this process; returns its output, or what it says of a failure."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in mount.place.environment.items():
            patch.setenv(name, value)
        code = main(argv)
    assert code == status, out.getvalue() + err.getvalue()
    return err.getvalue() if status else out.getvalue()


def pins(mount: Mount) -> dict[str, dict[str, Any]]:
    told = objfs(mount, "cache", "show", "--json", "--cache-dir", str(mount.place.cache))
    return {pin["path"]: pin for pin in json.loads(told)[0]["pins"]}


def read_all(folder: Path) -> dict[str, bytes]:
    return {
        os.path.join(place, name).removeprefix(f"{folder}/"): (folder / place / name).read_bytes()
        for place, _, names in os.walk(folder)
        for name in names
    }


# -- warm -----------------------------------------------------------------------------------------------


def test_warm_fetches_all_once(minio_bucket: Bucket, minio: Server) -> None:
    files = {f"dir/sub{number % 3}/f{number}": body(number, 1 + number * 1000) for number in range(30)}
    files["big"] = body(5, 9 * MIB + 17)
    for key, data in files.items():
        minio_bucket.store.put(key, data)
    with counted(minio_bucket, minio) as (mount, proxy):
        told = objfs(mount, "warm", str(mount.path / "dir"), str(mount.path / "big"))
        assert told.startswith(f"{mount.path}: 31 files, ")
        fetched = proxy.seen["get"]
        assert fetched <= 30 + 3, "a request per file, and one per 4 MiB"
        counts = json.loads(objfs(mount, "warm", "--json", str(mount.path)))[0]
        assert counts["fetched_bytes"] == 0
        assert counts["here_bytes"] == counts["total_bytes"] == sum(map(len, files.values()))
        assert read_all(mount.path) == files
        assert proxy.seen["get"] == fetched
        mount.umount()
        mount.mount_again()
        assert read_all(mount.path) == files
        assert proxy.seen["get"] == fetched, "it outlives the mount"


def test_warm_says_what_it_cannot_do(file_bucket: Bucket) -> None:
    file_bucket.store.put("large", body(1, 20 * MIB))
    with mounted(file_bucket.url, cache_size="16M") as mount:
        told = objfs(mount, "warm", str(mount.path), status=1)
        assert "20.0 MiB are asked for, and the cache has room for 16.0 MiB; name less, or enlarge it" in told
        assert "'none' cannot be fetched: no such file" in objfs(
            mount, "warm", f"{mount.path}/none", status=1
        )
        assert "is not in a mount of objfs" in objfs(mount, "warm", str(mount.place.folder), status=1)
        objfs(mount, "remount", str(mount.path), "-o", "cache_size=32M")
        assert "1 file, 20.0 MiB in the cache" in objfs(mount, "warm", str(mount.path))


# -- pin ------------------------------------------------------------------------------------------------


def test_pinned_files_stay_in_the_cache(minio_bucket: Bucket, minio: Server) -> None:
    files = {f"kept/f{number}": body(number, 300 * KIB) for number in range(6)}
    others = {f"other/f{number}": body(number, 4 * MIB) for number in range(6)}
    for key, data in (files | others).items():
        minio_bucket.store.put(key, data)
    with counted(minio_bucket, minio, cache_size="16M") as (mount, proxy):
        assert "6 files, 1.8 MiB pinned" in objfs(mount, "pin", str(mount.path / "kept"))
        for half in (list(others)[:3], list(others)[3:]):  # more than the cache holds
            objfs(mount, "warm", *(str(mount.path / key) for key in half))
        assert pins(mount)["kept"] == {"path": "kept", "files": 6, "bytes": 1843200, "held_bytes": 1843200}
        mount.umount()
        mount.mount_again()
        before = proxy.seen["get"]
        assert read_all(mount.path / "kept") == {key.removeprefix("kept/"): files[key] for key in files}
        assert proxy.seen["get"] == before
        assert read_pins(next(mount.place.cache.iterdir())) == ["kept"]


def test_pins_follow_new_versions(minio_bucket: Bucket, minio: Server) -> None:
    minio_bucket.store.put("dir/a", body(1, 400 * KIB))
    minio_bucket.store.put("dir/b", body(2, 400 * KIB))
    with counted(minio_bucket, minio, metadata_ttl="100ms") as (mount, proxy):
        objfs(mount, "pin", str(mount.path / "dir"))
        minio_bucket.store.put("dir/a", body(3, 600 * KIB))  # by somebody else
        minio_bucket.store.put("dir/new", body(4, 100 * KIB))
        (mount.path / "dir/b").write_bytes(body(5, 500 * KIB))  # by ourselves
        mount.drain()
        new_bytes = (600 + 100 + 500) * KIB

        def followed() -> bool:
            os.listdir(mount.path / "dir")
            os.stat(mount.path / "dir/a")
            found = pins(mount)["dir"]
            return (found["bytes"], found["held_bytes"]) == (new_bytes, new_bytes)

        until(followed, "the new versions are fetched by themselves")
        before = proxy.seen["get"]
        assert (mount.path / "dir/a").read_bytes() == body(3, 600 * KIB)
        assert (mount.path / "dir/new").read_bytes() == body(4, 100 * KIB)
        assert proxy.seen["get"] == before


def test_what_is_unpinned_may_go(file_bucket: Bucket) -> None:
    for key in ("kept/a", "kept/b", "single"):
        file_bucket.store.put(key, body(1, 100 * KIB))
    with mounted(file_bucket.url, cache_size="16M") as mount:
        objfs(mount, "pin", str(mount.path / "kept"), str(mount.path / "single"))
        told = objfs(mount, "unpin", str(mount.path / "kept/a"), status=1)
        assert "'kept/a' is not pinned itself; it is part of 'kept', which is." in told
        assert "'none' is not pinned itself." in objfs(mount, "unpin", f"{mount.path}/none", status=1)
        objfs(mount, "unpin", str(mount.path / "kept"))
        assert set(pins(mount)) == {"single"}
        objfs(mount, "unpin", str(mount.path / "single"))
        assert pins(mount) == {}
        mount.umount()
        mount.mount_again()
        assert pins(mount) == {}


def test_pins_are_bounded(file_bucket: Bucket) -> None:
    file_bucket.store.put("a", body(1, 10 * MIB))
    file_bucket.store.put("b", body(2, 10 * MIB))
    with mounted(file_bucket.url, cache_size="16M") as mount:
        objfs(mount, "pin", str(mount.path / "a"))
        told = objfs(mount, "pin", str(mount.path / "b"), status=1)
        assert "with 'b', 20.0 MiB would be pinned, and pins may take 14.4 MiB, 90% of the cache" in told
        assert set(pins(mount)) == {"a"}
        told = objfs(mount, "remount", str(mount.path), "-o", "cache_size=4M", status=1)
        assert "10.0 MiB are pinned, more than so small a cache may pin (3.6 MiB)" in told
        assert "cannot be pinned: no such file" in objfs(mount, "pin", f"{mount.path}/none", status=1)


# -- verify ---------------------------------------------------------------------------------------------


def damage(cache: Path) -> None:
    """Change a byte of one cached block."""
    path = max(cache.glob("*/blocks/??/*"), key=lambda one: one.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_cache_is_verified_in_use_and_at_rest(file_bucket: Bucket) -> None:
    file_bucket.store.put("file", body(1, 2 * MIB))
    with mounted(file_bucket.url, upload_delay="1h") as mount:
        objfs(mount, "warm", str(mount.path / "file"))
        (mount.path / "waiting").write_bytes(body(2, 300 * KIB))
        assert "8 blocks read, 2.0 MiB: all are good; 1 file to upload read" in objfs(
            mount, "cache", "verify", str(mount.path)
        )
        damage(mount.place.cache)
        found = json.loads(objfs(mount, "cache", "verify", "--json", str(mount.path)))[0]
        assert (found["checked_blocks"], found["bad_blocks"], found["bad_staged"]) == (8, 1, [])
        assert (mount.path / "file").read_bytes() == body(1, 2 * MIB)
        mount.umount("--no-drain")
        at_rest = ("cache", "verify", "--json", file_bucket.url, "--cache-dir", str(mount.place.cache))
        assert json.loads(objfs(mount, *at_rest))[0]["bad_blocks"] == 0
        damage(mount.place.cache)
        assert json.loads(objfs(mount, *at_rest))[0]["bad_blocks"] == 1
        staged = next(mount.place.cache.glob("*/staging/*"))
        kept = staged.read_bytes()
        os.truncate(staged, 1000)
        told = objfs(mount, *(text for text in at_rest if text != "--json"), status=1)
        assert "the change of waiting is damaged: its staged file is shorter than was journaled." in told
        staged.write_bytes(kept)
        assert objfs(mount, *at_rest)
        mount.mount_again()


# -- conflicts ------------------------------------------------------------------------------------------


def test_conflicts_are_listed(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url, upload_delay="1h", metadata_ttl="100ms") as mount:
        assert objfs(mount, "conflicts", str(mount.path)) == "There are no conflict copies.\n"
        (mount.path / "dir").mkdir()
        (mount.path / "dir/file").write_bytes(b"ours")
        file_bucket.store.put("dir/file", b"theirs, first")
        mount.drain()
        until(lambda: len(os.listdir(mount.path / "dir")) == 2, "both are kept")
        (found,) = json.loads(objfs(mount, "conflicts", "--json", str(mount.path)))
        assert (found["winner"], found["winner_bytes"]) == (f"{mount.path}/dir/file", 13)
        assert found["loser"].startswith(f"{mount.path}/dir/file.conflict-")
        assert (mount.path / found["loser"]).read_bytes() == b"ours"
        assert found["loser_bytes"] == 4
        assert abs(found["found_s"] - time.time()) < 60
        told = objfs(mount, "conflicts", found["loser"])
        assert told.startswith(f"{mount.path}/dir/file\n    keeps the name: 13 B, ")
        os.unlink(mount.path / "dir/file")
        assert "keeps the name: gone since" in objfs(mount, "conflicts")


# -- remount and limits ---------------------------------------------------------------------------------


def test_options_change_while_a_file_is_open(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url, metadata_ttl="1h") as mount, (mount.path / "open").open("wb") as open_file:
        assert not (mount.path / "later").exists()
        file_bucket.store.put("later", b"x")
        told = objfs(
            mount,
            "remount",
            str(mount.path),
            "-o",
            "metadata-ttl=1ms,log_level=debug",
            "-o",
            "cache_size=64M",
        )
        assert told == "metadata-ttl: 3600s -> 0.001s\nlog-level: info -> debug\ncache-size: 10GiB -> 64MiB\n"
        assert mount.status().cache.limit_bytes == 64 * MIB
        mount.log.write_text("")
        until(lambda: "later" in os.listdir(mount.path), "the new time counts")
        open_file.write(b"y")
    assert file_bucket.store.get("open").data == b"y"


def test_what_cannot_change_is_told(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        told = objfs(mount, "remount", str(mount.path), "-o", "write_mode=through", status=2)
        assert "write-mode cannot be changed while mounted; these can: cache-size, metadata-ttl, " in told
        assert "'sometimes' is no time" in objfs(
            mount, "remount", str(mount.path), "-o", "metadata_ttl=sometimes", status=2
        )
        assert "mount option 'cash_size' is not known" in objfs(
            mount, "remount", str(mount.path), "-o", "cash_size=1G", status=2
        )
    with a_place() as place:
        done = place.run("remount", str(place.mountpoint), "-o", "cache_size=1G")
        assert done.returncode == 1
        assert "is not mounted by objfs" in done.stderr


@pytest.mark.parametrize("kind", ["minio", "file"])
def test_limits_hold_on_a_mount(kind: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(f"{kind}_bucket")
    bucket.store.put("other", body(2, 3 * MIB))
    with mounted(
        bucket.url, environment=bucket.environment, upload_delay="0s", limit_upload="4M/s", cache_size="16M"
    ) as mount:
        begun_s = time.monotonic()
        (mount.path / "file").write_bytes(body(1, 4 * MIB))
        assert not (mount.path / "absent").exists(), "lookups do not wait for the upload"
        mount.drain()
        assert time.monotonic() - begun_s >= 4 / 4 - 0.2
        objfs(
            mount,
            "remount",
            str(mount.path),
            "-o",
            "limit_upload=off,limit_download=3M/s,limit_requests=50/s",
        )
        begun_s = time.monotonic()
        objfs(mount, "warm", str(mount.path / "other"))
        assert time.monotonic() - begun_s >= 3 / 3 - 0.2
        assert (mount.path / "other").read_bytes() == body(2, 3 * MIB)
    assert bucket.store.get("file").data == body(1, 4 * MIB)
