"""What a machine does to a daemon: system calls that fail while files in a folder say so.

Python imports it at its start where PYTHONPATH leads here. The files: `names` (nothing can be resolved),
and `blocks`, `staging`, `journal` (the disk fails under that part of the cache).
"""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from pathlib import Path
from typing import Any

HOST = "store.test"  # resolved to this machine, while anything is
_FAULTS = Path(os.environ.get("OBJFS_TEST_FAULTS", os.devnull))
_CALLS = ("read", "pread", "write", "pwrite", "fsync", "fdatasync")


def _is_set(fault: str) -> bool:
    return (_FAULTS / fault).exists()


def _resolve(host: Any, *arguments: Any, real: Any = socket.getaddrinfo, **named: Any) -> Any:  # noqa: ANN401
    if host == HOST:
        if _is_set("names"):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        host = "127.0.0.1"
    return real(host, *arguments, **named)


def _fail_on_disk(path: str) -> None:
    for part in ("blocks", "staging", "journal"):
        if f"/{part}/" in path and _is_set(part):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _failing(real: Any) -> Any:  # noqa: ANN401
    def call(descriptor: int, *arguments: Any) -> Any:  # noqa: ANN401
        _fail_on_disk(os.readlink(f"/proc/self/fd/{descriptor}"))
        return real(descriptor, *arguments)

    return call


class _Connection(sqlite3.Connection):
    path = ""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:  # noqa: ANN401
        try:
            _fail_on_disk(self.path)
        except OSError as error:
            raise sqlite3.OperationalError("disk I/O error") from error
        return super().execute(*arguments)


def _connect(path: Any, *arguments: Any, real: Any = sqlite3.connect, **named: Any) -> sqlite3.Connection:  # noqa: ANN401
    connection: _Connection = real(path, *arguments, **{"factory": _Connection, **named})
    connection.path = os.fspath(path)
    return connection


if os.path.isdir(_FAULTS):
    socket.getaddrinfo = _resolve
    sqlite3.connect = _connect  # type: ignore[assignment]  # the same but for its overloads
    for _name in _CALLS:
        setattr(os, _name, _failing(getattr(os, _name)))
