"""`mount.objfs`: what mount(8) runs for lines of fstab with the type `objfs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from objfs.cli.failure import WRONG_USAGE, describe_failure
from objfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE, _FAILURE = 1, 32  # exit statuses of mount(8)
_SWITCHES = frozenset("sfnvrw")  # sloppy, fake, no mtab, verbose, read-only, writable
_WITH_VALUE = frozenset("otN")  # options, type, namespace


def main(argv: Sequence[str] | None = None) -> int:
    """`mount.objfs SOURCE TARGET [-sfnv] [-o OPTIONS]`; returns the exit status."""
    try:
        source, mountpoint, options, fake = parse(sys.argv[1:] if argv is None else argv)
        if fake:
            return 0
        from objfs.cli.mounting.mount import mount

        status = mount(source, Path(mountpoint), {}, options)
    except Exception as error:  # noqa: BLE001  # whatever it was, mount(8) shows a sentence
        status, sentence = describe_failure(error)
        sys.stderr.write(f"mount.objfs: {sentence}\n")
    if status == 0:
        return 0
    return _USAGE if status == WRONG_USAGE else _FAILURE


def parse(argv: Sequence[str]) -> tuple[str, str, list[str], bool]:
    """Source, mountpoint, `-o` options, and whether nothing is to be done; in the order of mount(8)."""
    places: list[str] = []
    options: list[str] = []
    switches: set[str] = set()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            places.append(word)
        elif word[1:] in _WITH_VALUE:
            if not rest:
                raise UsageError(f"{word} needs a value.")
            value = rest.pop(0)
            options += [value] if word == "-o" else []
        elif set(word[1:]) <= _SWITCHES:
            switches |= set(word[1:])
        else:
            raise UsageError(f"{word} is not known; see mount(8).")
    if len(places) != 2:
        raise UsageError("usage: mount.objfs SOURCE MOUNTPOINT [-o OPTION,...].")
    options += ["ro"] if "r" in switches else []
    return places[0], places[1], options, "f" in switches


if __name__ == "__main__":
    sys.exit(main())
