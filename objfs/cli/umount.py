"""`objfs umount`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from objfs.cli import mounts
from objfs.cli.show import show_bytes, show_files, show_text
from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect, wait_for_end
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from objfs.control.client import ControlClient
    from objfs.control.values import DrainProgress

_END_TIMEOUT_S = 30.0  # after its last upload objfs only closes files
_STALLED_LIMIT_S = 60.0  # longer than a restart of a server takes; scripts must not hang for ever
_PLAIN_INTERVAL_S = 3.0  # between lines of progress where no bar can be shown


def umount(path: Path, *, drain: bool) -> int:
    """Upload what waits, free the mountpoint, and wait until objfs is gone."""
    mountpoint = mounts.resolve_mountpoint(path)
    socket = protocol.runtime_dir(os.environ, os.geteuid()) / protocol.socket_name(mountpoint)
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connect(socket))
        except NoAnswerError:
            return _without_daemon(mountpoint, socket)
        return _leave(client, mountpoint, drain=drain)


def _leave(client: ControlClient, mountpoint: Path, *, drain: bool) -> int:
    if drain:
        _show(client.drain())
    client.unmount(drain=drain)
    last = _show(client.progress_until_end())
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
        "the next mount of the same store goes on with them."
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


def _show(steps: Iterable[DrainProgress]) -> DrainProgress | None:
    """Follow the progress with a bar, or with plain lines where stderr is no terminal; returns the last."""
    return _show_bar(steps) if sys.stderr.isatty() else _show_lines(steps, time.monotonic)


def _show_lines(steps: Iterable[DrainProgress], clock: Callable[[], float]) -> DrainProgress | None:
    step = None
    next_line_s = clock() + _PLAIN_INTERVAL_S
    for step in _until_stalled(steps, clock):
        if step.waiting_files and clock() >= next_line_s:
            sys.stderr.write(f"objfs: {_describe(step)}\n")
            next_line_s = clock() + _PLAIN_INTERVAL_S
    return step


def _show_bar(steps: Iterable[DrainProgress]) -> DrainProgress | None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    step, before_bytes = None, None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("uploading", total=None)
        for step in _until_stalled(steps, time.monotonic):
            before_bytes = step.uploaded_bytes if before_bytes is None else before_bytes
            done = step.uploaded_bytes - before_bytes
            bar.update(
                task, description=_describe(step), completed=done, total=max(done + step.waiting_bytes, 1)
            )
    return step


def _until_stalled(steps: Iterable[DrainProgress], clock: Callable[[], float]) -> Iterator[DrainProgress]:
    """The same steps; raises MountError once the store is away and nothing moves for a while."""
    last, since_s = None, clock()
    for step in steps:
        if step.error is None or (step.uploaded_bytes, step.waiting_changes) != last:
            last, since_s = (step.uploaded_bytes, step.waiting_changes), clock()
        elif clock() - since_s > _STALLED_LIMIT_S:
            raise MountError(
                f"the store does not answer ({step.error}) and {show_files(step.waiting_files)} wait; "
                "it stays mounted; 'objfs umount --no-drain' leaves them in the journal for the next mount."
            )
        yield step


def _describe(step: DrainProgress) -> str:
    left = f"{show_files(step.waiting_files)} ({show_bytes(step.waiting_bytes)}) left to upload"
    return f"{left}; the store does not answer: {show_text(step.error)}" if step.error else left
