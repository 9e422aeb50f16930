"""`objfs trace`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objfs.cli.looking.pick import one_mount
from objfs.cli.show import show_duration, show_text
from objfs.config.quantities import parse_duration
from objfs.errors import UsageError
from objfs.observe.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from objfs.control.tracing import TraceEvent

_WHO_COLUMNS, _OPERATION_COLUMNS = 18, 10


def trace(
    mount: str | None, *, path: str | None, operations: Sequence[str], slow: str | None, as_json: bool
) -> int:
    """Print the requests of programs as they are answered, until Ctrl-C or the end of the mount."""
    wanted = _operations(operations)
    least_s = _least_s(slow)
    with one_mount(mount) as client:
        mountpoint = client.status().mountpoint
        dropped = 0
        try:
            events = client.trace(_inner(path, mountpoint) if path else "", wanted, least_s)
            sys.stderr.write(f"objfs: watching {show_text(mountpoint)}, Ctrl-C ends it\n")
            sys.stderr.flush()
            for event in events:
                if isinstance(event, int):
                    lost, dropped = event - dropped, event
                    _write(
                        json.dumps({"dropped": lost}) if as_json else f"... {lost:,} more, too fast to show"
                    )
                else:
                    _write(json.dumps(_json(event)) if as_json else line(event))
        except (KeyboardInterrupt, BrokenPipeError):
            return 0
    return 0


def line(event: TraceEvent) -> str:
    """`13:20:31.123   1.2 ms  cat[4242]  read      a/b.jpg offset=0 size=131072 = 131072`."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.time_s)) + f"{event.time_s % 1:.3f}"[1:]
    who = f"{event.command}[{event.pid}]" if event.pid else event.command
    arguments = "".join(f" {name}={value}" for name, value in event.arguments.items())
    answer = event.error or ("ok" if event.result is None else event.result)
    text = (
        f"{clock} {show_duration(event.duration_s):>7}  {who:<{_WHO_COLUMNS}} "
        f"{event.operation:<{_OPERATION_COLUMNS}} {event.path}{arguments} = {answer}"
    )
    return show_text(text)


def _json(event: TraceEvent) -> dict[str, Any]:
    return {name: getattr(event, name) for name in type(event).__dataclass_fields__}


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _operations(names: Sequence[str]) -> list[str]:
    found = [name.strip() for text in names for name in text.split(",") if name.strip()]
    unknown = next((name for name in found if name not in OPERATIONS), None)
    if unknown is not None:
        raise UsageError(f"--op: there is no operation '{unknown}'; there are {', '.join(OPERATIONS)}.")
    return found


def _least_s(text: str | None) -> float:
    try:
        return parse_duration(text) if text else 0.0
    except ValueError as error:
        raise UsageError(f"--slow: {error}.") from error


def _inner(text: str, mountpoint: str) -> str:
    """The path below the mount's root; patterns, and paths that are not in the mount, are that already."""
    root = Path(mountpoint)
    path = Path(os.path.realpath(Path(text).parent)) / Path(text).name
    if path.is_relative_to(root):
        inner = str(path.relative_to(root))
        return "" if inner == "." else inner
    if Path(text).is_absolute():
        raise UsageError(f"--path: {text} is not below {mountpoint}.")
    return text.strip("/")
