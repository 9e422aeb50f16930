"""`objfs flush`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from objfs.cli.logs import configure_logging
from objfs.cli.progress import open_display
from objfs.cli.show import show_bytes, show_changes, show_files, show_text
from objfs.cli.targets import Mounted, find_all, find_target
from objfs.control.client import connect
from objfs.control.leftovers import peek
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.cli.targets import Target
    from objfs.config import MountSettings
    from objfs.control.values import DrainProgress

_MOUNTED_ADVICE = "they stay in the journal, and go out when the store is back."
_LEFT_ADVICE = "they stay in the journal; run 'objfs flush' again when the store is back."


def flush(name: str | None, flags: Mapping[str, str], *, retry_parked: bool, progress: bool | None) -> int:
    """Upload everything that waits, of one mount or cache, or of all; the status is 1 if something stays."""
    targets = find_all(flags) if name is None else [find_target(name, flags)]
    if not targets:
        sys.stdout.write("Nothing is mounted, and nothing was left to upload.\n")
    failures = [_flush(target, retry_parked=retry_parked, progress=progress) for target in targets]
    return int(any(failures))


def _flush(target: Target, *, retry_parked: bool, progress: bool | None) -> bool:
    """Flush one; returns whether something was refused."""
    if isinstance(target, Mounted):
        left = _flush_mounted(target, retry_parked=retry_parked, progress=progress)
    else:
        left = _flush_left(target.settings, progress=progress)
    name = show_text(target.name)
    if left is None or not (left.waiting_files or left.waiting_changes):
        sys.stdout.write(f"{name}: everything is in the store.\n")
        return False
    waiting = f"{show_files(left.waiting_files)} ({show_bytes(left.waiting_bytes)})"
    if left.parked_count:
        sys.stderr.write(
            f"objfs: {name}: the store refuses {show_changes(left.parked_count)}; {waiting} and "
            f"{left.waiting_changes} other changes stay in the journal; 'objfs status' tells why, "
            "'objfs flush --retry-parked' tries again, and 'objfs rescue' copies the files out.\n"
        )
        return True
    sys.stdout.write(f"{name}: {waiting} still open or just written follow; the rest is in the store.\n")
    return False


def _flush_mounted(target: Mounted, *, retry_parked: bool, progress: bool | None) -> DrainProgress | None:
    with connect(target.socket) as client, open_display(_MOUNTED_ADVICE, progress=progress) as display:
        display.follow(client.drain(retry_parked=retry_parked))
    return display.last


def _flush_left(settings: MountSettings, *, progress: bool | None) -> DrainProgress | None:
    if not settings.cache_path.is_dir():
        raise MountError(
            f"there is no cache of {settings.url} at {settings.cache_path}, so nothing of it can wait; "
            "if it was mounted with another --cache-dir or --endpoint-url, name that."
        )
    if not peek(settings.cache_path):
        return None
    configure_logging(
        settings.log_path,
        settings.log_level,
        os.environ,
        also_stderr=False,
        log_format=settings.log_format,
    )
    from objfs.app.flush import run_flush

    with open_display(_LEFT_ADVICE, progress=progress) as display:
        return run_flush(settings, on_progress=display)
