"""A disk that may lose power: what was synced is there, of everything else any part may be.

Two kinds of file system are modelled. An *ordered* one (ext4, data=ordered) commits names and lengths in the
order in which they came, and never shows a length without its data. A *hostile* one keeps or loses each
write, each cut and each change of a name by itself, keeps writes in part, and may show zeros where a file
was made longer and its data did not come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.power.trace import Step, TraceError

if TYPE_CHECKING:
    import random
    from pathlib import Path

SECTOR = 512
TOP = 0


class Fate(StrEnum):
    """What happens to that which was not synced."""

    LOST = "lost"  # nothing of it is there
    KEPT = "kept"  # all of it is there, as after the death of the process
    NAMES = "names"  # names and lengths are there, the data are zeros
    DATA = "data"  # data are there, names are not
    JOURNAL_LATE = "journal-late"  # everything is there but for the journal
    JOURNAL_EARLY = "journal-early"  # the journal is there, nothing else
    ORDERED = "ordered"  # an ordered file system, stopped somewhere
    HOSTILE = "hostile"  # each piece by chance


CHANCES = (Fate.ORDERED, Fate.HOSTILE)


@dataclass(frozen=True, slots=True)
class _Write:
    at: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Cut:
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class _Names:
    """One atomic change of a directory: names that come (inode) and go (None)."""

    at: int
    entries: tuple[tuple[str, int | None], ...]


@dataclass
class _File:
    data: bytes = b""
    pending: list[_Write | _Cut] = field(default_factory=list)


@dataclass
class _Folder:
    names: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    pending: list[_Names] = field(default_factory=list)


class Disk:
    """The folder that was recorded: its state on the disk, and what is still only in memory."""

    def __init__(self) -> None:
        self._nodes: dict[int, _File | _Folder] = {TOP: _Folder()}
        self._open: dict[int, int] = {}
        self._at = 0
        self._lives = 0

    def apply(self, step: Step) -> None:
        """One more call of the trace."""
        self._at += 1
        if step.call in ("create", "open"):
            self._opened(step)
        elif step.call in ("write", "cut"):
            self._changed(step)
        elif step.call == "sync":
            self._sync(self._nodes[self._open[step.file]])
        elif step.call == "sync-all":
            for node in self._nodes.values():
                self._sync(node)
        elif step.call in ("mkdir", "unlink", "rmdir", "rename"):
            self._renamed(step)
        elif step.call != "mark":
            raise TraceError(f"unknown step {step}")

    def new_life(self) -> None:
        """Another process: the numbers of its open files begin anew."""
        self._open.clear()

    def waiting(self) -> int:
        """How many changes are not on the disk yet."""
        return sum(len(node.pending) for node in self._nodes.values())

    def after_power_loss(self, fate: Fate, dice: random.Random) -> dict[str, bytes | None]:
        """One state that the disk may be in: bytes of each file by path, None for folders."""
        stop = self._at + 1
        if fate is Fate.ORDERED:
            stamps = sorted(
                one.at for node in self._nodes.values() for one in node.pending if not isinstance(one, _Write)
            )
            stop = dice.choice([*stamps, self._at + 1])
        found: dict[str, bytes | None] = {}
        stack = [("", TOP)]
        while stack:
            prefix, number = stack.pop()
            node = self._nodes[number]
            if isinstance(node, _File):
                found[prefix] = _content(node, _of(fate, prefix), dice, stop)
                continue
            if prefix:
                found[prefix] = None
            for name, child in _names(node, _of(fate, f"{prefix}/"), dice, stop).items():
                stack.append((f"{prefix}/{name}".lstrip("/"), child))
        return found

    # -- parts --------------------------------------------------------------------------------------

    def _opened(self, step: Step) -> None:
        number = self._find(step.path)
        if number is None:
            if step.call == "open":
                raise TraceError(f"{step.path} is opened and was never made")
            number = self._at
            self._nodes[number] = _File()
            self._name(step.path, number)
        self._open[step.file] = number

    def _changed(self, step: Step) -> None:
        node = self._nodes[self._open[step.file]]
        assert isinstance(node, _File), step
        if step.call == "write":
            node.pending.append(_Write(self._at, step.offset, step.data))
        else:
            node.pending.append(_Cut(self._at, step.length))

    def _renamed(self, step: Step) -> None:
        if step.call == "mkdir":
            self._nodes[self._at] = _Folder()
            self._name(step.path, self._at)
        elif step.call == "rename":
            self._rename(step)
        else:
            self._name(step.path, None)

    def _sync(self, node: _File | _Folder) -> None:
        if isinstance(node, _File):
            node.data = _applied(node.data, node.pending)
        else:
            node.names = dict(node.live)
        node.pending.clear()

    def _find(self, path: str) -> int | None:
        number = TOP
        for part in path.split("/") if path != "." else ():
            node = self._nodes[number]
            if not isinstance(node, _Folder) or part not in node.live:
                return None
            number = node.live[part]
        return number

    def _name(self, path: str, number: int | None) -> None:
        folder, name = self._folder(path)
        self._change(folder, ((name, number),))

    def _rename(self, step: Step) -> None:
        folder, name = self._folder(step.path)
        target, new_name = self._folder(step.other)
        number = folder.live[name]
        if target is folder:
            self._change(folder, ((name, None), (new_name, number)))
        else:
            self._change(folder, ((name, None),))
            self._change(target, ((new_name, number),))

    def _folder(self, path: str) -> tuple[_Folder, str]:
        above, _, name = path.rpartition("/")
        number = self._find(above or ".")
        folder = self._nodes[number] if number is not None else None
        assert isinstance(folder, _Folder), path
        return folder, name

    def _change(self, folder: _Folder, entries: tuple[tuple[str, int | None], ...]) -> None:
        folder.pending.append(_Names(self._at, entries))
        _rename_in(folder.live, entries)


def write_state(state: dict[str, bytes | None], folder: Path) -> None:
    """Put a state into an empty folder of the real disk."""
    for path, data in sorted(state.items()):
        if data is None:
            (folder / path).mkdir(mode=0o700)
        else:
            (folder / path).write_bytes(data)


def _of(fate: Fate, path: str) -> Fate:
    """The fate of one file or folder (with a slash at its end)."""
    in_journal = "/journal/" in path
    if fate is Fate.JOURNAL_LATE:
        return Fate.LOST if in_journal and not path.endswith("/") else Fate.KEPT
    if fate is Fate.JOURNAL_EARLY:
        return Fate.KEPT if in_journal else Fate.LOST
    if fate is Fate.DATA:
        return Fate.LOST if path.endswith("/") else Fate.KEPT
    if fate is Fate.NAMES and path.endswith("/"):
        return Fate.KEPT
    return fate


def _names(folder: _Folder, fate: Fate, dice: random.Random, stop: int) -> dict[str, int]:
    names = dict(folder.names)
    luck = dice.choice((0.0, 0.5, 1.0))
    for change in folder.pending:
        kept = fate is Fate.KEPT
        if fate is Fate.ORDERED:
            kept = change.at < stop
        elif fate is Fate.HOSTILE:
            kept = dice.random() < luck
        if kept:
            _rename_in(names, change.entries)
    return names


def _content(file: _File, fate: Fate, dice: random.Random, stop: int) -> bytes:
    if fate is Fate.LOST or not file.pending:
        return file.data
    if fate is Fate.KEPT:
        return _applied(file.data, file.pending)
    if fate is Fate.NAMES:
        return _applied(file.data, [_zeros(one, len(file.data)) for one in file.pending])
    if fate is Fate.ORDERED:
        first_cut = [at for at, one in enumerate(file.pending) if isinstance(one, _Cut) and one.at >= stop]
        most = first_cut[0] if first_cut else len(file.pending)
        return _applied(file.data, file.pending[: dice.randint(0, most)])
    return _applied(file.data, _by_chance(file, dice))


def _by_chance(file: _File, dice: random.Random) -> list[_Write | _Cut]:
    kept: list[_Write | _Cut] = []
    luck = dice.choice((0.0, 0.3, 0.7, 1.0))
    for one in file.pending:
        if isinstance(one, _Cut):
            if dice.random() < luck:
                kept.append(one)
            continue
        chance = dice.random()
        if chance < luck * 0.7:
            kept.append(one)
        elif chance < luck:
            kept.append(_zeros(one, len(file.data)))
            kept += _in_part(one, dice)
    return kept


def _in_part(write: _Write, dice: random.Random) -> list[_Write | _Cut]:
    """Some of the sectors: those at its beginning, or each by chance."""
    first = write.offset // SECTOR * SECTOR
    stop = write.offset + len(write.data)
    sectors = list(range(first, stop, SECTOR))
    chosen = sectors[: dice.randint(0, len(sectors))]
    if dice.random() < 0.3:
        chosen = [one for one in sectors if dice.random() < 0.5]
    found: list[_Write | _Cut] = []
    for start in chosen:
        low, high = max(start, write.offset), min(start + SECTOR, stop)
        found.append(_Write(write.at, low, write.data[low - write.offset : high - write.offset]))
    return found


def _zeros(one: _Write | _Cut, old_length: int) -> _Write | _Cut:
    """The length of a write without its data; what the file had before stays."""
    if isinstance(one, _Cut):
        return one
    start = max(one.offset, old_length)
    return _Write(one.at, start, bytes(max(0, one.offset + len(one.data) - start)))


def _applied(data: bytes, changes: list[_Write | _Cut]) -> bytes:
    if not changes:
        return data
    content = bytearray(data)
    for one in changes:
        if isinstance(one, _Cut):
            content = content[: one.length] + bytes(max(0, one.length - len(content)))
        elif one.data:
            if len(content) < one.offset:
                content += bytes(one.offset - len(content))
            content[one.offset : one.offset + len(one.data)] = one.data
    return bytes(content)


def _rename_in(names: dict[str, int], entries: tuple[tuple[str, int | None], ...]) -> None:
    for name, number in entries:
        if number is None:
            names.pop(name, None)
        else:
            names[name] = number
