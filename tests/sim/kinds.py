"""The kinds of simulation by name: what a seed of each does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim import plans
from tests.sim.others import (
    OthersPlan,
    on_a_bad_disk,
    simulate_others,
    with_a_rival,
    with_hollow_prefixes,
    with_lives_beside,
    with_moved_folders,
    with_stalls,
    with_stays,
)
from tests.sim.plans import Plan, with_a_bad_disk, with_cached_blocks, with_forks, with_moves, with_rules
from tests.sim.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[int, Callable[[str], None]], None]


def _alone(change: Callable[[Plan], Plan]) -> Run:
    return lambda seed, log: simulate(change(Plan.of(seed)), log)


def _among(change: Callable[[OthersPlan], OthersPlan]) -> Run:
    return lambda seed, log: simulate_others(change(OthersPlan.of(seed)), log)


KINDS: dict[str, Run] = {
    "plain": _alone(lambda plan: plan),
    "others": _among(lambda plan: plan),
    "disk": _alone(with_a_bad_disk),
    "stalls": _among(with_stalls),
    "moves": _alone(with_moves),
    "forks": _alone(with_forks),
    "folders": _among(with_moved_folders),
    "rules": _alone(with_rules),
    "cached": _alone(with_cached_blocks),
    "dark": _alone(plans.in_the_dark),
    "disk-in-the-dark": _alone(lambda plan: with_a_bad_disk(plans.in_the_dark(plan))),
    "hollow-in-the-dark": _alone(lambda plan: plans.with_hollow_prefixes(plans.in_the_dark(plan))),
    "hollow": _alone(plans.with_hollow_prefixes),
    "rival": _among(with_a_rival),
    "stays": _among(with_stays),
    "forks-and-others": _among(with_lives_beside),
    "disk-and-others": _among(on_a_bad_disk),
    "hollow-and-others": _among(with_hollow_prefixes),
}


def again(kind: str, seed: int) -> str:
    """The line that runs a seed again."""
    return f"again: python -m tests.sim --kind {kind} --seed {seed}"
