"""Compressed objects on real mounts: programs see files, others see what `zstd -d` reads."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from objfs.codec.table import parse_table
from objfs.store.values import MIB, PutOptions
from tests.fuse.mounting import mounted
from tests.fuse.test_life import wait_until
from tests.unit.codec.objects import compressed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuse.conftest import Bucket

ALL = "*=zstd:1"


def text(size: int, seed: int = 0) -> bytes:
    """Lines that compress some three times."""
    chance = random.Random(seed)
    lines = b"".join(
        b"%08x the same again and again %d\n" % (chance.getrandbits(32), n) for n in range(40_000)
    )
    return (lines * (size // len(lines) + 1))[:size]


def mixed(size: int, seed: int = 0) -> bytes:
    """Content that compresses by a third."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(700) + bytes(300) for _ in range(size // 1000 + 1))[:size]


def zstd(data: bytes) -> bytes:
    """What zstd(1) makes of a file."""
    command = ["zstd", "-q", "-c", f"--stream-size={len(data)}"]
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stdout


def unzstd(data: bytes) -> bytes:
    """What zstd(1) makes of an object."""
    return subprocess.run(
        ["zstd", "-d", "-q", "-c"], input=data, capture_output=True, check=True, timeout=120
    ).stdout


def check_random_reads(path: Path, content: bytes, times: int = 40) -> None:
    """Compare reads at random places."""
    chance = random.Random(len(content))
    with path.open("rb", buffering=0) as file:
        for _ in range(times):
            offset, length = chance.randrange(len(content)), chance.choice((1, 4096, 200_000))
            assert os.pread(file.fileno(), length, offset) == content[offset : offset + length]


def test_compressed_files_look_like_any_other(bucket: Bucket) -> None:
    files = {"small": text(5000), "middle.txt": text(3 * MIB + 5), "large.log": text(20 * MIB, 1)}
    with mounted(bucket.url, environment=bucket.environment, compress=ALL) as mount:
        for name, content in files.items():
            (mount.path / name).write_bytes(content)
            assert (mount.path / name).stat().st_size == len(content)
        mount.drain()
        for name, content in files.items():
            stored = bucket.contents()[name]
            assert len(stored) < len(content) / 2
            assert unzstd(stored) == content
            assert bucket.store.head(name).content_encoding == "zstd"
            assert (mount.path / name).stat().st_size == len(content)
    # Anybody who mounts the bucket sees them so, whatever rules he has.
    with mounted(bucket.url, environment=bucket.environment) as mount:
        listed = {entry.name: entry.stat().st_size for entry in os.scandir(mount.path)}
        assert listed == {name: len(content) for name, content in files.items()}
        check_random_reads(mount.path / "large.log", files["large.log"])
        for name, content in files.items():
            assert (mount.path / name).read_bytes() == content


def test_changes_of_compressed_files(bucket: Bucket) -> None:
    content = text(2 * MIB)
    with mounted(bucket.url, environment=bucket.environment, compress=ALL) as mount:
        (mount.path / "dir").mkdir()
        for name in ("moved", "dir/below", "patched", "noise", "chmod"):
            (mount.path / name).write_bytes(content)
        mount.drain()
        (mount.path / "chmod").chmod(0o600)
        (mount.path / "moved").rename(mount.path / "there")
        (mount.path / "dir").rename(mount.path / "new")
        with (mount.path / "patched").open("r+b") as file:
            file.seek(MIB)
            file.write(b"patched")
            file.seek(0, os.SEEK_END)
            file.write(b"appended")
        noise = random.Random(1).randbytes(MIB)
        (mount.path / "noise").write_bytes(noise)
        mount.drain()
        stored = bucket.contents()
        for name in ("chmod", "there", "new/below"):
            assert unzstd(stored[name]) == content
            info = bucket.store.head(name)
            assert (info.content_encoding, (info.metadata or {})["objfs-size"]) == ("zstd", str(2 * MIB))
        changed = content[:MIB] + b"patched" + content[MIB + 7 :] + b"appended"
        assert unzstd(stored["patched"]) == changed
        assert stored["noise"] == noise
        assert bucket.store.head("noise").content_encoding is None
        os.truncate(mount.path / "patched", MIB + 3)
        mount.drain()
        assert unzstd(bucket.contents()["patched"]) == changed[: MIB + 3]
    with mounted(bucket.url, environment=bucket.environment) as mount:
        assert (mount.path / "chmod").stat().st_mode & 0o777 == 0o600
        for name in ("chmod", "there", "new/below"):
            assert (mount.path / name).read_bytes() == content
        # Without a rule, what is written anew is stored plain.
        (mount.path / "there").write_bytes(content)
        mount.drain()
        assert bucket.contents()["there"] == content
        assert "objfs-size" not in (bucket.store.head("there").metadata or {})


