"""Where control sockets are and what goes over them: one JSON object per line, of bounded length.

A request is `{"command": name, ...}`. Answers are any number of `{"progress": {...}}` and then one
`{"ok": {...}}` or `{"error": "one sentence"}`. Commands:

    ping                       -> ok {"pid"}
    status                     -> ok: values.MountStatus
    drain {"retry_parked": bool} -> progress: values.DrainProgress ..., ok {}
    figures                    -> ok: figures.Figures
    stat {"path"}              -> ok: objfs.vfs.inspection.FileStatus; the path is below the mount's root
    trace {"path", "operations", "least_s"} -> progress {}, then {"event": tracing.TraceEvent} and
                                  {"dropped": how many so far} until the client leaves
    unmount {"drain": bool}    -> ok {} once the mountpoint is free; the connection ends when objfs does
    warm {"paths": [str]}      -> progress, ok: vfs.warming.WarmCounts; paths are below the mount's root
    pin {"paths": [str]}       -> progress, ok: likewise, once all is fetched; pinned it is before
    unpin {"paths": [str]}     -> ok {}
    pins                       -> ok {"pins": [pinning.PinFacts], "room_bytes"}
    verify                     -> progress, ok: verifying.VerifyResult
    remount {"options": {name: text}} -> ok {"changed": {name: [before, after]}}
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_LINE_BYTES = 1024 * 1024  # a status with 100 parked keys of 1,024 bytes, escaped, is below 700 kB
MAX_REQUEST_BYTES = 256 * 1024  # a command and its arguments: sixty paths of the greatest length
_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


def runtime_dir(environment: Mapping[str, str], uid: int) -> Path:
    """The folder of this user's control sockets."""
    if override := environment.get("OBJFS_RUNTIME_DIR"):
        return Path(override)
    if uid == 0:
        return Path("/run/objfs")
    if base := environment.get("XDG_RUNTIME_DIR"):
        return Path(base) / "objfs"
    return Path(f"/tmp/objfs-{uid}")  # noqa: S108  # `ensure_private` refuses it if it is anybody else's


def ensure_private(folder: Path) -> None:
    """Create the folder for its owner alone.

    Raises:
        MountError: it is there and is a symlink, or belongs to somebody else, or is open to others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise MountError(
            f"the folder of control sockets {folder} cannot be made: {error.strerror}."
        ) from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise MountError(f"{folder} is not a folder of yours, so it cannot hold control sockets; remove it.")
    if facts.st_mode & 0o077:
        folder.chmod(0o700)


def socket_name(mountpoint: Path) -> str:
    """File name of the control socket of the mount at this absolute path."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16] + ".sock"


def socket_folder() -> Path:
    """The folder of control sockets of whoever runs this."""
    return runtime_dir(os.environ, os.geteuid())


def socket_of(mountpoint: Path) -> Path:
    """The control socket of the mount at this absolute path."""
    return socket_folder() / socket_name(mountpoint)


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """A socket's path by way of its folder's descriptor: a unix address holds 107 bytes only (unix(7))."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class HasOptions(Protocol):
    """A socket, of the standard library or of trio."""

    def getsockopt(self, level: int, option: int, buffersize: int, /) -> bytes | int: ...


def peer_pid_and_uid(connection: HasOptions) -> tuple[int, int]:
    """Process and user at the other end."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(data if isinstance(data, bytes) else b"")
    return pid, uid


def encode_line(value: Mapping[str, Any]) -> bytes:
    """One message as it goes over the socket."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def decode_line(line: bytes) -> dict[str, Any]:
    """The inverse of `encode_line`; raises ValueError for anything but a JSON object."""
    value = json.loads(line)
    if not isinstance(value, dict):
        raise ValueError("a message is a JSON object")
    return value
