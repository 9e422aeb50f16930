"""Runs many seeds; a failing one is told with the line that runs it again."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback

from tests.sim.simulation import Plan, simulate


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Run seeds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, told in full")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first failure")
    arguments = parser.parse_args()
    logging.getLogger("objfs").setLevel(logging.CRITICAL)
    if arguments.seed is not None:
        plan = Plan.of(arguments.seed)
        sys.stdout.write(f"{plan}\n")
        simulate(plan, _tell)
        return 0
    start_s, failed, seed = time.monotonic(), 0, arguments.first
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        try:
            simulate(Plan.of(seed))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed += 1
            lines = (
                traceback.format_exception_only(error)
                if arguments.go_on
                else traceback.format_exception(error)
            )
            sys.stdout.write(f"{''.join(lines)[-3000:]}\nagain: python -m tests.sim --seed {seed}\n")
            if not arguments.go_on:
                break
    count = seed - arguments.first + 1
    sys.stdout.write(f"{count} seeds, {failed} failed, {time.monotonic() - start_s:.1f} s\n")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of names is part of a run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])  # noqa: S606  # ourselves
    sys.exit(main())