@pytest.mark.parametrize("kind", ["file", "minio", "s3"])
def test_a_large_compressed_file_is_patched_in_place(kind: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(f"{kind}_bucket")
    content = bytearray(mixed(50 * MIB))
    with mounted(bucket.url, environment=bucket.environment, compress=ALL) as mount:
        (mount.path / "big").write_bytes(content)
        mount.drain()
    with mounted(bucket.url, environment=bucket.environment, compress=ALL) as mount:
        with (mount.path / "big").open("r+b", buffering=0) as file:
            for at in (30 * MIB + 17, 5):
                os.pwrite(file.fileno(), b"patched", at)
                content[at : at + 7] = b"patched"
            os.lseek(file.fileno(), 0, os.SEEK_END)
            file.write(b"more" * 1000)
            content += b"more" * 1000
        check_random_reads(mount.path / "big", bytes(content))
        mount.drain()
        stored = bucket.contents()["big"]
        parse_table(stored, len(stored), len(content))
        assert unzstd(stored) == content
        check_random_reads(mount.path / "big", bytes(content))
        assert hashlib.sha256((mount.path / "big").read_bytes()).digest() == hashlib.sha256(content).digest()


@pytest.mark.parametrize("kind", ["file", "minio"])
def test_killed_in_a_compressed_upload(kind: str, request: pytest.FixtureRequest) -> None:
    bucket: Bucket = request.getfixturevalue(f"{kind}_bucket")
    multipart = bucket.store.multipart
    assert multipart is not None
    content = mixed(200 * MIB)
    with mounted(bucket.url, environment=bucket.environment, compress=ALL, upload_delay="0s") as mount:
        (mount.path / "big").write_bytes(content)
        wait_until(lambda: multipart.list_uploads("big") != [])  # MinIO lists whole keys only
        mount.kill()
        assert "big" not in bucket.contents()
        mount.mount_again()
        assert (mount.path / "big").stat().st_size == len(content)
        check_random_reads(mount.path / "big", content)
        mount.drain()
        assert unzstd(bucket.contents()["big"]) == content
        assert not multipart.list_uploads("big")


def test_git_works_on_a_compressed_mount(minio_bucket: Bucket, tmp_path: Path) -> None:
    def git(*arguments: str, folder: Path) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "gc.auto=0", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    origin = tmp_path / "origin"
    origin.mkdir()
    git("init", "-q", folder=origin)
    for number in range(60):
        (origin / f"{number}.txt").write_bytes(text(20_000, number))
    git("add", ".", folder=origin)
    git("commit", "-q", "-m", "first", folder=origin)
    with mounted(minio_bucket.url, environment=minio_bucket.environment, compress=ALL) as mount:
        git("clone", "-q", str(origin), "repo", folder=mount.path)
        (mount.path / "repo" / "3.txt").write_bytes(text(30_000, 99))
        git("commit", "-q", "-a", "-m", "second", folder=mount.path / "repo")
        git("repack", "-a", "-d", "-q", folder=mount.path / "repo")
    with mounted(minio_bucket.url, environment=minio_bucket.environment) as mount:
        git("fsck", "--full", folder=mount.path / "repo")
        assert git("status", "--porcelain", folder=mount.path / "repo") == ""
        assert (mount.path / "repo" / "3.txt").read_bytes() == text(30_000, 99)
        assert minio_bucket.store.head("repo/3.txt").content_encoding == "zstd"


def put(bucket: Bucket, key: str, data: bytes, size: object = None) -> None:
    """An object as somebody else may have put it."""
    metadata = {} if size is None else {"objfs-size": str(size)}
    bucket.store.put(key, data, options=PutOptions(metadata=metadata, content_encoding="zstd"))


def test_compressed_objects_of_others_are_shown_as_they_are(bucket: Bucket) -> None:
    content = text(100_000)
    frame = zstd(content)
    put(bucket, "frame", frame)
    put(bucket, "seekable", compressed(content))
    put(bucket, "nonsense", compressed(content), "12x")
    bucket.store.put("no-encoding", frame, options=PutOptions(metadata={"objfs-size": "100000"}))
    with mounted(bucket.url, environment=bucket.environment) as mount:
        for name, stored in bucket.contents().items():
            assert (mount.path / name).stat().st_size == len(stored)
            assert (mount.path / name).read_bytes() == stored


def test_compressed_objects_of_others_are_decoded_on_demand(bucket: Bucket) -> None:
    content = text(3 * MIB)
    put(bucket, "frame", zstd(content))
    put(bucket, "seekable", compressed(content, size=1_000_000))
    put(bucket, "large", zstd(text(9 * MIB)))
    put(bucket, "nonsense", b"no frame at all, but long enough")
    put(bucket, "short", b"x")
    shown = bucket.contents() | {"frame": content, "seekable": content}
    with mounted(bucket.url, environment=bucket.environment, decode=True, compress="seekable=zstd") as mount:
        listed = {entry.name: entry.stat().st_size for entry in os.scandir(mount.path)}
        assert listed == {name: len(data) for name, data in shown.items()}
        for name, data in shown.items():
            assert (mount.path / name).read_bytes() == data
        for name in ("frame", "seekable"):
            with (mount.path / name).open("r+b") as file:
                file.seek(MIB)
                file.write(b"patched")
        mount.drain()
        changed = content[:MIB] + b"patched" + content[MIB + 7 :]
        assert bucket.contents()["frame"] == changed
        assert unzstd(bucket.contents()["seekable"]) == changed


def test_what_lies_is_an_error_and_harms_nobody(bucket: Bucket) -> None:
    content = text(300_000)
    good = compressed(content)
    put(bucket, "good", good, len(content))
    bad = {
        "cut": (good[:-1], len(content)),
        "longer": (good, len(content) + 1),
        "huge": (good, 2**43),
        "table": (good[:-20] + bytes(4) + good[-16:], len(content)),
        "frame": (good[:1000] + bytes([good[1000] ^ 1]) + good[1001:], len(content)),
        "no table": (zstd(text(9 * MIB)), 9 * MIB),
        "plain": (content, len(content)),
        "empty": (b"", 17),
    }
    for name, (data, size) in bad.items():
        put(bucket, name, data, size)
    with mounted(bucket.url, environment=bucket.environment, allow_errors=True) as mount:
        for name, (_, size) in bad.items():
            assert (mount.path / name).stat().st_size == size
            with pytest.raises(OSError, match=os.strerror(errno.EIO)), (mount.path / name).open("rb") as file:
                file.read(100_000)
            assert f"'{name}' cannot be read" in mount.place.log_text()
            assert (mount.path / "good").read_bytes() == content
        for name in bad:
            (mount.path / name).write_bytes(b"written anew")
        assert sorted(os.listdir(mount.path)) == sorted([*bad, "good"])
        mount.drain()
        assert {name: bucket.contents()[name] for name in bad} == dict.fromkeys(bad, b"written anew")
