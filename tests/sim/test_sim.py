"""A few hundred seeds of the simulation, and those that once found a bug."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.sim.kinds import KINDS, again

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

FOUND_WITH_OTHERS = {
    24: "an object that somebody deleted while a part of it was changed was asked for again and again",
    109: "where a store knows no conditions, it was compared before a long upload, and not at its end",
    121: "a name given up here hid what somebody else put there",
    224: "a name given up below a directory that moved hid what somebody else put there",
    297: "a renamed directory overwrote what somebody had put at its new place",
    945: "a part of a file was changed in what somebody else had put under its new name",
    1050: "what somebody put at the old place of a directory that had been copied was deleted with it",
    2681: "a removed name whose rename was in conflict hid what somebody else had put there",
}

FOUND_WITH_STALLS = {
    42: "a removed name whose upload was in conflict hid what somebody else had put there",
}

FOUND_IN_THE_DARK = {
    15: "a new directory was known to be empty after what was made in it had been stored",
    21: "a file that was being written was not known to be in its directory",
    226: "a directory that vanished with its last file was known for ever",
}

FOUND_WITH_MOVES = {
    41062: "a directory that came to its name while that was asked for lost its attributes",
    766: "after a restart a directory made anew showed what was still to be moved away from its place",
    2250: "a new directory that took the place of a moving one was looked for where that one went",
    9935: "a directory that had come by a rename, was removed, made anew and removed again was back",
}

FOUND_WITH_FORKS = {
    2226: "a marker that was refused and went along with a directory hid after a restart what was in it",
    3175: "a file whose rename took effect before a crash, and was refused after it, could not be read",
    4100: "a file whose attributes were stored before a crash, and refused after it, could not be read",
    4399: "a directory made, removed and made again showed after a restart what had to be moved away before",
    5916: "a directory on its way was asked for under the name that it was to get, where another was passing",
}

FOUND_WITH_RULES = {
    1472: "a directory made anew was asked for after a change of what was still to be moved into it",
}

FOUND_WITH_FOLDERS = {
    1157: "what somebody put at the old place of a directory was deleted, as one comparison took so long",
    1719: "a name that a directory made anew was not to show yet stayed hidden for one listing too many",
}

FOUND_WITH_OTHERS_ON_A_BAD_DISK = {
    3854: "a change that the journal refused ended the mount after operations had gone behind others",
}

FOUND_WITH_A_BAD_DISK = {
    22: "operations were released too early after a step that the journal refused",
    40: "a tree whose copies could not be noted was taken for noted: what followed acted on old versions",
    57: "the queue was ahead of the journal after a change that the journal refused",
    83: "attributes that were refused showed, and were never stored",
    2309: "attributes that were refused were stored with the next change",
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
        simulate("plain", seed)


@pytest.mark.parametrize("seed", FOUND)
def test_found_once(seed: int) -> None:
    simulate("plain", seed)


@pytest.mark.parametrize("first", range(0, SEEDS, PORTION))
def test_nobodys_bytes_are_lost_in_silence(first: int) -> None:
    for seed in range(first, first + PORTION):
        simulate("others", seed)


@pytest.mark.parametrize("seed", FOUND_WITH_OTHERS)
def test_found_once_with_others(seed: int) -> None:
    simulate("others", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 2, PORTION))
def test_promises_hold_on_a_bad_disk(first: int) -> None:
    for seed in range(first, first + PORTION):
        simulate("disk", seed)


@pytest.mark.parametrize("seed", FOUND_WITH_A_BAD_DISK)
def test_found_once_on_a_bad_disk(seed: int) -> None:
    simulate("disk", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 4, PORTION))
def test_a_store_that_never_answers_is_not_waited_for(first: int) -> None:
    for seed in range(first, first + PORTION):
        simulate("stalls", seed)


@pytest.mark.parametrize("seed", FOUND_WITH_STALLS)
def test_found_once_with_stalls(seed: int) -> None:
    simulate("stalls", seed)


@pytest.mark.parametrize("first", range(0, SEEDS, PORTION))
def test_promises_hold_while_directories_move(first: int) -> None:
    for seed in range(first, first + PORTION):
        simulate("moves", seed)


@pytest.mark.parametrize("seed", FOUND_WITH_MOVES)
def test_found_once_with_moves(seed: int) -> None:
    simulate("moves", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 10, PORTION // 4))
def test_promises_hold_whenever_the_process_is_killed(first: int) -> None:
    for seed in range(first, first + PORTION // 4):
        simulate("forks", seed)


@pytest.mark.parametrize("seed", FOUND_WITH_FORKS)
def test_found_once_with_forks(seed: int) -> None:
    simulate("forks", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 10, PORTION // 2))
def test_nobodys_bytes_are_lost_while_directories_move(first: int) -> None:
    for seed in range(first, first + PORTION // 2):
        simulate("folders", seed)


@pytest.mark.parametrize("seed", FOUND_WITH_FOLDERS)
def test_found_once_with_folders(seed: int) -> None:
    simulate("folders", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 10, PORTION // 2))
def test_promises_hold_where_files_are_stored_by_rules(first: int) -> None:
    for seed in range(first, first + PORTION // 2):
        simulate("rules", seed)


@pytest.mark.parametrize("seed", FOUND_WITH_RULES)
def test_found_once_with_rules(seed: int) -> None:
    simulate("rules", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 10, PORTION // 2))
def test_cached_blocks_are_of_what_a_file_is(first: int) -> None:
    for seed in range(first, first + PORTION // 2):
        simulate("cached", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 5, PORTION // 2))
def test_what_is_known_without_the_store_is_true(first: int) -> None:
    for seed in range(first, first + PORTION // 2):
        simulate("dark", seed)


@pytest.mark.parametrize("seed", FOUND_IN_THE_DARK)
def test_found_once_in_the_dark(seed: int) -> None:
    simulate("dark", seed)


@pytest.mark.parametrize("first", range(0, SEEDS // 20, PORTION // 4))
def test_nobodys_bytes_are_lost_between_two_mounts(first: int) -> None:
    for seed in range(first, first + PORTION // 4):
        simulate("rival", seed)


@pytest.mark.parametrize("first", range(0, SEEDS, PORTION))
def test_nothing_is_lost_by_who_keeps_files_open_or_stands_in_directories(first: int) -> None:
    for seed in range(first, first + PORTION):
        simulate("stays", seed)


def test_nobodys_bytes_are_lost_on_a_bad_disk() -> None:
    for seed in (*range(PORTION), *FOUND_WITH_OTHERS_ON_A_BAD_DISK):
        simulate("disk-and-others", seed)


def test_nobodys_bytes_are_lost_whenever_the_process_is_killed() -> None:
    for seed in range(PORTION // 2):
        simulate("forks-and-others", seed)


def simulate(kind: str, seed: int) -> None:
    """One seed; a failure tells how to see it again."""
    try:
        KINDS[kind](seed, lambda _line: None)
    except Exception as error:
        raise AssertionError(f"{error}\n{again(kind, seed)}") from error
