"""A writer that remembers outside the mount what it was told is done, and what it was not told.

Its tree is a dict from path to entry. Before each system call the state that the call leads to is noted as
possible; once a call returned that promises survival (close and everything that changes names or attributes),
that state is the acknowledged one. After a crash the tree must be one of the two. Of what was written to a
file that was not closed, any part may be there; everything else of the file must be as it was.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

SIZES = (0, 1, 100, 4096, 5000, 70_000, 200_000)
LARGE_BYTES = 3_000_000
MODES = (0o644, 0o600, 0o755, 0o444)
PAGE_BYTES = 4096
OLD_S = 1_000_000  # times that a writer sets are before this, times of writing after
LABEL = "user.label"
NAMES = 9  # few names, so that they are used again and again


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a directory or a symlink: type, permission bits, bytes (of a symlink: its target).

    Of a file also the time that was set since it was last written (0: none), and the value of its xattr.
    """

    kind: str
    mode: int = 0
    data: bytes = b""
    time_s: int = 0
    label: bytes = b""

    def __repr__(self) -> str:
        told = f"{self.kind}:{self.mode:o}:{len(self.data)}:{hash(self.data) & 0xFFFF:04x}"
        return f"{told}:{self.time_s}:{self.label.decode()}"


Tree = dict[str, Entry]


def observe(folder: Path) -> Tree:
    """The tree below a folder, as programs see it."""
    found: Tree = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        name, mode = str(path.relative_to(folder)), stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            found[name] = Entry("link", 0, os.fsencode(os.readlink(path)))
        elif stat.S_ISDIR(status.st_mode):
            found[name] = Entry("directory", mode)
        else:
            data = path.read_bytes()
            assert len(data) == status.st_size, name
            time_s = int(status.st_mtime) if status.st_mtime < OLD_S else 0
            found[name] = Entry("file", mode, data, time_s, _label(path))
    return found


def _label(path: Path) -> bytes:
    try:
        return os.getxattr(path, LABEL)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return b""
        raise


def difference(found: Tree, wanted: Tree) -> str:
    """What is wrong, in words."""
    lines = [f"lost {name!r}: {wanted[name]}" for name in wanted.keys() - found.keys()]
    lines += [f"resurrected {name!r}: {found[name]}" for name in found.keys() - wanted.keys()]
    lines += [
        f"wrong {name!r}: {found[name]}, not {wanted[name]}"
        for name in found.keys() & wanted.keys()
        if found[name] != wanted[name]
    ]
    return "; ".join(sorted(lines))


