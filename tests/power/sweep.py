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


def cuts(recording: Recording, seed: int, *, every: int, by_chance: int) -> Iterator[Cut]:
    """States to try: at every so many steps, one of each fate, and some by chance."""
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
            if dice.randrange(every):
                continue
            moment = Moment(done, begun, recording.shops[shop])
            for fate in (*(one for one in Fate if one not in CHANCES), *CHANCES * by_chance):
                state = disk.after_power_loss(fate, dice)
                identity = hash((tuple(sorted(state.items())), done, begun, shop))
                if identity not in tried:
                    tried.add(identity)
                    yield Cut(number, str(step), moment, fate, number * 100 + len(tried) % 100, state)


def sweep(
    recording: Recording, folder: Path, seed: int, *, every: int, by_chance: int
) -> tuple[int, list[str]]:
    """Try the states; returns how many, and the lines about those that are wrong."""
    tried, lines = 0, []
    for cut in cuts(recording, seed, every=every, by_chance=by_chance):
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
