"""The command `objfs`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED_STATUS = 130  # what shells report for a program ended by SIGINT
_LAST_STREAM = 2  # stderr


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (it failed), 2 (wrong usage) or 130 (interrupted).

    Nothing but one sentence about a failure goes to stderr, never a traceback.
    """
    _open_missing_streams()
    import typer

    from objfs.cli.commands import app
    from objfs.cli.failure import FAILED, WRONG_USAGE, describe_failure
    from objfs.cli.help import plain_command

    words = list(sys.argv[1:] if argv is None else argv)
    try:
        result = plain_command(app)(args=words or ["--help"], prog_name="objfs", standalone_mode=False)
        sys.stdout.flush()  # a full disk is to be told as any other failure
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED_STATUS
    except BrokenPipeError:  # `objfs status | head -1` is no failure worth a word
        _silence_stdout()
        return FAILED
    except Exception as error:  # noqa: BLE001  # whatever it was, the user gets a sentence
        status, sentence = describe_failure(error)
        if sentence:
            sys.stderr.write(f"objfs: {sentence}\n")
        _flush_or_silence()
        return status
    if not words and "_OBJFS_COMPLETE" not in os.environ:
        return WRONG_USAGE  # a script that lost its words should hear of it
    return result if isinstance(result, int) else 0


def _open_missing_streams() -> None:
    """Whoever closed stdin, stdout or stderr gives us /dev/null, lest another file takes their number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # lives as long as we


def _flush_or_silence() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _silence_stdout()


def _silence_stdout() -> None:
    """Python flushes stdout once more when it ends, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
