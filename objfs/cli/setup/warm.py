"""`objfs warm`: files are fetched into the cache, by the mount itself."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from objfs.cli.places import locate_all
from objfs.cli.progress import open_rich_bar
from objfs.cli.show import print_json, show_bytes, show_files, show_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from objfs.cli.places import Place

MAX_REQUEST_CHARS = 16_000  # of the paths of one request; a character takes up to twelve bytes in JSON
MAX_FAILURES_SHOWN = 10
_SUMS = ("total_files", "total_bytes", "done_files", "here_bytes", "fetched_bytes", "failed_files")

Counts = dict[str, Any]


def warm(texts: Sequence[str], *, as_json: bool) -> int:
    """Fetch files and directories into the cache; the status is 1 if a file is not there afterwards."""
    found = [
        fetch("warm", mountpoint, places, quiet=as_json) for mountpoint, places in locate_all(texts).items()
    ]
    return report(found, "in the cache", as_json=as_json)


def fetch(command: str, mountpoint: Path, places: Sequence[Place], *, quiet: bool) -> Counts:
    """Run `warm` or `pin` for paths of one mount, with a bar on a terminal; returns its counts."""
    total: Counts = {"mountpoint": str(mountpoint), **dict.fromkeys(_SUMS, 0), "failed": []}
    with places[0].connect() as client, _open_bar(quiet=quiet) as draw:
        for paths in _batches([place.inner for place in places]):
            counts = client.follow(command, draw, paths=paths)
            for name in _SUMS:
                total[name] += counts[name]
            total["failed"] += counts["failed"]
    return total


def report(found: Sequence[Counts], state: str, *, as_json: bool) -> int:
    """Print what came of it; the exit status."""
    if as_json:
        print_json(list(found))
    else:
        for counts in found:
            _print(counts, state)
    return int(any(counts["failed_files"] for counts in found))


def _print(counts: Counts, state: str) -> None:
    held = counts["here_bytes"] + counts["fetched_bytes"]
    sys.stdout.write(
        f"{show_text(counts['mountpoint'])}: {show_files(counts['done_files'])}, {show_bytes(held)} {state}, "
        f"{show_bytes(counts['fetched_bytes'])} fetched.\n"
    )
    for path, why in counts["failed"][:MAX_FAILURES_SHOWN]:
        sys.stderr.write(f"objfs: {show_text(path)}: {show_text(why).rstrip('.')}.\n")
    if counts["failed_files"] > MAX_FAILURES_SHOWN:
        sys.stderr.write(f"objfs: {counts['failed_files'] - MAX_FAILURES_SHOWN} more files failed.\n")


def _batches(paths: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for path in paths:
        if batch and sum(map(len, batch)) + len(path) > MAX_REQUEST_CHARS:
            yield batch
            batch = []
        batch.append(path)
    yield batch


@contextmanager
def _open_bar(*, quiet: bool) -> Iterator[Callable[[Counts], None]]:
    """A bar with rate and time left; nothing where there is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _counts: None
        return

    def draw(counts: Counts) -> None:
        if not counts:
            return
        files = f"{counts['done_files']:,} of {show_files(counts['total_files'])}"
        update(
            description=files if counts["is_total"] else f"looking, {files} so far",
            completed=counts["here_bytes"] + counts["fetched_bytes"],
            total=counts["total_bytes"] if counts["is_total"] else None,
        )

    with open_rich_bar("looking") as update:
        yield draw
