"""Programs that do what programs do, at random: editors, archivers, databases, careless scripts."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from objfs.store.values import KIB
from tests.sim.model import File, Folder, Model, Op

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping, Sequence

NAMES = ("a", "b", "c", "d", "e", "f.txt")
SIZES = (0, 1, 10, 300, 5 * KIB, 9 * KIB, 30 * KIB, 60 * KIB, 130 * KIB)
MODES = (0o600, 0o640, 0o644, 0o755)
MAX_OPEN = 4
EVERYTHING = {
    "save": 6,
    "replace": 4,
    "shuffle": 2,
    "patch": 3,
    "keep_open": 2,
    "use_open": 6,
    "close_one": 3,
    "rename": 6,
    "unlink": 4,
    "remake": 2,
    "mkdir": 4,
    "rmdir": 2,
    "clear": 1,
    "symlink": 1,
    "attributes": 3,
    "truncate": 2,
    "look": 6,
    "rest": 4,
}
MOVES = {
    "save": 4,
    "rename": 4,
    "rename_folder": 8,
    "swap": 3,
    "unlink": 2,
    "remake": 5,
    "mkdir": 8,
    "rmdir": 3,
    "clear": 3,
    "symlink": 4,
    "attributes": 3,
    "look": 3,
    "rest": 2,
}

LABELS = {"label": 6, "attributes": 6}
MOVES_OF_OPEN_FILES = MOVES | {"turn": 2, "keep_open": 2, "use_open": 4, "close_one": 2}


@dataclass
class Program:
    """An endless sequence of operations below one folder, chosen by dice and by what is there.

    Attributes:
        habits: names of methods, with their weights.
        names: of what it makes.
    """

    dice: random.Random
    model: Model
    prefix: str = ""
    habits: Mapping[str, int] = field(default_factory=lambda: EVERYTHING)
    names: Sequence[str] = NAMES
    max_depth: int = 3
    _serial: Iterator[int] = field(default_factory=itertools.count)
    _slots: Iterator[int] = field(default_factory=itertools.count)

    def operations(self) -> Iterator[Op]:
        """Operations; each is chosen after the one before was applied to the model."""
        kinds, weights = zip(*self.habits.items(), strict=True)
        while True:
            yield from getattr(self, f"_{self.dice.choices(kinds, weights)[0]}")()

    def close_all(self) -> Iterator[Op]:
        """Close what is open."""
        for slot in list(self.model.handles):
            yield Op("close", slot=slot)

    # -- habits -------------------------------------------------------------------------------------

    def _save(self) -> Iterator[Op]:
        yield from self._write_file(self._path(), self._size())

    def _replace(self) -> Iterator[Op]:
        """As editors, rsync and git do: write a temporary, rename it over the target."""
        target = self._path()
        temporary = f"{target}.tmp"
        yield from self._write_file(temporary, self._size())
        if self.dice.random() < 0.3:
            yield Op("chmod", temporary, number=self.dice.choice(MODES))
        if self.dice.random() < 0.2:
            yield self._sleep(4000)
        yield Op("rename", temporary, target)

    def _shuffle(self) -> Iterator[Op]:
        """`mv a t; mv b a; mv t b`."""
        one, two, third = self._path(), self._path(), self._path()
        yield Op("rename", one, third)
        yield Op("rename", two, one)
        yield Op("rename", third, two)

    def _patch(self) -> Iterator[Op]:
        path = self._some_file()
        slot = next(self._slots)
        yield Op("open", path, slot=slot, flags=os.O_RDWR)
        yield from self._write_some(slot)
        if slot in self.model.handles:
            yield Op("close", slot=slot)

    def _keep_open(self) -> Iterator[Op]:
        if len(self.model.handles) < MAX_OPEN:
            slot = next(self._slots)
            if self.dice.random() < 0.5:
                yield Op("create", self._path(), slot=slot, flags=self.dice.choice((0, os.O_EXCL)))
            else:
                flags = self.dice.choice((os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC))
                yield Op("open", self._some_file(), slot=slot, flags=flags)

    def _use_open(self) -> Iterator[Op]:
        slot = self._some_slot()
        if slot is None:
            return
        size = len(self.model.handles[slot][0].content)
        yield Op("read", slot=slot, offset=self.dice.randrange(size + 2), length=self.dice.choice((10, 9999)))
        if self.dice.random() < 0.6:
            yield from self._write_some(slot)
        if self.model.handles[slot][1] and self.dice.random() < 0.3:
            length = self.dice.choice((0, size, self.dice.randrange(size + 1), size + 5 * KIB))
            yield Op("ftruncate", slot=slot, length=min(length, 200 * KIB))
        yield Op("fstat", slot=slot)
        if slot in self.model.handles and self.dice.random() < 0.3:
            yield Op(self.dice.choice(("flush", "fsync")), slot=slot)

    def _close_one(self) -> Iterator[Op]:
        slot = self._some_slot()
        if slot is not None:
            yield Op("close", slot=slot)

    def _rename(self) -> Iterator[Op]:
        flags = 1 if self.dice.random() < 0.1 else 0
        source = self.dice.choice((self._some_path(), self._some_folder() or self._path(), self._path()))
        if source != self.prefix.rstrip("/"):
            yield Op("rename", source, self._path(), flags=flags)

    def _rename_folder(self) -> Iterator[Op]:
        yield Op(
            "rename", self._some_folder() or self._path(), self.dice.choice((self._path(), self._some_path()))
        )

    def _swap(self) -> Iterator[Op]:
        """A directory takes the place of another, and gets what that one has."""
        path, other = self._some_folder(), self._some_folder()
        if path and other:
            yield Op("rename", path, self._path())
            yield Op("rename", other, path)
            yield Op("mkdir", f"{path}/{self.dice.choice(self.names)}", number=0o755)

    def _turn(self) -> Iterator[Op]:
        """Three directories change places in a ring."""
        folders = [self._some_folder() for _ in range(3)]
        if all(folders):
            aside = self._path()
            yield Op("rename", folders[0], aside)
            yield Op("rename", folders[2], folders[0])
            yield Op("rename", folders[1], folders[2])
            yield Op("rename", aside, folders[1])

    def _unlink(self) -> Iterator[Op]:
        yield Op("unlink", self.dice.choice((self._some_file(), self._path())))

    def _remake(self) -> Iterator[Op]:
        """A directory renamed, or emptied and removed, and made anew."""
        path = self._some_folder()
        if not path:
            return
        if self.dice.random() < 0.5:
            yield Op("rename", path, self._path())
        else:
            yield from self._remove_tree(path)
        yield Op("mkdir", path, number=0o755)
        yield from self._write_file(f"{path}/{self.dice.choice(self.names)}", self._size())

    def _mkdir(self) -> Iterator[Op]:
        yield Op("mkdir", self._path(), number=self.dice.choice((0o700, 0o755)))

    def _rmdir(self) -> Iterator[Op]:
        yield Op("rmdir", self._some_folder() or self._path())

    def _clear(self) -> Iterator[Op]:
        path = self._some_folder()
        if path:
            yield from self._remove_tree(path)

    def _symlink(self) -> Iterator[Op]:
        path = self._path()
        yield Op("symlink", path, data=self._data(self.dice.choice((1, 20))))
        yield Op("readlink", path)

    def _attributes(self) -> Iterator[Op]:
        if self.dice.random() < 0.5:
            yield Op("chmod", self._some_path(), number=self.dice.choice(MODES))
        else:
            yield Op("utime", self._some_file(), number=self.dice.randrange(10**18, 2 * 10**18))

    def _label(self) -> Iterator[Op]:
        yield Op("label", self._some_path(), data=self.dice.choice((b"", self._data(8))))

    def _truncate(self) -> Iterator[Op]:
        path = self._some_file()
        if not self._is_link(path):
            yield Op("truncate", path, length=self.dice.choice(SIZES))

    def _look(self) -> Iterator[Op]:
        name = self.dice.choice(("stat", "stat", "list"))
        path = self.dice.choice((self._path(), self._some_path()))
        yield Op(name, path)

    def _rest(self) -> Iterator[Op]:
        yield self._sleep(self.dice.choice((10, 1000, 3000, 9000)))

    # -- parts --------------------------------------------------------------------------------------

    def _write_file(self, path: str, size: int) -> Iterator[Op]:
        slot = next(self._slots)
        if isinstance(self.model.entries().get(path), File):
            yield Op("open", path, slot=slot, flags=os.O_WRONLY | os.O_TRUNC)
        else:
            yield Op("create", path, slot=slot)
        if slot not in self.model.handles:
            return
        data = self._data(size)
        step = self.dice.choice((4 * KIB, 20 * KIB, size or 1))
        for at in range(0, size, step):
            yield Op("write", slot=slot, offset=at, data=data[at : at + step])
        yield Op("close", slot=slot)

    def _write_some(self, slot: int) -> Iterator[Op]:
        for _ in range(self.dice.choice((1, 1, 3))):
            if slot in self.model.handles and self.model.handles[slot][1]:
                size = len(self.model.handles[slot][0].content)
                offset = self.dice.choice((0, size, self.dice.randrange(size + 1), size + 5 * KIB))
                data = self._data(self.dice.choice((1, 10, 300, 5 * KIB, 9 * KIB)))
                yield Op("write", slot=slot, offset=min(offset, 200 * KIB), data=data)

    def _remove_tree(self, path: str) -> Iterator[Op]:
        for below in reversed(self.model.paths()):
            if below.startswith(f"{path}/"):
                found = self.model.entries()[below]
                yield Op("rmdir" if isinstance(found, Folder) else "unlink", below)
        yield Op("rmdir", path)

    def _sleep(self, milliseconds: int) -> Op:
        return Op("sleep", number=milliseconds)

    def _data(self, size: int) -> bytes:
        mark = f"{self.prefix}{next(self._serial)}:".encode()
        return (mark * (size // len(mark) + 1))[:size]

    def _size(self) -> int:
        return self.dice.choice(SIZES)

    def _is_link(self, path: str) -> bool:
        found = self.model.entries().get(path)
        return isinstance(found, File) and found.link

    def _path(self) -> str:
        folder = self._some_folder()
        if folder.count("/") >= self.max_depth - 1:
            folder = ""
        return f"{folder or self.prefix.rstrip('/')}/{self.dice.choice(self.names)}".lstrip("/")

    def _some_path(self) -> str:
        return self._one_of(self._below()) or self._path()

    def _some_file(self) -> str:
        entries = self.model.entries()
        return (
            self._one_of([path for path in self._below() if isinstance(entries[path], File)]) or self._path()
        )

    def _some_folder(self) -> str:
        """A folder below the prefix, or "" (more likely where there are few)."""
        entries = self.model.entries()
        return self._one_of([path for path in self._below() if isinstance(entries[path], Folder)] + [""])

    def _some_slot(self) -> int | None:
        return self.dice.choice(list(self.model.handles)) if self.model.handles else None

    def _below(self) -> list[str]:
        return [path for path in self.model.paths() if path.startswith(self.prefix)]

    def _one_of(self, paths: list[str]) -> str:
        return self.dice.choice(paths) if paths else ""
