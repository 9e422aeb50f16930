"""The command `objfs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED_STATUS = 130  # what shells report for a program ended by SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 (it failed) or 2 (wrong usage).

    Nothing but one sentence about a failure goes to stderr, never a traceback.
    """
    from objfs.cli.commands import app
    from objfs.cli.failure import describe_failure

    try:
        result = app(args=argv, prog_name="objfs", standalone_mode=False)
    except KeyboardInterrupt:
        return _INTERRUPTED_STATUS
    except Exception as error:  # noqa: BLE001  # whatever it was, the user gets a sentence
        status, sentence = describe_failure(error)
        if sentence:
            sys.stderr.write(f"objfs: {sentence}\n")
        return status
    return result if isinstance(result, int) else 0
