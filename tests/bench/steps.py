"""What is timed inside one process: many files written or read. Prints JSON; run by `Mount.step`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

_READ_BYTES = 1 << 20  # as dd bs=1M


def read_big(path: Path) -> dict[str, Any]:
    """Read one file in sequence into memory; the digest is taken afterwards."""
    room = bytearray(path.stat().st_size)
    view = memoryview(room)
    view[:] = bytes(len(room))  # so that its pages are there before the time runs
    position = 0
    begin_s = time.monotonic()
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(view[position : position + _READ_BYTES]):
            position += count
    seconds = time.monotonic() - begin_s
    return {"seconds": seconds, "digests": {path.name: hashlib.sha256(view[:position]).hexdigest()}}


def write_small(source: Path, target: Path) -> dict[str, Any]:
    """Write a file for each one in `source`, one after the other."""
    bodies = {path.name: path.read_bytes() for path in sorted(source.iterdir())}
    begin_s = time.monotonic()
    target.mkdir()
    for name, body in bodies.items():
        with (target / name).open("wb", buffering=0) as file:
            file.write(body)
    return {"seconds": time.monotonic() - begin_s}


def read_small(folder: Path) -> dict[str, Any]:
    """List a folder and read its files, one after the other."""
    begin_s = time.monotonic()
    bodies = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    seconds = time.monotonic() - begin_s
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()}
    return {"seconds": seconds, "digests": digests}


STEPS = {"read-big": read_big, "write-small": write_small, "read-small": read_small}


def main() -> None:
    """Run the named step."""
    step: Any = STEPS[sys.argv[1]]
    json.dump(step(*map(Path, sys.argv[2:])), sys.stdout)


if __name__ == "__main__":
    main()
