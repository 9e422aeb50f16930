"""`objfs rescue`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.cli.show import show_bytes, show_files, show_text
from objfs.cli.targets import Mounted, find_all, find_target
from objfs.control.leftovers import peek
from objfs.errors import MountError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from objfs.cli.targets import Target
    from objfs.control.rescue import Rescued


def rescue(name: str | None, folder: Path, flags: Mapping[str, str], *, everything: bool) -> int:
    """Copy files out of a journal; the status is 1 if one of them is not all there."""
    target = find_target(name, flags) if name is not None else _only_target(flags)
    folder = folder.expanduser().absolute()
    _refuse_inside(folder, target)
    done = _run(target, folder, everything=everything)
    if not done:
        hint = "" if everything else "; --all copies also what waits for its upload"
        sys.stdout.write(f"{show_text(target.name)}: the store refused no file{hint}.\n")
        return 0
    size = show_bytes(sum(one.size_bytes for one in done))
    sys.stdout.write(f"{show_text(target.name)}: {show_files(len(done))} ({size}) copied to {folder}.\n")
    incomplete = [one for one in done if not one.complete]
    if incomplete:
        sys.stderr.write(
            f"objfs: {show_files(len(incomplete))} could not be copied as they should be, first "
            f"{show_text(incomplete[0].path)} ({show_text(incomplete[0].note)}); the list is in "
            f"{folder}/objfs-rescue.jsonl.\n"
        )
    return int(bool(incomplete))


def _run(target: Target, folder: Path, *, everything: bool) -> list[Rescued]:
    from objfs.app.rescue import run_rescue, run_rescue_mounted

    if isinstance(target, Mounted):
        return run_rescue_mounted(target.cache_path, target.mountpoint, folder, everything=everything)
    if not target.settings.cache_path.is_dir():
        raise MountError(
            f"there is no cache of {target.settings.url} at {target.settings.cache_path}; "
            "if it was mounted with another --cache-dir or --endpoint-url, name that."
        )
    return run_rescue(target.settings, folder, everything=everything)


def _only_target(flags: Mapping[str, str]) -> Target:
    found = [target for target in find_all(flags) if peek(_cache_path(target))]
    if not found:
        raise MountError("no change waits in any mount or cache, so there is nothing to copy.")
    if len(found) > 1:
        names = ", ".join(show_text(target.name) for target in found)
        raise UsageError(f"changes wait in several places ({names}); name one of them.")
    return found[0]


def _cache_path(target: Target) -> Path:
    return target.cache_path if isinstance(target, Mounted) else target.settings.cache_path


def _refuse_inside(folder: Path, target: Target) -> None:
    real = os.path.realpath(folder)
    outside = [os.path.realpath(_cache_path(target))]
    outside += [str(entry.mountpoint) for entry in mounts.read_mounts() if entry.fs_type == mounts.FUSE_TYPE]
    for place in outside:
        if os.path.commonpath([real, place]) == place:
            raise UsageError(f"the folder {folder} is inside {place}; name one on a local disk.")
