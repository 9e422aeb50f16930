"""Records a program and tries the states that a power loss could leave at each point of it."""

from __future__ import annotations

import pickle
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.power import worker
from tests.power.disk import CHANCES, Disk, Fate
from tests.power.expectation import History
from tests.power.recovery import Moment, wrong_after
from tests.power.trace import Step, parse, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.power.shop import Shop

ROOM = Path(__file__).resolve().parents[2]
RECORD_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Recording:
    """What was done, in one or more lives of the process."""

    lives: list[list[Step]]
    shops: list[Shop]
    history: History

    def __len__(self) -> int:
        return sum(map(len, self.lives))


@dataclass
class Sweep:
    """The states tried so far."""

    tried: int = 0
    seen: set[int] = field(default_factory=set)


def make_recording(folder: Path, seed: int) -> Recording:
    """Run the program of a seed under strace, in a folder of its own."""
    (folder / "disk").mkdir(parents=True)
    lives = []
    ops = worker.lives(seed)
    for life in range(len(ops)):
        argv = [sys.executable, "-m", "tests.power.worker", str(folder), str(life), str(seed)]
        output = folder / f"trace-{life}"
        status = record(argv, output, timeout_s=RECORD_TIMEOUT_S)
        assert status == 0, f"life {life} of seed {seed} ended with {status}"
        lives.append(list(parse(output, folder / "disk", folder / "marks")))
        output.unlink()
    shops = pickle.loads((folder / "shops").read_bytes())  # noqa: S301  # our own
    return Recording(lives, shops, History(shops[0], [op for life in ops for _, op in life]))


@dataclass(frozen=True)
class Cut:
    """A point of the trace, and a fate of what was not on the disk."""

    number: int
    step: str
    moment: Moment
    fate: Fate
    seed: int
    state: dict[str, bytes | None]


PROMISES = frozenset(("fsync", "fsyncdir", "rename"))


def is_telling(step: Step, history: History) -> bool:
    """Whether it is a point where things went wrong before.

    The store has just got something that the disk does not know of yet; a staged file was deleted; a program
    was told that something is durable, or gave a file with unsynced bytes another name.
    """
    if step.call == "mark":
        word, _, value = step.data.decode().partition(" ")
        return word == "store" or (word == "done" and history.ops[int(value)].name in PROMISES)
    return step.call == "unlink" and "/staging/" in step.path


def cuts(
    recording: Recording, seed: int, *, every: int, by_chance: int, telling_every: int | None = None
) -> Iterator[Cut]:
    """States to try: at some steps, one of each fate, and some by chance.

    Args:
        recording: what was done.
        seed: of the choice.
        every: one step in so many is tried.
        by_chance: states per step and kind of chance.
        telling_every: the same for those that are telling; None if they count as all others.
    """
    disk = Disk()
    done = begun = shop = number = 0
    tried: set[int] = set()
    for life in recording.lives:
        disk.new_life()
        for step in life:
            number += 1
            if step.call == "mark":
                word, _, value = step.data.decode().partition(" ")
                if word == "begin":
                    begun = int(value) + 1
                elif word == "done":
                    done = int(value) + 1
                else:
                    shop = int(value)
            disk.apply(step)
            dice = random.Random(f"{seed} {number}")
            is_special = telling_every is not None and is_telling(step, recording.history)
            if dice.randrange((telling_every or every) if is_special else every):
                continue
            stored = {thing.data for one in recording.shops[: shop + 1] for thing in one.things.values()}
            moment = Moment(done, begun, recording.shops[shop], frozenset(stored))
            for fate in (*(one for one in Fate if one not in CHANCES), *CHANCES * by_chance):
                state = disk.after_power_loss(fate, dice)
                identity = hash((tuple(sorted(state.items())), done, begun, shop))
                if identity not in tried:
                    tried.add(identity)
                    yield Cut(number, str(step), moment, fate, number * 100 + len(tried) % 100, state)


def sweep(
    recording: Recording,
    folder: Path,
    seed: int,
    *,
    every: int,
    by_chance: int,
    telling_every: int | None = None,
) -> tuple[int, list[str]]:
    """Try the states; returns how many, and the lines about those that are wrong."""
    tried, lines = 0, []
    chosen = cuts(recording, seed, every=every, by_chance=by_chance, telling_every=telling_every)
    for cut in chosen:
        tried += 1
        wrong = wrong_after(cut.state, cut.moment, recording.history, folder, cut.seed)
        if wrong:
            done = cut.moment.done
            last = str(recording.history.ops[done - 1]) if done else "-"
            lines.append(
                f"seed {seed} step {cut.number} ({cut.step}) {cut.fate}, {done} done, last: {last}\n    "
                + "\n    ".join(wrong)
            )
    return tried, lines
