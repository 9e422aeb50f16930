"""Going to the background: the command returns when the mount answers, or with what went wrong."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FAILED = 1
_KEPT_DESCRIPTOR = 3  # the first after stdin, stdout and stderr
_MOST_DESCRIPTORS = 65536  # in containers SC_OPEN_MAX may be 2**30, and nobody inherits that many


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the start went: exit status, and a sentence if there is something to tell."""

    status: int
    sentence: str = ""


def run_in_background(
    body: Callable[[Callable[[Outcome], None]], int], *, session_at_once: bool = True
) -> Outcome:
    """Run `body` in a process of its own session, and wait until it reports or ends.

    `body` gets the function to report with; the first report counts. To be called before any thread or event
    loop exists, since only the calling thread survives a fork.

    Args:
        body: returns the exit status.
        session_at_once: give the process its own session before `body` runs, else with its first report.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become_daemon(writer, body, session_at_once=session_at_once)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        return _await_report(child, pipe.readline)


def _await_report(child: int, read_line: Callable[[], bytes]) -> Outcome:
    try:
        line = read_line()
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
    if line:
        status, sentence = json.loads(line)
    else:
        status, sentence = _FAILED, "objfs ended while it was starting; see its log."
    if status:
        os.waitpid(child, 0)
    return Outcome(status=status, sentence=sentence)


def _become_daemon(
    writer: int, body: Callable[[Callable[[Outcome], None]], int], *, session_at_once: bool
) -> None:
    """The life of the child; never returns."""
    status = _FAILED
    try:
        if session_at_once:
            os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        kept = writer if writer == _KEPT_DESCRIPTOR else os.dup2(writer, _KEPT_DESCRIPTOR, inheritable=False)
        os.closerange(kept + 1, min(os.sysconf("SC_OPEN_MAX"), _MOST_DESCRIPTORS))
        status = body(_Reporter(kept, new_session=not session_at_once))
    finally:
        os._exit(status)


class _Reporter:
    """Sends the first outcome to the waiting command; later ones go nowhere."""

    def __init__(self, descriptor: int, *, new_session: bool) -> None:
        self._descriptor: int | None = descriptor
        self._new_session = new_session

    def __call__(self, outcome: Outcome) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if self._new_session:
            os.setsid()
        try:
            os.write(descriptor, json.dumps([outcome.status, outcome.sentence]).encode() + b"\n")
        except BrokenPipeError:  # the command was killed meanwhile
            pass
        finally:
            os.close(descriptor)
