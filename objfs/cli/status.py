"""`objfs status`."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from objfs.cli import mounts
from objfs.cli.show import show_bytes, show_files, show_seconds, show_text
from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect, sockets_in
from objfs.control.values import status_to_json, unknown_mount
from objfs.errors import MountError

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from objfs.control.values import MountStatus


def status(path: Path | None, *, as_json: bool) -> int:
    """Show one mount, or all mounts of this user; the exit status is 1 for one mount that is dead."""
    found = collect() if path is None else [_find(path)]
    if as_json:
        sys.stdout.write(json.dumps([status_to_json(one) for one in found], indent=2) + "\n")
    elif found:
        _print_tables(found)
    else:
        sys.stdout.write("Nothing is mounted.\n")
    return int(path is not None and found[0].state == "dead")


def collect() -> list[MountStatus]:
    """All mounts, also those that cannot be asked; sockets nobody listens at are removed."""
    found: list[MountStatus] = []
    folder = protocol.runtime_dir(os.environ, os.geteuid())
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
    socket = protocol.runtime_dir(os.environ, os.geteuid()) / protocol.socket_name(mountpoint)
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

    console = Console()
    for one in found:
        console.print(_table(one))


def _table(one: MountStatus) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_header=True, title_justify="left", pad_edge=False)
    table.add_column(escape(show_text(one.mountpoint)), style="bold", no_wrap=True)
    table.add_column(escape(show_text(one.url)), overflow="fold")
    for name, text in _rows(one, time.time()):
        table.add_row(name, escape(show_text(text)))
    return table


def _rows(one: MountStatus, now_s: float) -> list[tuple[str, str]]:
    if one.state == "dead":
        return [("state", "dead: its objfs has gone; 'objfs mount' or 'objfs umount' cleans it up")]
    if one.state == "silent":
        return [("state", "its objfs does not answer; is it stopped, or the machine very busy?")]
    mode = "read-only" if one.read_only else f"write-{one.write_mode}"
    rows = [
        ("state", f"{one.state} for {show_seconds(now_s - one.started_s)}, {mode}, process {one.pid}"),
        ("store", _store_text(one, now_s)),
        ("to upload", _uploads_text(one)),
        ("uploaded", f"{show_files(one.uploads.uploaded_files)}, {show_bytes(one.uploads.uploaded_bytes)}"),
        ("cache", _cache_text(one)),
        ("conflicts", f"{one.uploads.conflicts}"),
        ("parked", f"{one.uploads.parked_count}"),
    ]
    rows += [("", f"{parked.operation} {parked.key}: {parked.error}") for parked in one.uploads.parked]
    return [*rows, ("log", one.log_path)]


def _store_text(one: MountStatus, now_s: float) -> str:
    at = f" at {one.store.endpoint_url}" if one.store.endpoint_url else ""
    if one.store.reachable:
        return f"reachable{at}"
    since = f" for {show_seconds(now_s - one.store.offline_since_s)}" if one.store.offline_since_s else ""
    return f"NOT REACHABLE{at}{since}{f': {one.store.error}' if one.store.error else ''}"


def _uploads_text(one: MountStatus) -> str:
    if not one.uploads.waiting_files:
        return "nothing"
    under_way = f", {one.uploads.in_flight_files} under way" if one.uploads.in_flight_files else ""
    return f"{show_files(one.uploads.waiting_files)}, {show_bytes(one.uploads.waiting_bytes)}{under_way}"


def _cache_text(one: MountStatus) -> str:
    rate = one.cache.hit_rate
    used = f"{show_bytes(one.cache.bytes)} of {show_bytes(one.cache.limit_bytes)}"
    return f"{used}, hit rate {'-' if rate is None else f'{rate:.0%}'}, {one.cache.path}"
