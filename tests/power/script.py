"""What programs do while the disk is watched: chosen scenes, and random ones."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from tests.sim.model import Op

if TYPE_CHECKING:
    from collections.abc import Iterator

KILL = Op("kill")
SYNC_NAMES = Op("fsyncdir")

NEW = os.O_RDWR | os.O_CREAT
AGAIN = os.O_RDWR | os.O_TRUNC


class Contents:
    """Bytes that are never zero and never the same twice."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(f"contents {seed}")

    def __call__(self, length: int) -> bytes:
        return self._dice.randbytes(length).translate(_NO_ZEROS)


_NO_ZEROS = bytes([255]) + bytes(range(1, 256))


def sleep(seconds: float) -> Op:
    """Time for uploads, and for the sync every 5 s."""
    return Op("sleep", number=int(seconds * 1000))


def scenes() -> list[Op]:
    """Each promise of the durability ladder at least once."""
    some = Contents(0)
    ops = [
        # Made and synced; then appended to, overwritten, cut, each without a sync.
        *_write("a", some(3000), sync=True),
        *_write("b", some(70_000), sync=True, at_a_time=9000),
        Op("open", "a", flags=os.O_RDWR),
        Op("write", offset=3000, data=some(2500)),
        Op("flush"),
        Op("write", offset=700, data=some(600)),
        Op("close"),
        Op("truncate", "b", length=10_000),
        Op("mkdir", "d"),
        *_write("d/x", some(2000), sync=False),
        SYNC_NAMES,
        *_write("d/x", some(5000), sync=True, flags=AGAIN),
        # Replaced by a rename, as editors do: with and without a sync.
        *_write("d/.x.new", some(4000), sync=True),
        Op("rename", "d/.x.new", "d/x"),
        *_write("d/.x.new", some(1500), sync=False),
        Op("rename", "d/.x.new", "d/x"),
        sleep(1),
        Op("unlink", "b"),
        SYNC_NAMES,
        *_write("gone", some(900), sync=True),
        Op("unlink", "gone"),
        # Uploads, with what follows them.
        sleep(4),
        *_write("old", some(700), sync=True),
        Op("open", "big", flags=os.O_RDWR),
        Op("write", offset=20_000, data=some(3000)),
        Op("fsync"),
        Op("write", offset=40_000, data=some(3000)),
        Op("close"),
        sleep(3),
        Op("rename", "big", "bigger"),
        *_write("a", some(1200), sync=True, flags=AGAIN),
        sleep(2.5),
        *_write("a", some(1300), sync=False, flags=AGAIN),
        Op("open", "bigger", flags=os.O_RDWR),
        Op("write", offset=60_000, data=some(30_000)),
        Op("fsync"),
        Op("close"),
        sleep(2.05),  # its upload is under way
        Op("open", "bigger", flags=os.O_RDWR),
        Op("write", offset=0, data=some(2000)),
        Op("fsync"),
        Op("write", offset=5000, data=some(2000)),
        Op("close"),
        sleep(8),
        Op("unlink", "a"),
        *_write("a", some(800), sync=False),
        Op("rename", "d", "e"),
        SYNC_NAMES,
        *_write("e/y", some(600), sync=True),
        sleep(6),
        KILL,
        *_write("e/z", some(2600), sync=True),
        Op("open", "e/z", flags=os.O_RDWR),
        Op("write", offset=2600, data=some(100)),
        Op("fsync"),
        Op("truncate", "e/z", length=500),
        Op("symlink", "link", data=b"e/z"),
        Op("close"),
        Op("unlink", "e/y"),
        sleep(3),
        *_write("e/y", some(640), sync=False),
        sleep(3),
        Op("unlink", "e/y"),
        *_write("e/w", some(1640), sync=False),
        Op("rename", "e/w", "w"),
        SYNC_NAMES,
        KILL,
        *_write("last", some(1640), sync=True),
        sleep(0.5),
        Op("unlink", "w"),
        Op("unlink", "last"),
        # Changed without a sync, and renamed with one: before, and while, the change is sent.
        Op("open", "bigger", flags=os.O_RDWR),
        Op("write", offset=100, data=some(600)),
        Op("close"),
        Op("rename", "bigger", "biggest"),
        SYNC_NAMES,
        *_write("e/late", some(1200), sync=False),
        sleep(2.5),
        Op("rename", "e/late", "late"),
        SYNC_NAMES,
        sleep(2.5),
    ]
    return ops


class _Random:
    """A random program; every file is closed before the process is killed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(f"power {seed}")
        self.some = Contents(seed)
        self.files = ["old", "big"]
        self.fresh = 0

    def next_ops(self) -> list[Op]:
        kinds = [self.made, self.changed, self.replaced, self.cut, self.removed, self.moved, self.slept]
        kind = self.dice.choices(kinds, weights=(30, 25, 8, 5, 8, 10, 10))[0]
        if len(self.files) < 2:
            kind = self.made
        if self.dice.random() < 0.02:
            return [KILL]
        return [SYNC_NAMES] if self.dice.random() < 0.04 else kind()

    def made(self) -> list[Op]:
        self.fresh += 1
        path = f"f{self.fresh}"
        self.files.append(path)
        length = self.dice.choice((500, 3000, 3000, 20_000, 60_000))
        at_a_time = self.dice.choice((1000, 30_000))
        return [*_write(path, self.some(length), sync=self.dice.random() < 0.5, at_a_time=at_a_time)]

    def changed(self) -> list[Op]:
        ops = [Op("open", self.dice.choice(self.files), flags=os.O_RDWR)]
        for _ in range(self.dice.randint(1, 3)):
            data = self.some(self.dice.randint(1, 3000))
            ops.append(Op("write", offset=self.dice.randrange(0, 30_000), data=data))
            ops += [Op(self.dice.choice(("fsync", "flush", "fsync")))] if self.dice.random() < 0.6 else []
        return [*ops, Op("close")]

    def replaced(self) -> list[Op]:
        data = self.some(self.dice.randint(1, 9000))
        path = self.dice.choice(self.files)
        return [*_write(path, data, sync=self.dice.random() < 0.5, flags=AGAIN)]

    def cut(self) -> list[Op]:
        length = self.dice.choice((0, 100, 1000, 40_000))
        return [Op("truncate", self.dice.choice(self.files), length=length)]

    def removed(self) -> list[Op]:
        return [Op("unlink", self.files.pop(self.dice.randrange(len(self.files))))]

    def moved(self) -> list[Op]:
        source = self.files.pop(self.dice.randrange(len(self.files)))
        self.fresh += 1
        target = self.dice.choice([*self.files, f"r{self.fresh}"])
        self.files = sorted({*self.files, target})
        return [Op("rename", source, target)]

    def slept(self) -> list[Op]:
        return [sleep(self.dice.choice((0.1, 0.5, 2.05, 2.1, 3, 6)))]


def random_ops(seed: int, count: int) -> list[Op]:
    """A random program."""
    program = _Random(seed)
    ops: list[Op] = []
    while len(ops) < count:
        ops += program.next_ops()
    return ops


def _write(path: str, data: bytes, *, sync: bool, at_a_time: int = 100_000, flags: int = NEW) -> Iterator[Op]:
    yield Op("create" if flags == NEW else "open", path, flags=flags)
    for start in range(0, len(data), at_a_time):
        yield Op("write", offset=start, data=data[start : start + at_a_time])
    if sync:
        yield Op("fsync")
    yield Op("close")
