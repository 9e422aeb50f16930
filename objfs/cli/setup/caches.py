"""`objfs cache`."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from objfs.cli.places import Place
from objfs.cli.progress import open_bar
from objfs.cli.show import print_json, show_bytes, show_changes, show_files, show_text
from objfs.cli.targets import Mounted, cache_base, find_all, find_target
from objfs.control.caches import clear_clean_data, find_caches
from objfs.control.client import connect
from objfs.control.verifying import verified_from_json, verify_left_cache
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from objfs.cli.targets import Left, Target
    from objfs.control.caches import CacheFacts
    from objfs.control.verifying import VerifyResult


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
                "pins": _pins_of(one),
            }
            for one in found
        ]
        print_json(values)
        return 0
    if not found:
        sys.stdout.write(f"There are no caches below {base}.\n")
    for one in found:
        sys.stdout.write(
            f"{show_text(one.url)}: {show_bytes(one.clean_bytes)} cached, {show_bytes(one.staged_bytes)} "
            f"staged, {show_changes(one.waiting)} to upload, {'in use' if one.in_use else 'not mounted'}, "
            f"{one.path}\n"
        )
        for pin in _pins_of(one):
            sys.stdout.write(f"    {_describe_pin(pin)}\n")
    return 0


def clear(name: str, flags: Mapping[str, str]) -> int:
    """Delete one cache's clean data."""
    target = find_target(name, flags)
    if isinstance(target, Mounted):
        raise MountError(f"{target.mountpoint} is mounted; run 'objfs umount {target.mountpoint}' first.")
    path = _cache_of(target)
    sys.stdout.write(f"{show_text(target.name)}: {show_bytes(clear_clean_data(path))} deleted.\n")
    return 0


def verify(name: str | None, flags: Mapping[str, str], *, as_json: bool) -> int:
    """Read back one cache, or all that are mounted; the status is 1 if a change that waits is damaged."""
    targets = [find_target(name, flags)] if name is not None else _all_targets(flags)
    results = []
    for target in targets:
        with open_bar("verifying", quiet=as_json) as draw:
            result = _verify(target, draw)
        results.append({"name": target.name, **asdict(result)})
        if not as_json:
            _print_verified(target, result)
    if as_json:
        print_json(results)
    elif not targets:
        sys.stdout.write("There are no caches.\n")
    return int(any(result["bad_staged"] for result in results))


def _all_targets(flags: Mapping[str, str]) -> list[Target]:
    """All mounts, and all caches that are not in use."""
    mounted: list[Target] = [one for one in find_all(flags) if isinstance(one, Mounted)]
    in_use = {one.cache_path for one in mounted if isinstance(one, Mounted)}
    left = [one for one in find_caches(cache_base(flags)) if one.path not in in_use]
    return [*mounted, *(find_target(str(one.mountpoint), flags) for one in left)]


def _verify(target: Target, draw: Callable[[int, int], None]) -> VerifyResult:
    def on_step(done: VerifyResult) -> None:
        draw(done.checked_bytes, done.total_bytes)

    if isinstance(target, Mounted):
        with connect(target.socket) as client:
            answer = client.follow("verify", lambda step: on_step(verified_from_json(step)) if step else None)
        return verified_from_json(answer)
    return verify_left_cache(_cache_of(target), target.settings.cache_size_bytes, on_step)


def _cache_of(target: Left) -> Path:
    path = target.settings.cache_path
    if not path.is_dir():
        raise MountError(f"there is no cache of {target.settings.url} at {path}.")
    return path


def _print_verified(target: Target, result: VerifyResult) -> None:
    name = show_text(target.name)
    bad = (
        f"{result.bad_blocks:,} damaged and dropped, the store has them"
        if result.bad_blocks
        else "all are good"
    )
    sys.stdout.write(
        f"{name}: {result.checked_blocks:,} blocks read, {show_bytes(result.checked_bytes)}: {bad}; "
        f"{show_files(result.checked_staged)} to upload read, {len(result.bad_staged)} damaged.\n"
    )
    for path, why in result.bad_staged:
        sys.stderr.write(f"objfs: {name}: the change of {show_text(path)} is damaged: {why}.\n")


def _pins_of(one: CacheFacts) -> list[dict[str, Any]]:
    """Pins with their sizes, if the mount can be asked."""
    if one.pins and one.in_use:
        with suppress(MountError), Place(mountpoint=one.mountpoint, inner="").connect() as client:
            answer: list[dict[str, Any]] = client.ask("pins")["pins"]
            return answer
    return [{"path": path, "files": None, "bytes": None, "held_bytes": None} for path in one.pins]


def _describe_pin(pin: Mapping[str, Any]) -> str:
    name = show_text(pin["path"] or "/")
    if pin["bytes"] is None:
        return f"pinned: {name}"
    return (
        f"pinned: {name}: {show_files(pin['files'])}, {show_bytes(pin['bytes'])}, "
        f"{show_bytes(pin['held_bytes'])} of it here"
    )