@dataclass(slots=True)
class Writer:
    """Makes random changes below one folder of a mount."""

    folder: Path
    chance: random.Random
    xattrs: bool = False
    acknowledged: Tree = field(default_factory=dict)
    possible: Tree | None = None
    writing: str = ""
    written: list[tuple[int, bytes]] = field(default_factory=list)
    history: list[str] = field(default_factory=list)

    # -- what is known ------------------------------------------------------------------------------

    def check(self) -> None:
        """The tree is what was acknowledged, or what was under way; the writer goes on from there."""
        found = observe(self.folder)
        if found not in (self.acknowledged, self.possible) and not self._may_be_written(found):
            told = difference(found, self.acknowledged)
            raise AssertionError(f"{self.folder.name}: {told}\nlast changes: {self.history[-25:]}")
        self._settle(found)

    def _may_be_written(self, found: Tree) -> bool:
        """Whether the tree is the acknowledged one but for some of the writes to an open file."""
        before, now = self.acknowledged.get(self.writing), found.get(self.writing)
        if before is None or now is None or (before.mode, before.label) != (now.mode, now.label):
            return False
        others = {name: entry for name, entry in found.items() if name != self.writing}
        if others != {name: entry for name, entry in self.acknowledged.items() if name != self.writing}:
            return False
        return _is_partly_written(now.data, before.data, self.written)

    def step(self) -> None:
        """One random change. Raises OSError when the mount is gone."""
        changes: list[Callable[[], None]] = [
            self._create,
            self._create,
            self._overwrite,
            self._patch,
            self._append,
            self._replace,
            self._rename,
            self._rename_over,
            self._unlink,
            self._mkdir,
            self._rename_directory,
            self._rename_directory_over,
            self._remove_tree,
            self._symlink,
            self._chmod,
            self._truncate,
            self._set_time,
            *([self._set_label] if self.xattrs else []),
        ]
        self.chance.choice(changes)()

    # -- changes ------------------------------------------------------------------------------------

    def _create(self) -> None:
        name = self._vacant()
        if name is not None:
            self._write(name, os.O_CREAT | os.O_EXCL, [(0, self._bytes())], mode=self.chance.choice(MODES))

    def _overwrite(self) -> None:
        name = self._any("file")
        if name is not None:
            self._write(name, os.O_TRUNC, [(0, self._bytes())])

    def _patch(self) -> None:
        name = self._any("file")
        if name is not None:
            limit = len(self.acknowledged[name].data) + 5000
            pieces = [(self.chance.randrange(limit), self._bytes(small=True)) for _ in range(3)]
            self._write(name, 0, pieces)

    def _append(self) -> None:
        name = self._any("file")
        if name is not None:
            self._write(name, os.O_APPEND, [(len(self.acknowledged[name].data), self._bytes(small=True))])

    def _replace(self) -> None:
        """As git, editors and rsync do it."""
        target = self._any("file") or self._vacant()
        if target is None:
            return
        temporary = f"{target}.tmp"
        if len(temporary.split("/")[-1]) < 200 and temporary not in self.acknowledged:
            self._write(temporary, os.O_CREAT | os.O_EXCL, [(0, self._bytes())], mode=0o644)
            self._move(temporary, target)

    def _rename(self) -> None:
        name, place = self._any("file"), self._vacant()
        if name is not None and place is not None:
            self._move(name, place)

    def _rename_over(self) -> None:
        name, target = self._any("file"), self._any("file")
        if name is not None and target is not None and name != target:
            self._move(name, target)

    def _rename_directory(self) -> None:
        name, place = self._any("directory"), self._vacant()
        if name is not None and place is not None and not f"{place}/".startswith(f"{name}/"):
            self._move(name, place)

    def _rename_directory_over(self) -> None:
        name, target = self._any("directory"), self._any("directory")
        if name is None or target is None or f"{target}/".startswith(f"{name}/"):
            return
        if not any(path.startswith(f"{target}/") for path in self.acknowledged):
            self._move(name, target)

    def _unlink(self) -> None:
        name = self._any("file", "link")
        if name is not None:
            self._remove(name)

    def _remove_tree(self) -> None:
        name = self._any("directory")
        if name is not None and self.chance.random() < 0.5:
            for below in sorted(self.acknowledged, reverse=True):
                if below.startswith(f"{name}/"):
                    self._remove(below)
            self._remove(name)

    def _mkdir(self) -> None:
        name = self._vacant()
        if name is not None:
            mode = self.chance.choice((0o755, 0o700))
            after = {**self.acknowledged, name: Entry("directory", mode)}
            self._acknowledge(f"mkdir {name}", after, lambda: os.mkdir(self.folder / name, mode))

    def _symlink(self) -> None:
        name = self._vacant()
        if name is not None:
            target = self.chance.choice(("nowhere", "../x/y", "a" * 300))
            after = {**self.acknowledged, name: Entry("link", 0, target.encode())}
            self._acknowledge(f"symlink {name}", after, lambda: os.symlink(target, self.folder / name))

    def _chmod(self) -> None:
        name = self._any("file", "directory")
        if name is not None:
            before = self.acknowledged[name]
            mode = self.chance.choice((0o755, 0o700, 0o750) if before.kind == "directory" else MODES)
            after = {**self.acknowledged, name: replace(before, mode=mode)}
            self._acknowledge(f"chmod {name}", after, lambda: os.chmod(self.folder / name, mode))

    def _truncate(self) -> None:
        name = self._any("file")
        if name is not None:
            before = self.acknowledged[name]
            length = self.chance.randrange(len(before.data) + 3000)
            data = before.data[:length].ljust(length, b"\0")
            after = {**self.acknowledged, name: replace(before, data=data, time_s=0)}
            what = f"truncate {name} {length}"
            self._acknowledge(what, after, lambda: os.truncate(self.folder / name, length))

    def _set_time(self) -> None:
        name = self._any("file")
        if name is not None:
            time_s = self.chance.randrange(1, OLD_S)
            after = {**self.acknowledged, name: replace(self.acknowledged[name], time_s=time_s)}
            what = f"utime {name} {time_s}"
            self._acknowledge(what, after, lambda: os.utime(self.folder / name, (time_s, time_s)))

    def _set_label(self) -> None:
        name = self._any("file")
        if name is not None:
            label = self.chance.choice((b"a", b"b" * 100))
            after = {**self.acknowledged, name: replace(self.acknowledged[name], label=label)}
            self._acknowledge(f"label {name}", after, lambda: os.setxattr(self.folder / name, LABEL, label))

    # -- parts --------------------------------------------------------------------------------------

    def _write(self, name: str, flags: int, pieces: list[tuple[int, bytes]], *, mode: int = 0) -> None:
        state = self.acknowledged
        if flags & (os.O_CREAT | os.O_TRUNC):
            new = Entry("file", mode) if flags & os.O_CREAT else replace(state[name], data=b"", time_s=0)
            state = {**state, name: new}
        self.possible = state
        self.history.append(f"open {name} {flags:#x}")
        descriptor = os.open(self.folder / name, os.O_WRONLY | flags, mode)
        try:
            self._settle(state)
            self.writing = name
            for offset, data in pieces:
                state = {**state, name: _patched(state[name], offset, data)}
                self.written.append((offset, data))
                self.history.append(f"write {name} {offset}+{len(data)}")
                assert os.pwrite(descriptor, data, offset) == len(data)
            self.possible = state
        finally:
            os.close(descriptor)
        self._settle(state)

    def _move(self, name: str, place: str) -> None:
        after: Tree = {}
        for path, entry in self.acknowledged.items():
            if path == name or path.startswith(f"{name}/"):
                after[place + path[len(name) :]] = entry
            elif path != place:
                after[path] = entry
        what = f"rename {name} {place}"
        self._acknowledge(what, after, lambda: os.rename(self.folder / name, self.folder / place))

    def _remove(self, name: str) -> None:
        after = {path: entry for path, entry in self.acknowledged.items() if path != name}
        remove = os.rmdir if self.acknowledged[name].kind == "directory" else os.unlink
        self._acknowledge(f"remove {name}", after, lambda: remove(self.folder / name))

    def _acknowledge(self, what: str, after: Tree, call: Callable[[], None]) -> None:
        self.possible = after
        self.history.append(what)
        call()
        self._settle(after)

    def _settle(self, state: Tree) -> None:
        self.acknowledged, self.possible = state, None
        self.writing, self.written = "", []

    def _any(self, *kinds: str) -> str | None:
        names = [name for name, entry in self.acknowledged.items() if entry.kind in kinds]
        return self.chance.choice(names) if names else None

    def _vacant(self) -> str | None:
        folders = ["", *(name for name, entry in self.acknowledged.items() if entry.kind == "directory")]
        folder = self.chance.choice(folders)
        if folder.count("/") > 3:
            folder = ""
        name = f"{folder}/n{self.chance.randrange(NAMES)}".lstrip("/")
        return None if name in self.acknowledged else name

    def _bytes(self, *, small: bool = False) -> bytes:
        if not small and self.chance.random() < 0.03:
            return self.chance.randbytes(LARGE_BYTES)
        return self.chance.randbytes(self.chance.choice(SIZES[:5] if small else SIZES))


