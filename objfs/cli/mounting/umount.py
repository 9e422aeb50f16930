"""`objfs umount`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.cli.progress import open_display
from objfs.cli.show import show_bytes, show_files
from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect, wait_for_end
from objfs.errors import MountError

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.control.client import ControlClient
    from objfs.control.values import DrainProgress

_END_TIMEOUT_S = 30.0  # after its last upload objfs only closes files
_ADVICE = "it stays mounted; 'objfs umount --no-drain' leaves them in the journal for the next mount."


def umount(path: Path, *, drain: bool) -> int:
    """Upload what waits, free the mountpoint, and wait until objfs is gone."""
    mountpoint = mounts.resolve_mountpoint(path)
    socket = protocol.socket_of(mountpoint)
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connect(socket))
        except NoAnswerError:
            return _without_daemon(mountpoint, socket)
        return _leave(client, mountpoint, drain=drain)


def _leave(client: ControlClient, mountpoint: Path, *, drain: bool) -> int:
    with open_display(_ADVICE) as display:
        if drain:
            display.follow(client.drain())
    client.unmount(drain=drain)
    with open_display(_ADVICE) as display:
        display.follow(client.progress_until_end())
    last = display.last
    if not wait_for_end(client.pid, _END_TIMEOUT_S):
        raise MountError(
            f"{mountpoint} is unmounted, but objfs (process {client.pid}) has not ended yet; see its log."
        )
    if last is not None and (last.waiting_files or last.waiting_changes):
        sys.stderr.write(f"objfs: {_left_over(last)}\n")
        return int(drain)
    return 0


def _left_over(last: DrainProgress) -> str:
    refused = f", {last.parked_count} of them refused by the store" if last.parked_count else ""
    files = f"{show_files(last.waiting_files)} ({show_bytes(last.waiting_bytes)})"
    return (
        f"{files} and {last.waiting_changes} other changes stay in the journal{refused}; "
        "the next mount of the same store, or 'objfs flush', goes on with them."
    )


def _without_daemon(mountpoint: Path, socket: Path) -> int:
    entry = mounts.find_mount(mountpoint)
    if entry is None or not (entry.fs_type == mounts.FUSE_TYPE or mounts.is_dead(mountpoint)):
        raise MountError(f"{mountpoint} is not mounted by objfs.")
    if not mounts.is_dead(mountpoint):
        raise MountError(
            f"the objfs of {mountpoint} does not answer at {socket}; "
            f"run 'fusermount3 -u {mountpoint}' and it leaves in order."
        )
    if not mounts.detach_by_force(mountpoint):
        raise MountError(
            f"{mountpoint} cannot be taken away; ask the administrator to run 'umount -l {mountpoint}'."
        )
    sys.stderr.write(
        f"objfs: the program behind {mountpoint} had gone; the mountpoint is free again, "
        "and the next mount uploads what was left.\n"
    )
    return 0
