"""The same random calls, with many descriptors open, on a mount and in a plain folder: the same answers."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STEPS = 300
SEEDS = range(60 if os.environ.get("OBJFS_SOAK") else 3)
LENGTHS = (0, 1, 300, 4096, 5000, 70_000, 140_000)
OFFSETS = (0, 0, 100, 4096, 5000, 65_536, 200_000)
ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)
FLAGS = {os.O_CREAT: 0.6, os.O_EXCL: 0.1, os.O_TRUNC: 0.2, os.O_APPEND: 0.2, os.O_DIRECTORY: 0.03}
OLD_NS = (10**17 + 7, 123_456_789, -5 * 10**9 - 3)
LATELY_NS = 10**18  # what is later is the time of a change, which is not the same twice
MAX_OPEN = 6

Call = tuple[str, tuple[int | str | bytes, ...]]


@dataclass
class Side:
    """One of the two folders, with what is open in it."""

    root: Path
    files: dict[int, int] = field(default_factory=dict)
    folders: dict[int, int] = field(default_factory=dict)

    def answer(self, call: Call) -> object:
        name, arguments = call
        try:
            return getattr(self, name)(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def open(self, slot: int, path: str, flags: int, mode: int) -> None:
        self.files[slot] = os.open(self.at(path), flags, mode)

    def close(self, slot: int) -> None:
        os.close(self.files.pop(slot))

    def pread(self, slot: int, length: int, offset: int) -> bytes:
        return os.pread(self.files[slot], length, offset)

    def pwrite(self, slot: int, data: bytes, offset: int) -> int:
        return os.pwrite(self.files[slot], data, offset)

    def write(self, slot: int, data: bytes) -> int:
        return os.write(self.files[slot], data)

    def ftruncate(self, slot: int, length: int) -> None:
        os.ftruncate(self.files[slot], length)

    def fsync(self, slot: int) -> None:
        os.fsync(self.files[slot])

    def fstat(self, slot: int) -> object:
        return _facts(os.fstat(self.files[slot]))

    def opendir(self, slot: int, path: str) -> None:
        self.folders[slot] = os.open(self.at(path), os.O_RDONLY | os.O_DIRECTORY)

    def names(self, slot: int) -> list[str]:
        return sorted(os.listdir(self.folders[slot]))

    def mkdirat(self, slot: int, name: str) -> None:
        os.mkdir(name, dir_fd=self.folders[slot])

    def closedir(self, slot: int) -> None:
        os.close(self.folders.pop(slot))

    def lstat(self, path: str) -> object:
        return _facts(os.lstat(self.at(path)))

    def truncate(self, path: str, length: int) -> None:
        os.truncate(self.at(path), length)

    def utime(self, path: str, time_ns: int) -> None:
        os.utime(self.at(path), ns=(time_ns, time_ns))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.at(path), mode)

    def mkdir(self, path: str) -> None:
        os.mkdir(self.at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def rename(self, path: str, other: str) -> None:
        os.rename(self.at(path), self.at(other))

    def symlink(self, path: str, other: str) -> None:
        os.symlink(path, self.at(other))

    def everything(self) -> dict[str, object]:
        seen: dict[str, object] = {}
        for path in sorted(self.root.rglob("*")):
            is_plain = stat.S_ISREG(path.lstat().st_mode)
            content = path.read_bytes() if is_plain else None
            seen[str(path.relative_to(self.root))] = (_facts(path.lstat()), content)
        return seen

    def close_all(self) -> None:
        for descriptor in (*self.files.values(), *self.folders.values()):
            os.close(descriptor)


def _facts(found: os.stat_result) -> object:
    time_ns = found.st_mtime_ns if found.st_mtime_ns < LATELY_NS else None
    sizes = None if stat.S_ISDIR(found.st_mode) else (found.st_size, found.st_nlink)
    return oct(found.st_mode), time_ns, sizes


def calls(dice: random.Random, side: Side) -> Iterator[Call]:
    """Calls without end, chosen by dice and by what is open."""

    def path() -> str:
        parts = [dice.choice("abcd") for _ in range(dice.choice((1, 1, 2, 3)))]
        return "/".join(parts) + dice.choice(("", *[""] * 20, "/", "/.", "/.."))

    def data() -> bytes:
        mark = b"<%d>" % dice.randrange(10_000)
        return mark * (dice.choice(LENGTHS) // len(mark) + 1)

    of_files: list[Callable[[int], Call]] = [
        *[lambda slot: ("pread", (slot, dice.choice(LENGTHS), dice.choice(OFFSETS)))] * 4,
        *[lambda slot: ("pwrite", (slot, data(), dice.choice(OFFSETS)))] * 4,
        *[lambda slot: ("ftruncate", (slot, dice.choice(LENGTHS)))] * 2,
        *[lambda slot: ("close", (slot,))] * 2,
        lambda slot: ("write", (slot, data())),
        lambda slot: ("fsync", (slot,)),
        lambda slot: ("fstat", (slot,)),
    ]
    of_folders: list[Callable[[int], Call]] = [
        *[lambda slot: ("names", (slot,))] * 2,
        lambda slot: ("mkdirat", (slot, dice.choice("abcd"))),
        lambda slot: ("closedir", (slot,)),
    ]
    of_paths: list[Callable[[], Call]] = [
        *[lambda: ("unlink", (path(),))] * 2,
        *[lambda: ("rename", (path(), path()))] * 3,
        *[lambda: ("mkdir", (path(),))] * 2,
        *[lambda: ("truncate", (path(), dice.choice(LENGTHS)))] * 2,
        *[lambda: ("lstat", (path(),))] * 2,
        lambda: ("rmdir", (path(),)),
        lambda: ("utime", (path(), dice.choice(OLD_NS))),
        lambda: ("chmod", (path(), dice.choice((0o700, 0o755, 0o1777)))),
        lambda: ("symlink", (dice.choice(("a", "b/c", "../a", "d/")), path())),
    ]
    slot = 0
    while True:
        slot += 1
        kind = dice.random()
        if kind < 0.15 and len(side.files) < MAX_OPEN:
            flags = dice.choice(ACCESS) + sum(
                flag for flag, chance in FLAGS.items() if dice.random() < chance
            )
            yield "open", (slot, path(), flags, dice.choice((0o644, 0o600, 0o444)))
        elif kind < 0.6 and side.files:
            yield dice.choice(of_files)(dice.choice(list(side.files)))
        elif kind < 0.65 and len(side.folders) < MAX_OPEN:
            yield "opendir", (slot, path())
        elif kind < 0.7 and side.folders:
            yield dice.choice(of_folders)(dice.choice(list(side.folders)))
        else:
            yield dice.choice(of_paths)()


@pytest.mark.parametrize("ttl", ["0s", "60s"])
def test_answers_as_a_local_disk_does(tmp_path: Path, ttl: str) -> None:
    (tmp_path / "objects").mkdir()
    with mounted(f"file://{tmp_path}/objects", metadata_ttl=ttl, upload_delay="0s") as mount:
        for seed in SEEDS:
            plain, ours = Side(tmp_path / f"plain-{seed}"), Side(mount.path / f"ours-{seed}")
            plain.root.mkdir()
            ours.root.mkdir()
            dice = random.Random(seed)
            source = calls(dice, plain)
            try:
                for number in range(STEPS):
                    if dice.random() < 0.01:
                        mount.drain()
                    call = next(source)
                    wanted, seen = plain.answer(call), ours.answer(call)
                    told = f"seed {seed}, step {number}: {call}: {seen!r}, should be {wanted!r}"
                    assert seen == wanted, told[:500]
                assert ours.everything() == plain.everything()
            finally:
                plain.close_all()
                ours.close_all()
            shutil.rmtree(plain.root)
