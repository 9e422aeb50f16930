"""Long random runs over a good store: each answer, errno, listing and byte as the reference has it."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tests.sim.mounting import MountOptions
from tests.sim.plans import FULL, Plan
from tests.sim.simulation import simulate
from tests.sim.store import FAIR

SEEDS = range(30)


@pytest.mark.parametrize("seed", SEEDS)
def test_behaves_like_the_reference(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "objfs")
    options = MountOptions(
        delay_s=(0.0, 1.0, 60.0)[seed % 3],
        metadata_ttl_s=(0.1, 60.0)[seed % 2],
        through=seed % 7 == 0,
    )
    plan = Plan(
        seed=seed,
        operations=150,
        programs=1,
        kills=(),
        weather=FAIR,
        capabilities=replace(FULL, listing_metadata=seed % 4 == 0),
        content_etags=seed % 5 != 0,
        options=options,
    )
    simulate(plan)
