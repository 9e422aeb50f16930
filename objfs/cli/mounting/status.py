"""`objfs status`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from objfs import mounts
from objfs.cli.show import print_json, show_bytes, show_changes, show_files, show_seconds, show_text
from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect, sockets_in
from objfs.control.values import status_to_json, unknown_mount
from objfs.errors import MountError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Group

    from objfs.control.values import MountStatus

_LITTLE_ROOM_BYTES = 1024 * 1024  # the most that the kernel hands over in one write
_PARKED_SHOWN = 5  # enough to see what they have in common


def status(path: Path | None, *, as_json: bool) -> int:
    """Show one mount, or all mounts of this user; the exit status is 1 for one mount that is dead."""
    found = collect() if path is None else [_find(path)]
    if as_json:
        print_json([status_to_json(one) for one in found])
    elif found:
        _print_tables(found)
    else:
        sys.stdout.write("Nothing is mounted.\n")
    return int(path is not None and found[0].state == "dead")


def collect() -> list[MountStatus]:
    """All mounts, also those that cannot be asked; sockets nobody listens at are removed."""
    found: list[MountStatus] = []
    folder = protocol.socket_folder()
    for socket in sockets_in(folder):
        try:
            with connect(socket) as client:
                found.append(client.status())
        except NoAnswerError:
            _remove_stale(socket)
    answered = {one.mountpoint for one in found}
    for entry in mounts.read_mounts():
        if entry.fs_type == mounts.FUSE_TYPE and str(entry.mountpoint) not in answered:
            if protocol.socket_name(entry.mountpoint) in {path.name for path in sockets_in(folder)}:
                found.append(unknown_mount(str(entry.mountpoint), entry.source, "silent"))
            elif mounts.is_dead(entry.mountpoint):
                found.append(unknown_mount(str(entry.mountpoint), entry.source, "dead"))
    return found


def _find(path: Path) -> MountStatus:
    mountpoint = mounts.resolve_mountpoint(path)
    socket = protocol.socket_of(mountpoint)
    try:
        with connect(socket) as client:
            return client.status()
    except NoAnswerError as error:
        entry = mounts.find_mount(mountpoint)
        if entry is None:
            raise MountError(f"{mountpoint} is not mounted by objfs.") from error
        if mounts.is_dead(mountpoint):
            return unknown_mount(str(mountpoint), entry.source, "dead")
        raise MountError(
            f"the mount at {mountpoint} does not answer; it may be stopped, or another user's."
        ) from error


def _remove_stale(socket: Path) -> None:
    import socket as sockets

    with (
        sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe,
        protocol.short_address(socket) as address,
    ):
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            socket.unlink(missing_ok=True)
        except OSError:
            return


def _print_tables(found: list[MountStatus]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for at, one in enumerate(found):
        if at:
            console.print()
        if console.is_terminal:
            console.print(_table(one, time.time()))
        else:
            sys.stdout.write(_plain(one, time.time()))


def _table(one: MountStatus, now_s: float) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text(show_text(one.mountpoint), style="bold")
    head.append(f"  {show_text(one.url)}", style="not bold")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=10)
    table.add_column(overflow="fold")
    for row in _rows(one, now_s):
        table.add_row(f"  {row.name}", Text(show_text(row.text), style=row.style))
    return Group(head, table)


def _plain(one: MountStatus, now_s: float) -> str:
    """For files and other programs, which fold no lines and find paths in one piece."""
    lines = [f"{show_text(one.mountpoint)}  {show_text(one.url)}"]
    lines += [f"  {row.name:<11}{show_text(row.text)}" for row in _rows(one, now_s)]
    return "".join(f"{line}\n" for line in lines)


class _Row(NamedTuple):
    """One line; `style` is "" for what is as it should be."""

    name: str
    text: str
    style: str = ""


def _rows(one: MountStatus, now_s: float) -> list[_Row]:
    if one.state == "dead":
        return [
            _Row(
                "state", "DEAD: its objfs has gone; 'objfs mount' or 'objfs umount' cleans it up", "bold red"
            )
        ]
    if one.state == "silent":
        return [
            _Row(
                "state", "SILENT: its objfs does not answer; is it stopped, or the machine very busy?", "red"
            )
        ]
    mode = "read-only" if one.read_only else f"write-{one.write_mode}"
    serving = f"{one.state} for {show_seconds(now_s - one.started_s)}, {mode}, process {one.pid}"
    return [
        _Row("state", serving, "" if one.state == "serving" else "yellow"),
        _store_row(one, now_s),
        _Row("to upload", _uploads_text(one)),
        _Row(
            "uploaded",
            f"{show_files(one.uploads.uploaded_files)}, {show_bytes(one.uploads.uploaded_bytes)}",
        ),
        *_parked_rows(one),
        *_conflict_rows(one),
        *_room_rows(one),
        _Row("cache", _cache_text(one)),
        _Row("", one.cache.path, "dim"),
        _Row("log", one.log_path, "dim"),
    ]


def _store_row(one: MountStatus, now_s: float) -> _Row:
    store = one.store
    at = f" at {store.endpoint_url}" if store.endpoint_url else ""
    if store.reachable and store.offline_since_s is None:
        return _Row("store", f"reachable{at}")
    since = ""
    if store.offline_since_s:
        clock = time.strftime("%H:%M:%S", time.localtime(store.offline_since_s))
        since = f" for {show_seconds(now_s - store.offline_since_s)}, since {clock}"
    why = f": {store.error.rstrip('.')}." if store.error else "."
    if store.reachable:
        return _Row("store", f"reachable{at}, but UPLOADS FAIL{since}{why}", "bold yellow")
    advice = "" if one.read_only else " Cached files can be read, changes wait here and go out by themselves."
    return _Row("store", f"NOT REACHABLE{at}{since}{why}{advice}", "bold red")


def _uploads_text(one: MountStatus) -> str:
    uploads = one.uploads
    parts = []
    if uploads.waiting_files:
        parts.append(f"{show_files(uploads.waiting_files)}, {show_bytes(uploads.waiting_bytes)}")
    if uploads.waiting_changes:
        parts.append(f"{show_changes(uploads.waiting_changes)} of names and attributes")
    if uploads.in_flight_files:
        parts.append(f"{uploads.in_flight_files} on their way")
    return ", ".join(parts) or "nothing"


def _parked_rows(one: MountStatus) -> list[_Row]:
    count = one.uploads.parked_count
    if not count:
        return []
    advice = "their data are kept. Mend the cause, then 'objfs flush --retry-parked'; or 'objfs rescue'."
    rows = [_Row("parked", f"{show_changes(count)} REFUSED by the store; {advice}", "bold red")]
    shown = one.uploads.parked[:_PARKED_SHOWN]
    rows += [_Row("", f"{parked.operation} {parked.key}: {parked.error}") for parked in shown]
    if count > len(shown):
        rows.append(_Row("", f"... and {count - len(shown):,} more; 'objfs status --json' has them"))
    return rows


def _conflict_rows(one: MountStatus) -> list[_Row]:
    count = one.uploads.conflicts
    if not count:
        return []
    text = f"{show_files(count)} changed by somebody else first; both versions are kept: 'objfs conflicts'"
    return [_Row("conflicts", text, "bold yellow")]


def _room_rows(one: MountStatus) -> list[_Row]:
    cache = one.cache
    if one.read_only or cache.room_bytes is None or cache.room_bytes >= _LITTLE_ROOM_BYTES:
        return []
    is_disk = cache.staged_limit_bytes - cache.staged_bytes >= _LITTLE_ROOM_BYTES
    full = "on the disk of the cache; free some there" if is_disk else "in the cache; see --cache-size"
    text = f"NONE {full}, or wait for uploads: until then programs get 'No space left on device'."
    return [_Row("room", text, "bold red")]


def _cache_text(one: MountStatus) -> str:
    cache, rate = one.cache, one.cache.hit_rate
    used = f"{show_bytes(cache.bytes)} of {show_bytes(cache.limit_bytes)}"
    staged = f", {show_bytes(cache.staged_bytes)} not uploaded yet" if cache.staged_bytes else ""
    return used + staged + ("" if rate is None else f", hit rate {rate:.0%}")
