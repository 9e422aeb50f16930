"""What the seeds of the simulation do, by kind."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from objfs.config.rules import build_rule
from objfs.store.values import Capabilities
from objfs.upload.rules import build_rule_set
from tests.sim.mounting import MountOptions
from tests.sim.program import EVERYTHING, LABELS, MOVES, MOVES_OF_OPEN_FILES, NAMES
from tests.sim.store import FAIR, Weather, without_conditions

if TYPE_CHECKING:
    from collections.abc import Mapping

RULES: tuple[tuple[Mapping[str, object], ...], ...] = (
    (),
    ({"glob": "*", "compress": "zstd"},),
    ({"glob": "*", "expire_after": "30d", "metadata": {"kind": "rule"}},),
    ({"glob": "a*", "compress": "zstd", "expire_idle": "30d"}, {"glob": "*", "tags": {"kind": "rule"}}),
)
FULL = Capabilities(put_conditions=True, complete_conditions=True, copy_conditions=True)
LIKE_MINIO = replace(FULL, copy_conditions=False)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one seed does.

    Attributes:
        moves: directories are renamed all the time: after a start, everything is looked at twice.
        habits, names, depth: of the programs.
        forks: most lives beside the one, from pictures taken at any step.
        refused: the share of keys that the store refuses to change, others every few seconds.
        stale_s: listings show the store as it was up to so long ago.
        away_s: how long after its start the store takes no changes.
        dark: for some time at the start of each life, and later, the store answers nothing.
    """

    seed: int
    operations: int
    programs: int
    kills: tuple[int, ...]
    weather: Weather
    capabilities: Capabilities
    content_etags: bool
    options: MountOptions
    disk_failures: float = 0.0
    moves: bool = False
    forks: int = 0
    refused: float = 0.0
    away_s: float = 0.0
    stale_s: float = 0.0
    dark: bool = False
    habits: Mapping[str, int] = field(default_factory=lambda: EVERYTHING)
    names: int = len(NAMES)
    depth: int = 3

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The plan of a seed."""
        dice = random.Random(seed)
        capabilities = dice.choice(
            (FULL, LIKE_MINIO, replace(FULL, listing_metadata=True), without_conditions(FULL))
        )
        weather = dice.choice(
            (
                FAIR,
                Weather(refused=0.03, lost=0.03),
                Weather(refused=0.1, lost=0.1, slow=0.02),
                Weather(lost=0.15, attempts=1),
            )
        )
        kills = tuple(dice.choice((30, 150, 600, 2000)) for _ in range(dice.choice((0, 1, 1, 2, 3))))
        return cls(
            seed=seed,
            operations=dice.choice((30, 60, 120)),
            programs=dice.choice((1, 1, 2, 3)),
            kills=tuple(dice.randint(1, most) for most in kills),
            weather=weather,
            capabilities=capabilities,
            content_etags=dice.random() < 0.5,
            options=MountOptions(
                delay_s=dice.choice((0.0, 0.5, 2.0)),
                parallel_operations=dice.choice((1, 8)),
                metadata_ttl_s=dice.choice((0.5, 5.0)),
            ),
        )


def with_a_bad_disk(plan: Plan) -> Plan:
    """The same on a disk that fails now and then."""
    return replace(plan, disk_failures=random.Random(f"disk {plan.seed}").choice((0.003, 0.01, 0.03)))


def with_moves(plan: Plan) -> Plan:
    """Programs that move, remove and remake directories under few names, and many kills."""
    dice = random.Random(f"moves {plan.seed}")
    return replace(
        plan,
        moves=True,
        habits=MOVES,
        names=4,
        operations=dice.choice((60, 150)),
        kills=tuple(dice.randint(1, dice.choice((30, 100, 300))) for _ in range(dice.choice((2, 4, 6)))),
        weather=dice.choice((FAIR, plan.weather, Weather(latency_s=(0.1, 1.0)))),
        options=replace(plan.options, delay_s=dice.choice((0.0, 0.5, 5.0, 60.0))),
    )


def with_forks(plan: Plan) -> Plan:
    """Lives beside the one, from pictures taken at any moment; and more that may go wrong."""
    dice = random.Random(f"forks {plan.seed}")
    plan = with_moves(plan)
    return replace(
        plan,
        forks=12,
        habits=MOVES_OF_OPEN_FILES,
        kills=plan.kills[: dice.choice((0, 1, 3))],
        refused=dice.choice((0.0, 0.0, 0.05, 0.2)),
        names=dice.choice((3, 4, 6)),
        depth=dice.choice((3, 3, 5)),
        disk_failures=dice.choice((0.0, 0.0, 0.0, 0.01)),
        options=replace(plan.options, through=dice.random() < 0.15),
    )


def with_cached_blocks(plan: Plan) -> Plan:
    """The same over a cache of blocks, sometimes a small one, that outlives kills."""
    dice = random.Random(f"cached {plan.seed}")
    plan = dice.choice((replace, with_forks, with_rules))(plan)
    return replace(plan, options=replace(plan.options, cache_bytes=dice.choice((200_000, 2_000_000))))


def in_the_dark(plan: Plan) -> Plan:
    """The same where the store is away now and then, and a cache of metadata outlives kills."""
    dice = random.Random(f"dark {plan.seed}")
    plan = dice.choice((replace, with_moves, with_forks, with_cached_blocks))(plan)
    if plan.weather == FAIR:
        plan = replace(plan, weather=Weather(refused=0.001))
    return replace(
        plan,
        dark=True,
        stale_s=0.0,
        capabilities=replace(plan.capabilities, listing_consistent=True),
        options=replace(plan.options, metadata=True),
    )


def with_hollow_prefixes(plan: Plan) -> Plan:
    """Mostly moves, in a store where folders stay when all in them is gone, and are told by listings."""
    plan = random.Random(f"hollow {plan.seed}").choice((replace, with_moves, with_forks))(plan)
    return replace(plan, capabilities=replace(plan.capabilities, file_over_prefix=False))


def with_rules(plan: Plan) -> Plan:
    """Files are stored by rules and bear attributes of all kinds; some stores' listings come behind."""
    dice = random.Random(f"rules {plan.seed}")
    plan = with_forks(plan) if dice.random() < 0.7 else plan
    stale_s = dice.choice((0.0, 0.0, 10.0))
    capabilities = plan.capabilities
    if stale_s:
        capabilities = replace(capabilities, listing_consistent=False, listing_metadata=False)
    rules = [build_rule(values) for values in dice.choice(RULES)]
    return replace(
        plan,
        habits={**plan.habits, **LABELS},
        forks=min(plan.forks, 6),
        stale_s=stale_s,
        capabilities=capabilities,
        options=replace(plan.options, rules=build_rule_set(rules, origin=dice.random() < 0.3, sha256=False)),
    )
