"""`objfs conflicts`: copies that lost against another writer, beside the file that won."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.cli.places import locate
from objfs.cli.show import print_json, show_bytes, show_text

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the uploader writes: `name.conflict-<host>-<UTC time>[-n]`.
_COPY = re.compile(r"(?P<name>.+)\.conflict-(?P<host>.*)-(?P<stamp>\d{8}T\d{6}Z)(?:-\d+)?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A copy and what won. Times are Unix times; a winner that is gone has no size and no time.

    Attributes:
        host: where the losing version was written; `found_s` is when it turned out to have lost.
    """

    winner: str
    winner_bytes: int | None
    winner_modified_s: float | None
    loser: str
    loser_bytes: int
    loser_modified_s: float
    host: str
    found_s: float


def conflicts(text: str | None, *, as_json: bool) -> int:
    """List conflict copies below a path, or in all mounts."""
    if text is None:
        tops = [entry.mountpoint for entry in mounts.read_mounts() if entry.fs_type == mounts.FUSE_TYPE]
        tops = [top for top in tops if not mounts.is_dead(top)]
    else:
        place = locate(text)
        tops = [place.mountpoint / place.inner]
    found = [conflict for top in tops for conflict in find_conflicts(top)]
    if as_json:
        print_json([asdict(one) for one in found])
    elif not found:
        sys.stdout.write("There are no conflict copies.\n")
    else:
        for one in found:
            sys.stdout.write(_describe(one))
        sys.stdout.write(
            "Compare, keep what you want under the winner's name, and delete the copy: it is a plain file.\n"
        )
    return 0


def find_conflicts(top: Path) -> Iterator[Conflict]:
    """All conflict copies at and below a path, in order of names."""
    if not top.is_dir():
        conflict = _conflict(top)
        if conflict is not None:
            yield conflict
        return

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, names in os.walk(top, onerror=fail):
        folders.sort()
        for name in sorted(names):
            conflict = _conflict(Path(folder, name))
            if conflict is not None:
                yield conflict


def _conflict(path: Path) -> Conflict | None:
    match = _COPY.fullmatch(path.name)
    if match is None:
        return None
    try:
        loser = path.lstat()
    except FileNotFoundError:
        return None
    winner_path = path.with_name(match["name"])
    try:
        winner = winner_path.lstat()
    except FileNotFoundError:
        winner = None
    return Conflict(
        winner=str(winner_path),
        winner_bytes=winner.st_size if winner else None,
        winner_modified_s=winner.st_mtime if winner else None,
        loser=str(path),
        loser_bytes=loser.st_size,
        loser_modified_s=loser.st_mtime,
        host=match["host"],
        found_s=float(_parse_stamp(match["stamp"])),
    )


def _parse_stamp(stamp: str) -> int:
    import calendar

    try:
        return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return 0


def _describe(one: Conflict) -> str:
    if one.winner_bytes is None or one.winner_modified_s is None:
        winner = "gone since"
    else:
        winner = f"{show_bytes(one.winner_bytes)}, {_show_time(one.winner_modified_s)}"
    loser = (
        f"{show_bytes(one.loser_bytes)}, {_show_time(one.loser_modified_s)}, written at {show_text(one.host)}"
    )
    return (
        f"{show_text(one.winner)}\n    keeps the name: {winner}\n"
        f"    lost: {show_text(Path(one.loser).name)}\n          {loser}\n"
    )


def _show_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
