"""Buckets full of what nobody should put there: it is shown rightly or not at all, and harms nothing."""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
import subprocess
import urllib.parse
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from objfs.errors import ObjectStoreError
from objfs.store.values import PutOptions
from tests.fuse.mounting import mounted
from tests.fuse.test_tools import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuse.conftest import Bucket

GOOD = {"good.txt": b"good", "dir/good.txt": b"also good", "dir/sub/good": b"good below"}
PATHS = (  # keys that are paths, each to be shown under exactly this name
    "ends in space ",
    " begins with space",
    "ends in dot.",
    "...",
    "new\nline",
    "tab\tand\rreturn",
    "escape\x1b[31mred",
    "bell\x07",
    "back\\slash",
    "quote\"quote'",
    "star*and?mark",
    "percent%2Fslash",
    "plus+and space",
    "hash#and;semi&amp;<xml>",
    "caf\u00e9",
    "cafe\u0301",
    "\u202eevil",
    "\U0001f600",
    "\uffff",
    "-rf",
    "~",
    "con",
    "a.conflict-host-20200101T000000Z",
    "x_$folder$",
    "x" * 255,
    "/".join(["d" * 200] * 4) + "/" + "e" * 200,
    "/".join(["n"] * 150),
)
NO_PATHS = (  # keys that are no path: not shown, not touched
    "/abs",
    "a//b",
    "double//",
    "../x",
    "a2/../../x",
    "a3/./b",
    "./x",
    "..",
    ".",
    "y" * 256,
    "long/" + "z" * 300,
)


@pytest.fixture(params=["file", "minio"])
def real_bucket(request: pytest.FixtureRequest) -> Bucket:
    """Each kind of store in turn; moto's server has odd ideas of odd keys."""
    found: Bucket = request.getfixturevalue(f"{request.param}_bucket")
    return found


def put_all(bucket: Bucket, keys: tuple[str, ...]) -> list[str]:
    """Put keys; those that the store itself refuses are left out."""
    taken = []
    for key in keys:
        try:
            bucket.store.put(key, key.encode())
        except ObjectStoreError:
            continue
        taken.append(key)
    return taken


def put_good(bucket: Bucket) -> None:
    for key, data in GOOD.items():
        bucket.store.put(key, data)


def check_good(folder: Path) -> None:
    """The neighbours are all there."""
    for key, data in GOOD.items():
        assert (folder / key).read_bytes() == data, key
    assert "good.txt" in os.listdir(folder)
    assert set(os.listdir(folder / "dir")) >= {"good.txt", "sub"}


def test_names_that_are_paths(real_bucket: Bucket) -> None:
    bucket = real_bucket
    put_good(bucket)
    keys = put_all(bucket, PATHS)
    assert len(keys) > 20
    with mounted(bucket.url, environment=bucket.environment) as mount:
        shown = set(os.listdir(mount.path))
        for key in keys:
            assert key.split("/")[0] in shown, key
            assert (mount.path / key).read_bytes() == key.encode(), key
            assert (mount.path / key).stat().st_size == len(key.encode()), key
        check_good(mount.path)
        for key in keys:
            path = mount.path / key
            path.write_bytes(b"changed")
            path.rename(path.with_name("r"))
            path.with_name("r").rename(path)
        mount.umount()
        found = bucket.contents()
        assert {key: found[key] for key in keys} == dict.fromkeys(keys, b"changed")
        mount.mount_again()
        for key in keys:
            (mount.path / key).unlink()
        check_good(mount.path)
        mount.umount()
        assert not set(keys) & bucket.contents().keys()


