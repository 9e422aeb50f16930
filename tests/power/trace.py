"""System calls that change a folder, recorded by strace, as values."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,"
    "fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,"
    "sync,syncfs"
)
CHANGING = frozenset(
    ("writev", "pwritev", "pwritev2", "truncate", "fallocate", "link", "linkat", "dup", "dup2", "dup3")
)
"""Calls that objfs and SQLite are not known to make; if they ever do, `parse` has to learn them."""

_LINE = re.compile(r"^(\d+)\s+(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
_RESULT = re.compile(r"\)\s+= (-?\d+)")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>")
_ORDERED = frozenset(("fsync", "fdatasync", "syncfs", "sync"))  # count from when they return


class TraceError(Exception):
    """The trace holds what the model of a disk does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call that took effect.

    Attributes:
        call: `create`, `write`, `cut`, `sync`, `sync-all`, `rename`, `unlink`, `mkdir`, `rmdir`, or `mark`.
        path: below the recorded folder, at the time of the call.
        file: number of the open file that `write`, `cut` and `sync` mean; -1 where they mean the path.
        data: bytes written; the text of a mark.
    """

    call: str
    path: str = ""
    other: str = ""
    file: int = -1
    offset: int = 0
    length: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        words = [self.call, self.path, self.other]
        if self.call == "write":
            words.append(f"{self.offset}+{len(self.data)}")
        elif self.call == "cut":
            words.append(str(self.length))
        elif self.call == "mark":
            words.append(self.data.decode())
        return " ".join(word for word in words if word)


def record(
    argv: Sequence[str], output: Path, *, environment: Mapping[str, str] | None = None, timeout_s: float
) -> int:
    """Run a command under strace; returns its exit status."""
    command = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "16777216", "-e", "signal=none"]
    command += ["-e", f"trace={CALLS}", "-o", str(output), *argv]
    return subprocess.run(command, env=environment, timeout=timeout_s, check=False).returncode


def parse(output: Path, folder: Path, marks: Path) -> Iterator[Step]:
    """The steps of a trace that concern `folder`, and what was written to the file `marks`."""
    parser = _Parser(str(folder), str(marks))
    begun: dict[str, str] = {}
    with output.open() as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            thread, call, rest = match.groups()
            if "<unfinished ...>" in rest:
                begun[thread] = rest.partition("<unfinished")[0]
                # A write may be on disk from its beginning; a sync promises something at its end.
                if call in _ORDERED:
                    continue
                rest = f"{begun[thread]}) = {_wanted(begun[thread])}" if call.startswith("pwrite") else ""
                if not rest:
                    continue
                del begun[thread]
            elif " resumed>" in line.split("(")[0]:
                if thread not in begun:
                    continue
                rest = begun.pop(thread) + rest
            result = _RESULT.search(rest)
            if result is None or int(result[1]) < 0:
                continue
            yield from parser.step(call, rest, int(result[1]))


def _wanted(arguments: str) -> int:
    return len(_strings(arguments)[0])


class _Parser:
    def __init__(self, folder: str, marks: str) -> None:
        self._folder = folder
        self._marks = marks
        self._files: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._count = 0

    def step(self, call: str, rest: str, result: int) -> Iterator[Step]:
        if call in ("open", "openat", "creat"):
            yield from self._open(rest, result)
            return
        if call == "sync":
            yield Step(call="sync-all")
            return
        match = _DESCRIPTOR.match(rest)
        if match is not None:
            yield from self._on_descriptor(call, rest, int(match[1]), _text(match[2]), result)
            return
        paths = [self._below(name.decode(errors="surrogateescape")) for name in _strings(rest)]
        if not paths or paths[0] is None:
            return
        if call in CHANGING:
            raise TraceError(f"{call} in the recorded folder")
        if call.startswith("rename"):
            yield Step(call="rename", path=paths[0], other=paths[1] or "")
        elif call in ("unlink", "unlinkat"):
            yield Step(call="rmdir" if "AT_REMOVEDIR" in rest else "unlink", path=paths[0])
        elif call in ("mkdir", "mkdirat", "rmdir"):
            yield Step(call=call.removesuffix("at"), path=paths[0])

    def _open(self, rest: str, descriptor: int) -> Iterator[Step]:
        path = self._below(_strings(rest)[0].decode(errors="surrogateescape"))
        if path is None:
            return
        self._count += 1
        self._files[descriptor] = self._count
        self._positions[descriptor] = 0
        call = "create" if "O_CREAT" in rest else "open"
        yield Step(call=call, path=path, file=self._count)
        if "O_TRUNC" in rest:
            yield Step(call="cut", path=path, file=self._count, length=0)

    def _on_descriptor(self, call: str, rest: str, number: int, path: str, result: int) -> Iterator[Step]:
        if path == self._marks and call == "write":
            yield Step(call="mark", data=_strings(rest)[0].strip())
            return
        below = self._below(path)
        if below is None:
            return
        if call in CHANGING:
            raise TraceError(f"{call} in the recorded folder")
        file = self._files[number]
        if call == "close":
            del self._files[number]
        elif call == "lseek":
            self._positions[number] = result
        elif call in ("write", "pwrite64"):
            yield self._write(call, rest, number, below, result)
        elif call == "ftruncate":
            yield Step(call="cut", path=below, file=file, length=_last_number(rest))
        elif call in ("fsync", "fdatasync"):
            yield Step(call="sync", path=below, file=file)
        elif call == "syncfs":
            yield Step(call="sync-all", path=below)

    def _write(self, call: str, rest: str, number: int, below: str, result: int) -> Step:
        offset = self._positions[number] if call == "write" else _last_number(rest)
        self._positions[number] += result if call == "write" else 0
        data = _strings(rest)[0][:result]
        return Step(call="write", path=below, file=self._files[number], offset=offset, data=data)

    def _below(self, path: str) -> str | None:
        path = path.removesuffix(" (deleted)")
        if path == self._folder:
            return "."
        return path[len(self._folder) + 1 :] if path.startswith(f"{self._folder}/") else None


def _strings(rest: str) -> list[bytes]:
    found = []
    for match in _STRING.finditer(rest):
        if match[2]:
            raise TraceError("strace cut a string short")
        found.append(bytes.fromhex(match[1].replace("\\x", "")))
    return found


def _last_number(rest: str) -> int:
    """The last argument of a call."""
    return int(rest[: rest.rindex(") = ") if ") = " in rest else rest.rindex(")")].rpartition(",")[2])


def _text(escaped: str) -> str:
    return bytes.fromhex(escaped.replace("\\x", "")).decode(errors="surrogateescape")
