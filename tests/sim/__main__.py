"""Runs many seeds; a failing one is told with the line that runs it again."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING

from tests.sim.others import (
    OthersPlan,
    on_a_bad_disk,
    simulate_others,
    with_a_rival,
    with_lives_beside,
    with_moved_folders,
    with_stalls,
)
from tests.sim.plans import Plan, with_a_bad_disk, with_forks, with_moves, with_rules
from tests.sim.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Callable


def _plain(seed: int, log: Callable[[str], None]) -> None:
    simulate(Plan.of(seed), log)


def _others(seed: int, log: Callable[[str], None]) -> None:
    simulate_others(OthersPlan.of(seed), log)


def _disk(seed: int, log: Callable[[str], None]) -> None:
    simulate(with_a_bad_disk(Plan.of(seed)), log)


def _stalls(seed: int, log: Callable[[str], None]) -> None:
    simulate_others(with_stalls(OthersPlan.of(seed)), log)


def _moves(seed: int, log: Callable[[str], None]) -> None:
    simulate(with_moves(Plan.of(seed)), log)


def _forks(seed: int, log: Callable[[str], None]) -> None:
    simulate(with_forks(Plan.of(seed)), log)


def _folders(seed: int, log: Callable[[str], None]) -> None:
    simulate_others(with_moved_folders(OthersPlan.of(seed)), log)


def _rules(seed: int, log: Callable[[str], None]) -> None:
    simulate(with_rules(Plan.of(seed)), log)


def _rival(seed: int, log: Callable[[str], None]) -> None:
    simulate_others(with_a_rival(OthersPlan.of(seed)), log)


def _disk_and_others(seed: int, log: Callable[[str], None]) -> None:
    simulate_others(on_a_bad_disk(OthersPlan.of(seed)), log)


def _others_forks(seed: int, log: Callable[[str], None]) -> None:
    simulate_others(with_lives_beside(OthersPlan.of(seed)), log)


KINDS = {
    "plain": _plain,
    "others": _others,
    "disk": _disk,
    "stalls": _stalls,
    "moves": _moves,
    "forks": _forks,
    "folders": _folders,
    "rules": _rules,
    "rival": _rival,
    "forks-and-others": _others_forks,
    "disk-and-others": _disk_and_others,
}


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
    logging.getLogger("objfs").setLevel(logging.CRITICAL)
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
        _tell(f"{''.join(tell(error))[-3000:]}\nagain: python -m tests.sim --kind {kind} --seed {seed}")
        return False
    return True


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of names is part of a run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])  # noqa: S606  # ourselves
    sys.exit(main())
