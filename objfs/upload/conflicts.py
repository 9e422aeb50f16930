"""Names of conflict copies."""

from __future__ import annotations

import os
import socket
import time

NAME_MAX_BYTES = 255  # as everywhere on Linux (limits.h)


def conflict_path(path: str, now_s: float, number: int = 0) -> str:
    """`name.conflict-<host>-<UTC time>[-n]` beside a path, cut to 255 bytes."""
    folder, slash, name = path.rpartition("/")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c in "-_")[:64] or "host"
    suffix = f".conflict-{host}-{stamp}" + (f"-{number}" if number else "")
    kept = os.fsencode(name)[: NAME_MAX_BYTES - len(os.fsencode(suffix))]
    return f"{folder}{slash}{kept.decode(errors='ignore')}{suffix}"
