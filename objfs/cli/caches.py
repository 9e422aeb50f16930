"""`objfs cache`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from objfs.cli.show import show_bytes, show_changes, show_text
from objfs.cli.targets import Mounted, cache_base, find_target
from objfs.control.caches import clear_blocks, find_caches
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Mapping


def show(flags: Mapping[str, str], *, as_json: bool) -> int:
    """List all caches."""
    base = cache_base(flags)
    found = find_caches(base)
    if as_json:
        values = [
            {
                "path": str(one.path),
                "url": one.url,
                "mountpoint": str(one.mountpoint),
                "clean_bytes": one.clean_bytes,
                "staged_bytes": one.staged_bytes,
                "waiting_changes": one.waiting,
                "in_use": one.in_use,
            }
            for one in found
        ]
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
        return 0
    if not found:
        sys.stdout.write(f"There are no caches below {base}.\n")
    for one in found:
        sys.stdout.write(
            f"{show_text(one.url)}: {show_bytes(one.clean_bytes)} cached, {show_bytes(one.staged_bytes)} "
            f"staged, {show_changes(one.waiting)} to upload, {'in use' if one.in_use else 'not mounted'}, "
            f"{one.path}\n"
        )
    return 0


def clear(name: str, flags: Mapping[str, str]) -> int:
    """Delete one cache's clean data."""
    target = find_target(name, flags)
    if isinstance(target, Mounted):
        raise MountError(f"{target.mountpoint} is mounted; run 'objfs umount {target.mountpoint}' first.")
    path = target.settings.cache_path
    if not path.is_dir():
        raise MountError(f"there is no cache of {target.settings.url} at {path}.")
    sys.stdout.write(f"{show_text(target.name)}: {show_bytes(clear_blocks(path))} deleted.\n")
    return 0