def _patched(before: Entry, offset: int, data: bytes) -> Entry:
    """A file after pwrite(2); writing nothing beyond its end does not lengthen it."""
    if not data:
        return before
    content = before.data[:offset].ljust(offset, b"\0") + data + before.data[offset + len(data) :]
    return replace(before, data=content, time_s=0)


def _is_partly_written(now: bytes, before: bytes, pieces: list[tuple[int, bytes]]) -> bool:
    """Whether each byte is as before or as one of the pieces has it."""
    longest = max([len(before), *(offset + len(data) for offset, data in pieces)])
    if not len(before) <= len(now) <= longest:
        return False
    cuts = {0, len(now), *range(0, len(now), PAGE_BYTES)}
    cuts |= {cut for offset, data in pieces for cut in (offset, offset + len(data)) if cut < len(now)}
    ends = sorted(cuts)
    for start, stop in itertools.pairwise(ends):
        allowed = [before[start:stop].ljust(stop - start, b"\0")]
        allowed += [
            data[start - at : stop - at] for at, data in pieces if at <= start and stop <= at + len(data)
        ]
        if now[start:stop] not in allowed:  # cut elsewhere, where an earlier change began or ended
            for at, byte in enumerate(now[start:stop]):
                if all(data[at] != byte for data in allowed):
                    return False
    return True
