"""What must be there after a power loss, given what programs were told before."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.power.disk import SECTOR
from tests.sim.model import File, Folder, Model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.power.shop import Shop
    from tests.sim.model import Op

Names = dict[str, File | Folder]


@dataclass
class Past:
    """One file through time, whatever it was called.

    Attributes:
        contents: its bytes, by the number of operations done; only where they changed.
        synced: how many operations were done when fsync last returned, or None.
        emptied: how many were done when it was last cut to nothing.
    """

    contents: dict[int, bytes] = field(default_factory=dict)
    synced: list[int] = field(default_factory=list)
    emptied: list[int] = field(default_factory=list)

    def possible(self, done: int, begun: int) -> list[bytes]:
        """Contents that a power loss may leave: none older than the last fsync."""
        first = max((at for at in self.synced if at <= done), default=0)
        numbers = sorted(self.contents)
        at_first = max((at for at in numbers if at <= first), default=numbers[0])
        return [self.contents[at] for at in numbers if at_first <= at <= begun]

    def may_be_torn(self, done: int, begun: int) -> bool:
        """Whether its bytes may be lost, and told so: it was not synced since it was made or emptied."""
        synced = max((at for at in self.synced if at <= done), default=-1)
        emptied = max((at for at in self.emptied if at <= begun), default=0)
        return synced < emptied


class History:
    """The program's operations, and the tree after each."""

    def __init__(self, shop: Shop, ops: Sequence[Op]) -> None:
        model = Model()
        for key, thing in shop.things.items():
            model.root.children[key] = File(content=thing.data)
        self.ops = ops
        self.states: list[dict[str, tuple[str, int]]] = []
        self.pasts: dict[int, Past] = {}
        self.names_synced: list[int] = []
        self._keep: list[File] = []
        stored = model.entries()
        for path, thing in shop.things.items():
            self._past(stored[path]).synced.append(0)
            assert thing.data == self._past(stored[path]).contents.setdefault(0, thing.data)
        self._note(model, 0)
        for done, op in enumerate(ops, start=1):
            file = model.handles[op.slot][0] if op.name in ("fsync", "write") else None
            if op.name == "fsyncdir":
                self.names_synced.append(done)
            else:
                model.apply(copy.copy(op))
            if op.name == "fsync" and file is not None:
                self._past(file).synced.append(done)
                self.names_synced.append(done)
            self._note(model, done)

    def _past(self, entry: File | Folder) -> Past:
        assert isinstance(entry, File)
        if id(entry) not in self.pasts:
            self._keep.append(entry)
            self.pasts[id(entry)] = Past()
        return self.pasts[id(entry)]

    def _note(self, model: Model, done: int) -> None:
        state: dict[str, tuple[str, int]] = {}
        files = [file for file, _ in model.handles.values()]
        for path, entry in model.entries().items():
            if isinstance(entry, Folder):
                state[path] = ("folder", 0)
            else:
                state[path] = ("link" if entry.link else "file", id(entry))
                files.append(entry)
        for file in files:
            past = self._past(file)
            last = past.contents[max(past.contents)] if past.contents else None
            if last != file.content:
                past.contents[done] = file.content
                if not file.content:
                    past.emptied.append(done)
        self.states.append(state)

    def under(self, path: str, begun: int) -> set[bytes]:
        """Contents, but for nothing, that a path has had: what waits for its upload shows again."""
        numbers = {state[path][1] for state in self.states[: begun + 1] if path in state}
        pasts = [self.pasts[number] for number in numbers if number in self.pasts]
        return {content for past in pasts for content in past.contents.values() if content}


@dataclass(frozen=True)
class Seen:
    """What a walk found.

    Attributes:
        entries: kind and content by path; content is None where reading failed.
        torn: paths whose bytes the mount says are lost.
        stored: contents of all objects until the power was lost.
    """

    entries: Mapping[str, tuple[str, bytes | None]]
    torn: frozenset[str]
    stored: frozenset[bytes]


def judge(history: History, done: int, begun: int, seen: Seen) -> list[str]:
    """What is wrong with a recovered tree; nothing if some moment since the last sync explains it."""
    first = max((at for at in history.names_synced if at <= done), default=0)
    wrong: list[str] = []
    for moment in range(begun, first - 1, -1):
        found = _compare(history, history.states[moment], done, begun, seen)
        if not found:
            return []
        if not wrong or len(found) + 1 < len(wrong):
            wrong = [f"(beside the tree after {moment} operations, of {first} to {begun})", *found]
    return wrong


def _compare(
    history: History, state: dict[str, tuple[str, int]], done: int, begun: int, seen: Seen
) -> list[str]:
    wrong = [f"{path} is missing" for path in sorted(state.keys() - seen.entries.keys())]
    wrong += [f"{path} should not be there" for path in sorted(seen.entries.keys() - state.keys())]
    for path in sorted(state.keys() & seen.entries.keys()):
        kind, number = state[path]
        found, content = seen.entries[path]
        if kind != found:
            wrong.append(f"{path} is a {found}, should be a {kind}")
        elif kind == "file":
            wrong += [
                f"{path}: {text}" for text in _judge_file(history, path, number, done, begun, seen, content)
            ]
    return wrong


def _judge_file(
    history: History, path: str, number: int, done: int, begun: int, seen: Seen, content: bytes | None
) -> list[str]:
    past = history.pasts[number]
    if path in seen.torn:
        if not past.may_be_torn(done, begun) and content not in past.possible(done, begun):
            return [f"was synced, is told to be lost, and reads as {short(content or b'')}"]
        if content is not None and content not in seen.stored | history.under(path, begun):
            return [f"is told to be lost, and reads as {short(content)}"]
        return []
    if content is None:
        return ["cannot be read"]
    possible = past.possible(done, begun)
    if content in possible or (past.synced and is_mix(content, possible)):
        return []
    return [f"holds {short(content)}, may hold {' or '.join(map(short, possible))}"]


def is_mix(content: bytes, possible: list[bytes]) -> bool:
    """Whether each byte is that of one of these contents, as with overwriting in place on any disk."""
    if len(content) not in {len(one) for one in possible}:
        return False
    for start in range(0, len(content), SECTOR):
        piece = content[start : start + SECTOR]
        pieces = [one[start : start + SECTOR] for one in possible]
        if any(one[: len(piece)] == piece for one in pieces):
            continue
        if not all(any(one[at : at + 1] == piece[at : at + 1] for one in pieces) for at in range(len(piece))):
            return False
    return True


def short(content: bytes) -> str:
    """A content in few characters."""
    zeros = content.count(0)
    return f"{content[:6].hex()}..*{len(content)}" + (f" ({zeros} zeros)" if zeros else "")
