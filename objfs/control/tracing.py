"""Live requests of programs, for whoever listens; without a listener nothing is done and nothing costs."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.observe.operations import Call, Operations

log = logging.getLogger("objfs.trace")

QUEUE_EVENTS = 2048  # half a second of a busy mount: a listener that is later than that loses events
_KNOWN_COMMANDS = 1024  # names of processes that are gone by the time their file is closed


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    """One request that was answered. `objfs trace --json` prints these; fields may be added.

    Attributes:
        time_s: Unix time at which it came.
        command: name of the process, as in /proc/PID/comm.
        error: errno's name, or None.
    """

    time_s: float
    duration_s: float
    operation: str
    pid: int
    command: str
    path: str
    arguments: dict[str, object]
    result: int | str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFilter:
    """Which requests a listener wants: all conditions hold.

    Attributes:
        path: this path, everything below it, or what matches it as a pattern (`*.jpg`); "" for all.
        operations: names; empty for all.
        least_s: only those that took so long.
    """

    path: str = ""
    operations: frozenset[str] = frozenset()
    least_s: float = 0.0

    def wants_call(self, operation: str, duration_s: float) -> bool:
        """Whether it may want a request, before its path is known."""
        return duration_s >= self.least_s and (not self.operations or operation in self.operations)

    def wants_path(self, path: str) -> bool:
        """Whether it wants requests about this path."""
        wanted = self.path
        return not wanted or path == wanted or path.startswith(f"{wanted}/") or fnmatchcase(path, wanted)


class Described(Protocol):
    """A request in words; see `objfs.fuse.traced`."""

    @property
    def pid(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def arguments(self) -> dict[str, object]: ...
    @property
    def result(self) -> int | str | None: ...
    @property
    def error(self) -> str | None: ...


class Describer(Protocol):
    """Puts requests into words."""

    def describe(self, call: Call, number: int, result: object) -> Described:
        """One request, answered with errno `number` (0: none) and `result`."""
        ...

    def path(self, call: Call) -> str:
        """What a request is about."""
        ...


class Listener:
    """One who listens. What does not fit into the queue is dropped, and counted."""

    def __init__(self, wanted: TraceFilter) -> None:
        self.wanted = wanted
        self.dropped = 0
        self._send, self._receive = trio.open_memory_channel[TraceEvent](QUEUE_EVENTS)

    def tell(self, event: TraceEvent) -> None:
        """An event, unless there is no room."""
        try:
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self.dropped += 1

    async def next_events(self) -> list[TraceEvent]:
        """All events that wait, at least one."""
        events = [await self._receive.receive()]
        while True:
            try:
                events.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                return events

    def close(self) -> None:
        """Nobody listens any more."""
        self._send.close()
        self._receive.close()


class Tracer:
    """Hands requests to listeners. Runs on the event loop, and never waits."""

    def __init__(self, operations: Operations, describer: Describer) -> None:
        self._operations = operations
        self._describer = describer
        self._listeners: list[Listener] = []
        self._commands: dict[int, str] = {}

    @contextmanager
    def listening(self, wanted: TraceFilter) -> Iterator[Listener]:
        """Listen for the length of the block."""
        listener = Listener(wanted)
        self._listeners.append(listener)
        self._operations.tap = self._tell
        try:
            yield listener
        finally:
            self._listeners.remove(listener)
            if not self._listeners:
                self._operations.tap = None
                self._commands.clear()
            listener.close()

    def _tell(self, call: Call, elapsed_s: float, number: int, result: object) -> None:
        """Runs within a handler, which nothing that goes wrong here may disturb."""
        try:
            self._tell_listeners(call, elapsed_s, number, result)
        except Exception:
            log.exception("%s could not be traced", call.operation)

    def _tell_listeners(self, call: Call, elapsed_s: float, number: int, result: object) -> None:
        takers = [one for one in self._listeners if one.wanted.wants_call(call.operation, elapsed_s)]
        if not takers:
            return
        path = self._describer.path(call)
        takers = [one for one in takers if one.wanted.wants_path(path)]
        if not takers:
            return
        described = self._describer.describe(call, number, result)
        event = TraceEvent(
            time_s=time.time() - elapsed_s,
            duration_s=elapsed_s,
            operation=call.operation,
            pid=described.pid,
            command=self._command(described.pid),
            path=path,
            arguments=described.arguments,
            result=described.result,
            error=described.error,
        )
        for listener in takers:
            listener.tell(event)

    def _command(self, pid: int) -> str:
        """Name of a process, which cannot end while its request has no answer; but closing is told late."""
        if not pid:
            return "kernel"
        try:
            name = Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
        except OSError:
            return self._commands.get(pid, "?")
        if len(self._commands) >= _KNOWN_COMMANDS:
            self._commands.clear()
        self._commands[pid] = name
        return name


def event_to_json(event: TraceEvent) -> dict[str, Any]:
    """The event as plain JSON values."""
    return asdict(event)


def event_from_json(value: dict[str, Any]) -> TraceEvent:
    """The inverse of `event_to_json`; fields this version does not know are left out."""
    names = TraceEvent.__dataclass_fields__.keys()
    return TraceEvent(**{name: value.get(name) for name in names})  # type: ignore[arg-type]  # as it was sent
