"""`python -m tests.power`: power losses by the thousand."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from tests.power.sweep import make_recording, sweep


def main() -> None:
    """Sweep seeds, and print what is wrong."""
    parser = argparse.ArgumentParser(prog="tests.power", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="first seed; 0 is the chosen scenes")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--every", type=int, default=1, help="try one step in so many")
    parser.add_argument("--by-chance", type=int, default=2, help="random states per step and kind")
    parser.add_argument("--show", type=int, default=5, help="failures shown per seed")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what is wrong is told below
    failures = 0
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory(prefix="objfs-power-", dir="/dev/shm") as name:
            recording = make_recording(Path(name) / "run", seed)
            tried, lines = sweep(
                recording, Path(name), seed, every=options.every, by_chance=options.by_chance
            )
        failures += len(lines)
        sys.stdout.write(f"seed {seed}: {len(recording)} steps, {tried} states, {len(lines)} wrong\n")
        for line in lines[: options.show]:
            sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
