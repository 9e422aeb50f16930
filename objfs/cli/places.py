"""Paths that people name -> the mount they are in, and the path below its root."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect
from objfs.errors import MountError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from objfs.control.client import ControlClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A path in a mount; `inner` is below the mount's root, "" for the root itself."""

    mountpoint: Path
    inner: str

    @contextmanager
    def connect(self) -> Iterator[ControlClient]:
        """A connection to the mount.

        Raises:
            MountError: it does not answer, or stopped to.
        """
        try:
            with connect(protocol.socket_of(self.mountpoint)) as client:
                yield client
        except NoAnswerError as error:
            raise explain_silence(self.mountpoint, error) from error


def locate(text: str) -> Place:
    """Where a path is.

    Raises:
        MountError: it is in no mount of objfs.
        UsageError: it is empty, as an unset variable of a shell is.
    """
    if not text:
        raise UsageError("An empty path names nothing; is a variable unset?")
    path = mounts.resolve_mountpoint(Path(text))
    place = _place_of(path)
    if place is None:
        raise MountError(f"{text} is not in a mount of objfs; 'objfs status' lists the mounts.")
    resolved = _place_of(Path(os.path.realpath(path))) if place.inner else place
    return resolved or place


def locate_all(texts: Sequence[str]) -> dict[Path, list[Place]]:
    """All places, by mountpoint, in their order."""
    found: dict[Path, list[Place]] = {}
    for text in texts:
        place = locate(text)
        found.setdefault(place.mountpoint, []).append(place)
    return found


def explain_silence(mountpoint: Path, error: NoAnswerError) -> MountError:
    """What to say of a mount that does not answer, or is none."""
    if mounts.find_mount(mountpoint) is None:
        return MountError(f"{mountpoint} is not mounted by objfs; 'objfs status' lists the mounts.")
    return MountError(
        f"the objfs of {mountpoint} does not answer ({str(error).rstrip('.')}); see 'objfs status'."
    )


def _place_of(path: Path) -> Place | None:
    found = [
        entry.mountpoint
        for entry in mounts.read_mounts()
        if entry.fs_type == mounts.FUSE_TYPE and path.is_relative_to(entry.mountpoint)
    ]
    if not found:
        return None
    mountpoint = max(found, key=lambda one: len(one.parts))
    inner = str(path.relative_to(mountpoint))
    return Place(mountpoint=mountpoint, inner="" if inner == "." else inner)
