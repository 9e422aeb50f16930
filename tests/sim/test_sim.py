"""A few hundred seeds of the simulation, and those that once found a bug."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.sim.simulation import Plan, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = 200
PORTION = 20

FOUND = {
    2: "unlink below a directory on its way forgot the upload that the move carried along",
    3: "a directory made anew showed what its namesake had not yet moved away",
    4: "rename there and back copied an object onto itself and deleted it",
    8: "a rename target's staged file was never given back",
    54: "bytes written after the last journal entry were uploaded after a crash",
    81: "after a restart a removed directory showed until its files were deleted",
    118: "a directory made inside one that was moving was looked for at the old place",
    269: "an older upload of a file finished after a newer one and was taken for its content",
    324: "content saved for an open file was never given back",
    354: "a move of a new directory was lost inside the move of another",
    370: "a flat listing cut short the directories above the one it began in",
    722: "a flat listing filled a directory that was made anew",
    735: "two directories that followed one another under one name were confused",
    983: "the marker of a directory was asked for where it no longer was",
    1328: "after a restart a file that replaced a symlink had the symlink's length",
    2078: "a directory moved there and back was no longer known to be moving",
    2166: "a crash between the removal of a last file and the marker of its directory lost the directory",
    2540: "a removal waited for ever for an upload that an open file held back",
    4380: "a crash between the end of a staged file and the journal's word of it lost an acknowledged file",
    4989: "a new directory made inside a moving one, then moved itself, was looked for at its first place",
    11066: "a write to a removed file that was still open held its upload back for ever, and the removal too",
    20667: "a flat listing filled a directory that had taken the name of the one it told of",
    21044: "what was written to a removed, still open file went with the upload that its removal waited for",
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("objfs")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("first", range(0, SEEDS, PORTION))
def test_promises_hold(first: int) -> None:
    for seed in range(first, first + PORTION):
        _simulate(seed)


@pytest.mark.parametrize("seed", FOUND)
def test_found_once(seed: int) -> None:
    _simulate(seed)


def _simulate(seed: int) -> None:
    try:
        simulate(Plan.of(seed))
    except Exception as error:
        raise AssertionError(f"{error}\nagain: python -m tests.sim --seed {seed}") from error
