"""What a program may rely on: the sentences of objfs/vfs/SEMANTICS.md, each on a real mount."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import re
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs.store.registry import open_store
from objfs.store.values import PutOptions
from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.store.protocol import ObjectStore

SEMANTICS = Path(__file__).parents[2] / "objfs" / "vfs" / "SEMANTICS.md"
TTL_S = 1.0


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def store(objects: Path) -> ObjectStore:
    return open_store(f"file://{objects}")


@pytest.fixture(scope="module")
def mount(objects: Path) -> Iterator[Path]:
    with mounted(f"file://{objects}", metadata_ttl=f"{TTL_S}s", xattrs=True) as mount:
        yield mount.path


@pytest.fixture
def folder(mount: Path, request: pytest.FixtureRequest) -> Path:
    folder = mount / str(request.node.name)
    folder.mkdir()
    return folder


@contextmanager
def refused(number: int) -> Iterator[None]:
    with pytest.raises(OSError, match=r"\[Errno") as told:
        yield
    assert told.value.errno == number, told.value


def eventually(question: object, seconds: float = 15.0) -> None:
    assert callable(question)
    until = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < until, "never came true"
        time.sleep(0.1)


def key_of(path: Path, mount: Path) -> str:
    return str(path.relative_to(mount))


def test_every_sentence_names_its_tests() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", SEMANTICS.read_text()))
    written = {
        name
        for path in Path(__file__).parents[1].rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= written, named - written
    own = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    assert own - named == {"test_every_sentence_names_its_tests"}


def test_reads_see_every_write_at_once(folder: Path) -> None:
    path = folder / "a"
    with path.open("w+b", buffering=0) as one, path.open("rb", buffering=0) as other:
        one.write(b"first")
        assert other.read() == b"first"
        os.pwrite(one.fileno(), b"F", 0)
        assert os.pread(other.fileno(), 5, 0) == b"First"
        assert path.stat().st_size == 5


def test_holes_read_as_zeros(folder: Path) -> None:
    path = folder / "sparse"
    with path.open("w+b") as file:
        file.seek(3_000_000)
        file.write(b"end")
        file.seek(0)
        assert file.read() == bytes(3_000_000) + b"end"
    os.truncate(path, 3_500_000)
    assert path.read_bytes() == bytes(3_000_000) + b"end" + bytes(499_997)
    os.truncate(path, 2)
    os.truncate(path, 4)
    assert path.read_bytes() == bytes(4)


def test_a_stored_file_is_patched_in_place(folder: Path, mount: Path, store: ObjectStore) -> None:
    path = folder / "patched"
    path.write_bytes(b"x" * 300_000)
    key = key_of(path, mount)
    eventually(lambda: key in keys(store, key))
    with path.open("r+b") as file:
        file.seek(100_000)
        file.write(b"PATCH")
    expected = b"x" * 100_000 + b"PATCH" + b"x" * 199_995
    assert path.read_bytes() == expected
    eventually(lambda: store.get(key).data == expected)


def test_appends_of_two_processes_are_all_there(folder: Path) -> None:
    path = folder / "log"
    script = (
        "import os,sys\nfor i in range(200):\n fd=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n"
    )
    script += " os.write(fd,(sys.argv[2]*9+'\\n').encode()); os.close(fd)\n"
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = path.read_text().splitlines()
    assert sorted(lines) == ["a" * 9] * 200 + ["b" * 9] * 200


def test_maps_and_writes_see_each_other(folder: Path) -> None:
    path = folder / "mapped"
    path.write_bytes(b"a" * 8192)
    with path.open("rb") as reader, path.open("r+b", buffering=0) as updater:
        writer = os.open(path, os.O_WRONLY)
        try:
            with (
                mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ) as shown,
                mmap.mmap(updater.fileno(), 0) as stored,
            ):
                assert shown[:2] == stored[:2] == b"aa"
                os.pwrite(writer, b"one", 100)
                assert shown[100:103] == stored[100:103] == os.pread(reader.fileno(), 3, 100) == b"one"
                stored[200:203] = b"two"
                os.pwrite(writer, b"six", 300)  # in a page that has a store to be written back
                for at, what in ((100, b"one"), (200, b"two"), (300, b"six")):
                    assert shown[at : at + 3] == stored[at : at + 3] == what
                    assert os.pread(reader.fileno(), 3, at) == what
                os.pwrite(writer, memoryview(shown)[100:400], 8192)  # from its own map
                assert path.read_bytes()[8192:] == shown[100:400]
        finally:
            os.close(writer)


def test_shared_maps_are_written_back(folder: Path) -> None:
    path = folder / "mapped"
    path.write_bytes(bytes(10_000))
    descriptor = os.open(path, os.O_RDWR)
    with mmap.mmap(descriptor, 10_000) as view:
        os.close(descriptor)  # the map outlives the descriptor
        view[5000:5005] = b"hello"
        view.flush()
    assert path.read_bytes()[4999:5006] == b"\0hello\0"


def test_locks_hold_between_processes(folder: Path) -> None:
    path = folder / "lock"
    path.touch()
    script = "import fcntl,sys\ntry: fcntl.flock(open(sys.argv[1]),fcntl.LOCK_EX|fcntl.LOCK_NB)\n"
    script += "except BlockingIOError: sys.exit(7)\n"
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 7
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == 0


def test_holes_are_not_told(folder: Path) -> None:
    with (folder / "f").open("w+b") as file:
        os.ftruncate(file.fileno(), 10_000_000)
        os.pwrite(file.fileno(), b"x", 5_000_000)
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 10_000_000
        assert os.lseek(file.fileno(), 100, os.SEEK_DATA) == 100
        with refused(errno.ENXIO):
            os.lseek(file.fileno(), 10_000_000, os.SEEK_DATA)
    assert (folder / "f").stat().st_blocks * 512 >= 10_000_000


def test_no_room_is_set_aside(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    with (folder / "f").open("w+b") as file:
        file.write(b"x" * 10_000)
        file.flush()
        for mode in (0, 1, 1 | 2, 8, 16, 32):  # of all kinds: linux/falloc.h
            assert libc.fallocate(file.fileno(), mode, 0, 8192) == -1
            assert ctypes.get_errno() == errno.EOPNOTSUPP
        os.posix_fallocate(file.fileno(), 0, 50_000)
    assert (folder / "f").read_bytes() == b"x" * 10_000 + bytes(40_000)


def test_no_nameless_files(folder: Path) -> None:
    with refused(errno.EOPNOTSUPP):
        os.open(folder, os.O_TMPFILE | os.O_RDWR)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x")
        file.seek(0)
        assert file.read() == b"x"
    assert os.listdir(folder) == []


def test_o_excl_and_o_trunc(folder: Path) -> None:
    path = folder / "a"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    with refused(errno.EEXIST):
        os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    for access in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY):
        path.write_bytes(b"long content")
        os.close(os.open(path, access | os.O_TRUNC))
        assert path.read_bytes() == b""


def test_an_unlinked_file_lives_while_it_is_open(folder: Path, mount: Path, store: ObjectStore) -> None:
    path = folder / "doomed"
    path.write_bytes(b"d" * 5000)
    key = key_of(path, mount)
    eventually(lambda: key in keys(store, key))
    with path.open("rb") as file:
        path.unlink()
        assert not path.exists()
        eventually(lambda: key not in keys(store, key))
        assert file.read() == b"d" * 5000
        assert os.fstat(file.fileno()).st_nlink == 0


def test_a_replaced_file_lives_while_it_is_open(folder: Path) -> None:
    path = folder / "target"
    path.write_bytes(b"old")
    with path.open("rb") as file:
        (folder / "new").write_bytes(b"new!")
        (folder / "new").rename(path)
        assert file.read() == b"old"
    assert path.read_bytes() == b"new!"
    assert os.listdir(folder) == ["target"]


def test_renames(folder: Path) -> None:
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "d" / "e" / "f").write_text("deep")
    (folder / "d").rename(folder / "moved")
    assert (folder / "moved" / "e" / "f").read_text() == "deep"
    (folder / "empty").mkdir()
    (folder / "moved").rename(folder / "empty")
    assert (folder / "empty" / "e" / "f").read_text() == "deep"
    (folder / "full").mkdir()
    (folder / "full" / "x").touch()
    with refused(errno.ENOTEMPTY):
        (folder / "empty").rename(folder / "full")
    with refused(errno.EINVAL):
        (folder / "empty").rename(folder / "empty" / "e" / "inside")
    (folder / "file").touch()
    with refused(errno.EISDIR):
        (folder / "file").rename(folder / "full")
    with refused(errno.ENOTDIR):
        (folder / "full").rename(folder / "file")


def test_renames_with_flags(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def rename(source: str, target: str, flags: int) -> int:
        paths = (os.fsencode(folder / source), os.fsencode(folder / target))
        here = -100  # AT_FDCWD
        return 0 if libc.renameat2(here, paths[0], here, paths[1], flags) == 0 else ctypes.get_errno()

    noreplace, exchange = 1, 2
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    assert rename("a", "b", noreplace) == errno.EEXIST
    assert rename("a", "b", exchange) == errno.EINVAL
    assert rename("a", "c", noreplace) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"b": "b", "c": "a"}


def test_directories(folder: Path) -> None:
    (folder / "d").mkdir()
    with refused(errno.EEXIST):
        (folder / "d").mkdir()
    (folder / "d" / "x").touch()
    with refused(errno.ENOTEMPTY):
        (folder / "d").rmdir()
    with refused(errno.EISDIR):
        os.unlink(folder / "d")
    with refused(errno.ENOTDIR):
        (folder / "d" / "x").rmdir()
    (folder / "d" / "x").unlink()
    assert list((folder / "d").iterdir()) == []
    (folder / "d").rmdir()
    assert not (folder / "d").exists()


def test_a_listing_begun_again_is_of_now(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype, libc.readdir.restype = ctypes.c_void_p, ctypes.c_void_p
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(folder)))

    def count() -> int:
        entries = 0
        while libc.readdir(stream):
            entries += 1
        return entries

    try:
        for number in range(3):
            assert count() == 2 + number
            (folder / str(number)).touch()
            libc.rewinddir(stream)
    finally:
        libc.closedir(stream)


def test_a_listing_is_of_the_time_it_is_begun(folder: Path) -> None:
    (folder / "before").touch()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        (folder / "before").rename(folder / "after")
        assert os.listdir(descriptor) == ["after"]
    finally:
        os.close(descriptor)


def test_a_directory_stays_when_its_last_file_goes(folder: Path, mount: Path, store: ObjectStore) -> None:
    key = f"{key_of(folder, mount)}/implied/only"
    store.put(key, b"x")
    eventually(lambda: (folder / "implied" / "only").exists())
    (folder / "implied" / "only").unlink()
    eventually(lambda: keys(store, key.rpartition("/")[0]) == [f"{key.rpartition('/')[0]}/"])
    assert (folder / "implied").is_dir()


def test_attributes_are_kept_in_the_object(folder: Path, mount: Path, store: ObjectStore) -> None:
    path = folder / "a"
    path.write_text("x")
    os.chown(path, 1234, 4321)
    path.chmod(0o4751)
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    key = key_of(path, mount)
    eventually(lambda: keys(store, key) and (store.head(key).metadata or {}).get("uid") == "1234")
    metadata = store.head(key).metadata or {}
    assert metadata["mode"] == str(stat.S_IFREG | 0o4751)
    assert metadata["gid"] == "4321"
    assert metadata["mtime"] == "2.000000002"
    found = path.stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (stat.S_IFREG | 0o4751, 1234, 4321)
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_001, 2_000_000_002)


@pytest.mark.parametrize("access", [os.O_WRONLY, os.O_RDWR], ids=["to write", "to read and write"])
def test_a_users_write_takes_the_set_id_bits_away(folder: Path, access: int) -> None:
    path = folder / "program"
    path.write_bytes(b"run me")
    path.chmod(0o6777)
    with path.open("r+b") as file:
        file.write(b"Run")
    assert stat.S_IMODE(path.stat().st_mode) == (0o6777 if os.geteuid() == 0 else 0o777)
    path.chmod(0o6777)
    as_users_are = ["setpriv", "--bounding-set=-fsetid"] if os.geteuid() == 0 else []
    script = "import os,sys\nos.write(os.open(sys.argv[1],int(sys.argv[2])),b'RUN')\n"
    subprocess.run([*as_users_are, sys.executable, "-c", script, str(path), str(access)], check=True)
    assert path.read_bytes() == b"RUN me"
    assert stat.S_IMODE(path.stat().st_mode) == 0o777


def test_objects_of_others_show_with_defaults(folder: Path, mount: Path, store: ObjectStore) -> None:
    prefix = key_of(folder, mount)
    store.put(f"{prefix}/plain", b"plain")
    odd = {"mode": "no number", "mtime": "never", "uid": "-5"}
    store.put(f"{prefix}/odd", b"odd", options=PutOptions(metadata=odd))
    eventually(lambda: {"plain", "odd"} <= set(os.listdir(folder)))
    for name in ("plain", "odd"):
        found = (folder / name).stat()
        assert stat.S_IMODE(found.st_mode) == 0o644
        assert found.st_uid == os.geteuid()
        assert (folder / name).read_text() == name


def test_special_files(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(folder):  # socket paths are short
        listening.bind("s")
    assert stat.S_ISSOCK((folder / "s").stat().st_mode)
    (folder / "link").symlink_to("no/such/target")
    assert os.readlink(folder / "link") == "no/such/target"
    with refused(errno.EPERM):
        os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))


def test_no_hard_links(folder: Path) -> None:
    (folder / "a").touch()
    with refused(errno.EPERM):
        os.link(folder / "a", folder / "b")
    (folder / "d" / "e").mkdir(parents=True)
    assert [(folder / name).stat().st_nlink for name in ("a", "d")] == [1, 1]


def test_names(folder: Path) -> None:
    for name in (" ends in space ", "dot.", "new\nline", "ünïcode", "a" * 255, "x\x1b[31m", "%41", "a+b&c"):
        (folder / name).write_text(name)
    assert sorted(os.listdir(folder)) == sorted(
        (" ends in space ", "dot.", "new\nline", "ünïcode", "a" * 255, "x\x1b[31m", "%41", "a+b&c")
    )
    with refused(errno.ENAMETOOLONG):
        (folder / ("b" * 256)).touch()
    with refused(errno.EILSEQ):
        open(os.fsencode(folder) + b"/\xff\xfe", "wb").close()


def test_long_paths(folder: Path, mount: Path) -> None:
    room = 1024 - len(os.fsencode(folder.relative_to(mount)))
    below = folder.joinpath(*["d" * 99] * (room // 100 - 1))
    below.mkdir(parents=True)
    left = room - 100 * (room // 100 - 1) - 2  # a slash before the name, and one after that of a directory
    (below / ("f" * left)).write_text("x")
    with refused(errno.ENAMETOOLONG):
        (below / ("f" * (left + 1))).touch()
    with refused(errno.ENAMETOOLONG):
        (below / ("e" * (left + 1))).mkdir()
    with refused(errno.ENAMETOOLONG):
        (folder / ("d" * 99)).rename(folder / ("d" * 100))
    assert (below / ("f" * left)).read_text() == "x"


def test_extended_attributes(folder: Path) -> None:
    path = folder / "a"
    path.touch()
    os.setxattr(path, "user.one", b"\0binary\xff")
    assert os.getxattr(path, "user.one") == b"\0binary\xff"
    assert os.listxattr(path) == ["user.one"]
    with refused(errno.ENOSPC):
        os.setxattr(path, "user.large", b"x" * 4000)
    os.removexattr(path, "user.one")
    with refused(errno.ENODATA):
        os.getxattr(path, "user.one")
    anybody = 2**32 - 1
    entries = ((1, 6, anybody), (2, 4, 1000), (4, 4, anybody), (16, 4, anybody), (32, 0, anybody))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    with refused(errno.EOPNOTSUPP):
        os.setxattr(path, "system.posix_acl_access", acl)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("foo.x", errno.EOPNOTSUPP),
        ("foo", errno.EOPNOTSUPP),
        ("user", errno.EOPNOTSUPP),
        ("system.x", errno.EOPNOTSUPP),
        ("user.", errno.EINVAL),
    ],
)
def test_extended_attributes_have_a_namespace(folder: Path, name: str, number: int) -> None:
    with refused(number):
        os.getxattr(folder, name)
    with refused(number):
        os.setxattr(folder, name, b"x")
    with refused(number):
        os.removexattr(folder, name)
    assert os.listxattr(folder) == []


def test_changes_by_others_are_seen_in_time(folder: Path, mount: Path, store: ObjectStore) -> None:
    path = folder / "shared"
    key = key_of(path, mount)
    store.put(key, b"one")
    eventually(path.exists)
    assert path.read_bytes() == b"one"
    inode = path.stat().st_ino
    with path.open("rb") as old:
        store.put(key, b"two, longer")
        time.sleep(2 * TTL_S)
        assert path.read_bytes() == b"two, longer"
        assert path.stat().st_ino != inode
        assert old.read() == b"one"
    store.delete([key])
    time.sleep(2 * TTL_S)
    assert not path.exists()


def test_a_version_that_was_replaced_cannot_be_changed(folder: Path, mount: Path, store: ObjectStore) -> None:
    path = folder / "shared"
    key = key_of(path, mount)
    store.put(key, b"one")
    eventually(path.exists)
    with path.open("r+b", buffering=0) as old:
        store.put(key, b"two, longer")
        eventually(lambda: path.stat().st_size == 11)
        for change in (
            lambda: old.write(b"ours"),
            lambda: old.truncate(0),
            lambda: os.fchmod(old.fileno(), 0o600),
            lambda: os.utime(old.fileno(), (1, 1)),
        ):
            with refused(errno.ESTALE):
                change()
        assert os.fstat(old.fileno()).st_size == 3
    assert path.read_bytes() == b"two, longer"
    with path.open("ab") as new:
        new.write(b" ours")
    assert path.read_bytes() == b"two, longer ours"


def test_nothing_is_made_in_a_directory_that_somebody_removed(
    folder: Path, mount: Path, store: ObjectStore
) -> None:
    key = key_of(folder / "above" / "inside" / "file", mount)
    store.put(key, b"one")
    eventually((folder / "above" / "inside").is_dir)
    inside = os.open(folder / "above" / "inside", os.O_RDONLY)
    try:
        store.delete([key])
        eventually(lambda: not (folder / "above").exists())
        with refused(errno.ENOENT):
            os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=inside)
        with refused(errno.ENOENT):
            os.mkdir("new", dir_fd=inside)
        assert os.listdir(inside) == []
    finally:
        os.close(inside)
    assert not (mount / "inside").exists()


def test_two_writers_keep_both(folder: Path, mount: Path, store: ObjectStore) -> None:
    path = folder / "contended"
    key = key_of(path, mount)
    store.put(key, b"base")
    eventually(path.exists)
    assert path.read_bytes() == b"base"
    with path.open("wb") as file:
        file.write(b"ours")
        file.flush()
        store.put(key, b"theirs")
    eventually(lambda: any(".conflict-" in one for one in keys(store, key)))
    (copy,) = (one for one in keys(store, key) if ".conflict-" in one)
    assert store.get(key).data == b"theirs"
    assert store.get(copy).data == b"ours"
    time.sleep(2 * TTL_S)
    assert path.read_bytes() == b"theirs"
    assert (folder / copy.rpartition("/")[2]).read_bytes() == b"ours"


def test_the_mounts_own_folder_is_not_shown(mount: Path, store: ObjectStore) -> None:
    store.put(".objfs/something", b"")
    time.sleep(2 * TTL_S)
    assert ".objfs" not in os.listdir(mount)
    assert not (mount / ".objfs").exists()
    with refused(errno.EPERM):
        (mount / ".objfs").mkdir()
    store.delete([".objfs/something"])


def keys(store: ObjectStore, prefix: str) -> list[str]:
    return [info.key for info in store.list(prefix).objects]
