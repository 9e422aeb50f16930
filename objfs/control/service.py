"""Tells the service manager (systemd) how the mount is: sd_notify(3), and a watchdog with a real check."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Protocol

import trio
from sdnotify import SystemdNotifier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from objfs.control.values import DrainProgress

log = logging.getLogger("objfs.service")

STATUS_INTERVAL_S = 5.0  # of STATUS=, for people; the watchdog may want more
CHECK_TIMEOUT_S = 20.0  # statvfs asks no store: even a busy machine answers sooner
STOP_ROOM_S = 15.0  # what leaving takes besides the uploads


class Watched(Protocol):
    """What is told of a mount."""

    @property
    def leaving(self) -> bool:
        """Whether it is no longer mounted."""
        ...

    def progress(self) -> DrainProgress:
        """How far the uploads are."""
        ...


class Service:
    """The line to the service manager; silent where there is none.

    Args:
        environment: with `NOTIFY_SOCKET` and `WATCHDOG_USEC`, as systemd sets them.
        mountpoint: checked for the watchdog.
        drain_timeout_s: how long uploads may go on while the service stops.
    """

    def __init__(self, environment: Mapping[str, str], mountpoint: Path, *, drain_timeout_s: float) -> None:
        self._notifier = SystemdNotifier() if environment.get("NOTIFY_SOCKET") else None
        self._mountpoint = mountpoint
        self._drain_timeout_s = drain_timeout_s
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        self._interval_s = STATUS_INTERVAL_S
        if watchdog_us.isdigit() and int(watchdog_us):
            self._interval_s = min(self._interval_s, int(watchdog_us) / 1e6 / 3)

    def close(self) -> None:
        """Give the socket back."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()

    def ready(self) -> None:
        """The mount answers."""
        self._tell("READY=1")

    async def run(self, mount: Watched) -> None:
        """Tell the state every few seconds until cancelled; the watchdog only while the mount answers."""
        if self._notifier is None:
            return
        told_stop = False
        while True:
            self._tell(f"STATUS={describe(mount.progress(), leaving=mount.leaving)}")
            if mount.leaving and not told_stop:
                told_stop = True
                extra_us = int((self._drain_timeout_s + STOP_ROOM_S) * 1e6)
                self._tell(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={extra_us}")
            elif mount.leaving or await self._answers():
                self._tell("WATCHDOG=1")
            await trio.sleep(self._interval_s if not mount.leaving else 1.0)

    def last_words(self, left: DrainProgress) -> None:
        """What stays behind when the process ends."""
        self._tell(f"STATUS={describe(left, leaving=True)}")

    async def _answers(self) -> bool:
        """Whether the kernel gets answers from this mount."""
        with trio.move_on_after(CHECK_TIMEOUT_S):
            try:
                await trio.to_thread.run_sync(os.statvfs, self._mountpoint, abandon_on_cancel=True)
            except OSError as error:
                log.error("the mount does not answer: %s", error)
                return False
            return True
        log.error("the mount has not answered for %.0f s", CHECK_TIMEOUT_S)
        return False

    def _tell(self, text: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(text)


def describe(progress: DrainProgress, *, leaving: bool) -> str:
    """One line on how the uploads are."""
    waiting = f"{progress.waiting_files} files ({progress.waiting_bytes} bytes)"
    if progress.waiting_changes:
        waiting += f" and {progress.waiting_changes} other changes"
    parked = f"; {progress.parked_count} refused by the store" if progress.parked_count else ""
    if not progress.waiting_files and not progress.waiting_changes:
        return "unmounted; everything is in the store" if leaving else "everything is in the store"
    if leaving:
        return f"unmounted; {waiting} left to upload{parked}"
    if progress.error:
        return f"the store does not answer; {waiting} wait{parked}"
    return f"{waiting} to upload{parked}"