def test_names_made_here_are_keys(real_bucket: Bucket) -> None:
    bucket = real_bucket
    with mounted(bucket.url, environment=bucket.environment) as mount:
        made: list[str] = []
        refused: list[int | None] = []
        for key in PATHS:
            path = mount.path / key
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(key.encode())
            except OSError as error:
                refused.append(error.errno)
                continue
            made.append(key)
        assert set(refused) <= {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
        assert len(made) > 20
        mount.drain()
        assert mount.status().uploads.parked_count == 0, mount.status().uploads.parked
        found = bucket.contents()
        for key in made:
            assert found[key] == key.encode(), key
        for bad in (b"bad\xff\xfename", b"x" * 256):
            with pytest.raises(OSError, match=r"Invalid or incomplete|too long") as caught:
                os.close(os.open(os.fsencode(mount.path) + b"/" + bad, os.O_CREAT | os.O_WRONLY))
            assert caught.value.errno in (errno.EILSEQ, errno.ENAMETOOLONG)
            assert not os.path.exists(os.fsencode(mount.path) + b"/" + bad)


def test_keys_that_are_no_paths(real_bucket: Bucket) -> None:
    bucket = real_bucket
    put_good(bucket)
    keys = put_all(bucket, NO_PATHS)
    for number in range(3):
        bucket.store.put(f"only-odd{number}/fine", b"1")
    odd = put_all(bucket, tuple(f"only-odd{number}//odd" for number in range(3)))
    with mounted(bucket.url, environment=bucket.environment) as mount:
        check_good(mount.path)
        every = [path for path in mount.path.rglob("*") if path.is_file()]
        allowed = {*GOOD, "only-odd0/fine", "only-odd1/fine", "only-odd2/fine"}
        assert {str(path.relative_to(mount.path)) for path in every} <= allowed
        for number in range(3):
            (mount.path / f"only-odd{number}" / "fine").unlink()
            if odd:  # what is not shown is not removed either
                with pytest.raises(OSError, match="not empty"):
                    (mount.path / f"only-odd{number}").rmdir()
        mount.umount()
        found = bucket.contents()
        assert {*keys, *odd} <= found.keys()
        assert all(found[key] == key.encode() for key in (*keys, *odd))
    assert not (mount.path.parent / "x").exists()


def test_a_key_that_is_file_and_directory(real_bucket: Bucket) -> None:
    bucket = real_bucket
    put_good(bucket)
    bucket.store.put("both/below", b"below")
    for key in ("both", "marked/"):
        bucket.store.put(key, b"content of " + key.encode()) if key in put_all(bucket, (key,)) else None
    bucket.store.put("marked/file", b"file")
    with mounted(bucket.url, environment=bucket.environment) as mount:
        check_good(mount.path)
        assert (mount.path / "marked").is_dir()
        assert os.listdir(mount.path / "marked") == ["file"]
        if (mount.path / "both").is_dir():  # where the store shows them both
            assert (mount.path / "both" / "below").read_bytes() == b"below"
        (mount.path / "marked" / "file").write_bytes(b"changed")
    assert bucket.contents()["marked/file"] == b"changed"


LIES = (
    {"mode": "banana"},
    {"mode": "-1"},
    {"mode": "99999999999999999999"},
    {"mode": "0"},
    {"mode": str(0o104755)},
    {"mode": str(stat.S_IFDIR | 0o755)},
    {"mode": str(stat.S_IFCHR | 0o666)},
    {"mode": str(stat.S_IFBLK | 0o666)},
    {"mode": str(stat.S_IFIFO | 0o666)},
    {"uid": "-5", "gid": "4294967295"},
    {"uid": "9" * 30, "gid": "root"},
    {"mtime": "-62135596800"},
    {"mtime": "253402300799"},
    {"mtime": "nan", "atime": "inf", "ctime": "-inf"},
    {"mtime": "1e400"},
    {"mtime": "1" * 39},
    {"mtime": "1e18"},
    {"mtime": "", "atime": "-", "ctime": "today"},
    {"xattr": "%7Bnot json"},
    {"xattr": urllib.parse.quote(json.dumps({"user.a": 5}))},
    {"xattr": urllib.parse.quote(json.dumps(["user.a"]))},
    {"xattr": urllib.parse.quote(json.dumps({"user.a": "%%%"}))},
    {"xattr": urllib.parse.quote(json.dumps({"user.big": base64.b64encode(b"x" * 900).decode()}))},
    {"objfs-size": "-1", "objfs-upload": "x"},
)


def test_metadata_that_lies(real_bucket: Bucket) -> None:
    bucket = real_bucket
    put_good(bucket)
    for number, metadata in enumerate(LIES):
        bucket.store.put(f"lie{number:02}", b"content", options=PutOptions(metadata=metadata))
        bucket.store.put(f"folder{number:02}/", b"", options=PutOptions(metadata=metadata))
    with mounted(bucket.url, environment=bucket.environment, xattrs=True) as mount:
        check_good(mount.path)
        run("ls", "-la", mount.path)
        run("find", mount.path, "-newermt", "2000-01-01")
        for number, metadata in enumerate(LIES):
            path = mount.path / f"lie{number:02}"
            status = path.lstat()
            assert not stat.S_ISCHR(status.st_mode), metadata
            assert not stat.S_ISBLK(status.st_mode), metadata
            assert (mount.path / f"folder{number:02}").is_dir(), metadata
            os.listxattr(path, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                assert path.read_bytes() == b"content", metadata
                path.write_bytes(b"changed")
            path.rename(mount.path / "renamed")
            (mount.path / "renamed").rename(path)
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
        mount.drain()
        assert mount.status().uploads.parked_count == 0, mount.status().uploads.parked


def test_set_uid_is_not_honoured(minio_bucket: Bucket) -> None:
    bucket = minio_bucket
    bucket.store.put("tool", b"#!/bin/sh\nid -u\n", options=PutOptions(metadata={"mode": str(0o104755)}))
    with mounted(bucket.url, environment=bucket.environment) as mount:
        flags = os.statvfs(mount.path).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        run(mount.path / "tool")


def test_symlinks(real_bucket: Bucket) -> None:
    bucket = real_bucket
    put_good(bucket)
    link = PutOptions(metadata={"mode": str(stat.S_IFLNK | 0o777)})
    for name, target in {
        "self": b"self",
        "ping": b"pong",
        "pong": b"ping",
        "passwd": b"/etc/passwd",
        "up": b"../../../../etc",
        "empty": b"",
        "huge": b"x" * 10_000,
        "nul": b"a\0b",
        "binary": bytes(range(1, 256)),
        "up/inside": b"never shown through a link",
    }.items():
        try:
            bucket.store.put(name, target, options=link)
        except ObjectStoreError:
            assert name == "up/inside"  # a folder cannot hold both
    with mounted(bucket.url, environment=bucket.environment) as mount:
        check_good(mount.path)
        subprocess.run(["ls", "-la", mount.path], check=False, capture_output=True)
        assert os.readlink(mount.path / "passwd") == "/etc/passwd"
        for name in ("self", "ping"):
            with pytest.raises(OSError, match="Too many levels"):
                (mount.path / name).read_bytes()
        for name in ("huge", "nul", "empty"):  # whatever is answered, it is an answer
            with suppress(OSError):
                os.readlink(mount.path / name)
        assert os.readlink(os.fsencode(mount.path / "binary")) == bytes(range(1, 256))
        (mount.path / "self").unlink()
        check_good(mount.path)


def test_names_of_our_own(real_bucket: Bucket) -> None:
    bucket = real_bucket
    put_good(bucket)
    nonsense = {".objfs/root": b"not empty", ".objfs/index/x": b"\xff\xfe", ".objfs": b"a file"}
    for key, data in nonsense.items():
        try:
            bucket.store.put(key, data, options=PutOptions(metadata={"mode": "lies"}))
        except ObjectStoreError:
            continue
    with mounted(bucket.url, environment=bucket.environment) as mount:
        check_good(mount.path)
        assert ".objfs" not in os.listdir(mount.path)
        assert not (mount.path / ".objfs").exists()
        with pytest.raises(OSError, match="not permitted"):
            (mount.path / ".objfs").mkdir()
        with pytest.raises(OSError, match="not permitted"):
            (mount.path / ".objfs").write_bytes(b"")
        with pytest.raises(OSError, match="not permitted"):
            (mount.path / "good.txt").rename(mount.path / ".objfs")
        (mount.path / "dir" / ".objfs").write_bytes(b"below, it is a name like others")
    assert bucket.contents()["dir/.objfs"] == b"below, it is a name like others"


def test_many_siblings(file_bucket: Bucket) -> None:
    for number in range(2000):
        file_bucket.store.put(f"many/{number:05}", b"")
    with mounted(file_bucket.url) as mount:
        assert len(os.listdir(mount.path / "many")) == 2000
        assert not (mount.path / "many" / "none").exists()
        (mount.path / "many" / "new").write_bytes(b"new")
        assert len(os.listdir(mount.path / "many")) == 2001
        run("rm", "-rf", mount.path / "many")
    assert file_bucket.contents() == {}
