"""`objfs expire`."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from objfs.cli.show import print_json, show_bytes, show_files, show_text
from objfs.cli.stores import open_target
from objfs.control.expiring import ExpiryCounts, delete_expired, expires_at, find_expired
from objfs.upload.expiry import time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MAX_FAILURES_SHOWN = 10
_PROGRESS_INTERVAL_S = 3.0  # between lines of progress where no spinner can be shown


def expire(target: str, flags: Mapping[str, str], *, dry_run: bool, as_json: bool) -> int:
    """Delete objects that have expired; the status is 1 if the store did not delete some."""
    counts = ExpiryCounts()
    found: list[dict[str, object]] = []
    with open_target(target, flags) as opened, _progress(counts, quiet=as_json) as on_progress:
        if dry_run:
            for info in find_expired(opened.store, counts, on_progress):
                expired = time_text(expires_at(info))
                found.append({"key": info.key, "bytes": info.version.size_bytes, "expires": expired})
                if not as_json:
                    sys.stdout.write(f"{expired}  {show_text(info.key)}\n")
        else:
            delete_expired(opened.store, counts, on_progress)
    if as_json:
        _print_json(counts, found if dry_run else None)
    else:
        _print(counts, dry_run=dry_run)
    return int(bool(counts.failed))


def _print(counts: ExpiryCounts, *, dry_run: bool) -> None:
    size = show_bytes(counts.expired_bytes)
    what = f"{show_files(counts.expired)} of {counts.looked_at:,} expired ({size})"
    if dry_run:
        sys.stdout.write(f"{what}; nothing was deleted.\n")
        return
    renewed = f", {counts.renewed:,} put off meanwhile" if counts.renewed else ""
    sys.stdout.write(f"{what}: {counts.deleted:,} deleted{renewed}.\n")
    for key, why in counts.failed[:MAX_FAILURES_SHOWN]:
        sys.stderr.write(f"objfs: {show_text(key)}: {show_text(why).rstrip('.')}.\n")
    if len(counts.failed) > MAX_FAILURES_SHOWN:
        sys.stderr.write(f"objfs: {len(counts.failed) - MAX_FAILURES_SHOWN:,} more were not deleted.\n")


def _print_json(counts: ExpiryCounts, found: list[dict[str, object]] | None) -> None:
    value: dict[str, object] = {
        "looked_at": counts.looked_at,
        "expired": counts.expired,
        "expired_bytes": counts.expired_bytes,
        "deleted": counts.deleted,
        "renewed": counts.renewed,
        "failed": [{"key": key, "error": why} for key, why in counts.failed],
    }
    if found is not None:
        value["files"] = found
    print_json(value)


@contextmanager
def _progress(counts: ExpiryCounts, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A line that moves on a terminal, else one every few seconds."""

    def text() -> str:
        return f"{counts.looked_at:,} looked at, {counts.expired:,} expired, {counts.deleted:,} deleted"

    if quiet:
        yield lambda: None
        return
    if not sys.stderr.isatty():
        next_s = time.monotonic() + _PROGRESS_INTERVAL_S

        def tell() -> None:
            nonlocal next_s
            if time.monotonic() >= next_s:
                sys.stderr.write(f"objfs: {text()}\n")
                next_s = time.monotonic() + _PROGRESS_INTERVAL_S

        yield tell
        return
    from rich.console import Console

    with Console(stderr=True).status(text()) as line:
        yield lambda: line.update(text())
