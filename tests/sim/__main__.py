"""Runs many seeds; a failing one is told with the line that runs it again."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback

from tests.sim.kinds import KINDS, again


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Run seeds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, told in full")
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all", help="what happens in them")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first failure")
    arguments = parser.parse_args()
    kinds = list(KINDS) if arguments.kind == "all" else [arguments.kind]
    for name in ("objfs", "objfs_cache"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if arguments.seed is not None:
        for kind in kinds:
            KINDS[kind](arguments.seed, _tell)
        return 0
    start_s, failed, count = time.monotonic(), 0, 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        for kind in kinds:
            count += 1
            failed += not _holds(kind, seed, briefly=arguments.go_on)
        if failed and not arguments.go_on:
            break
    _tell(f"{count} runs, {failed} failed, {time.monotonic() - start_s:.1f} s")
    return 1 if failed else 0


def _holds(kind: str, seed: int, *, briefly: bool) -> bool:
    try:
        KINDS[kind](seed, lambda _line: None)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        tell = traceback.format_exception_only if briefly else traceback.format_exception
        _tell(f"{''.join(tell(error))[-3000:]}\n{again(kind, seed)}")
        return False
    return True


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of names is part of a run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])  # noqa: S606  # ourselves
    sys.exit(main())
