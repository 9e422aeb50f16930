"""`objfs set`."""

from __future__ import annotations

import difflib
import os
import re
import sys
from typing import TYPE_CHECKING

from objfs.cli.places import locate_all
from objfs.cli.show import show_files
from objfs.config.rules import PLAIN, SETTABLE, override
from objfs.errors import UsageError
from objfs.vfs.treated import parse_value

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETTING = re.compile(r"([A-Za-z0-9_-]+)=(.*)", re.DOTALL)


def set_files(arguments: Sequence[str]) -> int:
    """Override the rules for files.

    Args:
        arguments: paths, and `NAME=VALUE`s; an empty value takes an override back.

    Raises:
        UsageError: a name is not known, or a value is wrong.
    """
    paths, values = split(arguments)
    for places in locate_all(paths).values():
        with places[0].connect() as client:
            for place in places:
                client.follow("set", lambda _progress: None, paths=[place.inner], values=values)
    if sys.stdout.isatty():
        sys.stdout.write(f"Set for {show_files(len(paths))}.\n")
    return 0


def split(arguments: Sequence[str]) -> tuple[list[str], dict[str, object]]:
    """Paths, and checked values by name."""
    paths: list[str] = []
    values: dict[str, object] = {}
    for text in arguments:
        match = _SETTING.fullmatch(text)
        name = match[1].replace("-", "_") if match else ""
        if match is None or (name not in SETTABLE and os.path.lexists(text)):
            paths.append(text)
            continue
        if name not in SETTABLE:
            nearest = difflib.get_close_matches(name, sorted(SETTABLE), n=1)
            hint = (
                f", did you mean '{nearest[0]}'?" if nearest else f"; known: {', '.join(sorted(SETTABLE))}."
            )
            raise UsageError(f"'{match[1]}' cannot be set for a file{hint}")
        try:
            values[name] = parse_value(name, match[2])
        except ValueError as error:
            raise UsageError(f"{name}: {error}.") from error
    if not values:
        raise UsageError("nothing is to be set; write for instance storage_class=STANDARD_IA.")
    if not paths:
        raise UsageError("no file was named; see 'objfs set --help'.")
    try:
        override(PLAIN, values)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    return paths, values
