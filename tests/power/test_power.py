"""Power loss at every point of a trace: what fsync promised is there, nothing torn is shown or sent."""

from __future__ import annotations

import logging
import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.power.disk import Disk, Fate
from tests.power.sweep import make_recording, sweep
from tests.power.trace import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.power.sweep import Recording

SOAK = os.environ.get("OBJFS_SOAK") == "1"
SEEDS = range(200) if SOAK else range(3)
EVERY, TELLING_EVERY = (1, 1) if SOAK else (80, 4)


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder in memory, if there is one: thousands of disks are written there."""
    top = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="objfs-power-", dir=top) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def scenes(memory: Path) -> Recording:
    """The chosen scenes, recorded once."""
    return make_recording(memory / "scenes", 0)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is lost is told in the log, thousands of times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_power_loss_everything_is_as_promised(seed: int, memory: Path) -> None:
    recording = make_recording(memory / f"run-{seed}", seed)
    tried, lines = sweep(
        recording, memory, seed, every=EVERY, by_chance=2 if SOAK else 1, telling_every=TELLING_EVERY
    )
    assert tried > 20, "the trace is too short to prove anything"
    assert not lines, "\n".join(lines[:5])


def test_data_then_its_name_then_the_journal_are_synced(scenes: Recording) -> None:
    """In each fsync of a program: nothing else promises anything, and no step may come earlier."""
    checked = 0
    for begin, done in _fsyncs(scenes):
        synced = [
            step.path.removeprefix("deep/cache/") for step in _all(scenes)[begin:done] if step.call == "sync"
        ]
        if not any(path.startswith("staging/") for path in synced):
            continue  # what it wrote was durable already
        checked += 1
        data = max(at for at, path in enumerate(synced) if path.startswith("staging/"))
        name = max(at for at, path in enumerate(synced) if path == "staging")
        assert data < name < len(synced) - 1
        assert synced[-1] == "journal/journal.db-wal"
    assert checked >= 8


def test_no_staged_file_is_deleted_before_the_journal_says_so(scenes: Recording) -> None:
    """Whatever the journal may come back as, the files that its rows name are there."""
    wal_is_dirty, deleted = False, 0
    for step in _all(scenes):
        if step.path.endswith("journal.db-wal"):
            wal_is_dirty = step.call == "write" or (wal_is_dirty and step.call != "sync")
        elif step.call == "unlink" and "/staging/" in step.path:
            deleted += 1
            assert not wal_is_dirty, str(step)
    assert deleted > 5


def test_a_disk_without_syncs_loses_what_the_sweep_looks_for(scenes: Recording, memory: Path) -> None:
    """The sweep can fail: without one kind of sync it does."""
    for lost in ("/staging/", "/staging", "journal.db-wal"):
        lives = [[step for step in life if not _is_sync_of(step, lost)] for life in scenes.lives]
        broken = type(scenes)(lives, scenes.shops, scenes.history)
        _, lines = sweep(broken, memory, 0, every=90, by_chance=1)
        assert lines, f"nobody misses the sync of {lost}"


def test_states_of_a_disk() -> None:
    """What was synced is in every state, what was not is missing in some and cut in others."""
    disk = Disk()
    for step in (
        Step(call="create", path="a", file=1),
        Step(call="write", path="a", file=1, data=b"x" * 2000),
        Step(call="sync", path="a", file=1),
        Step(call="open", path=".", file=2),
        Step(call="sync", path=".", file=2),
        Step(call="write", path="a", file=1, offset=1000, data=b"y" * 2000),
        Step(call="rename", path="a", other="b"),
    ):
        disk.apply(step)

    dice = random.Random(1)
    assert disk.after_power_loss(Fate.LOST, dice) == {"a": b"x" * 2000}
    assert disk.after_power_loss(Fate.KEPT, dice) == {"b": b"x" * 1000 + b"y" * 2000}
    assert disk.after_power_loss(Fate.NAMES, dice) == {"b": b"x" * 2000 + bytes(1000)}
    hostile = [disk.after_power_loss(Fate.HOSTILE, dice) for _ in range(200)]
    assert {name for state in hostile for name in state} == {"a", "b"}
    contents = {bytes(data or b"") for state in hostile for data in state.values()}
    assert all(content.startswith(b"x" * 1000) for content in contents)
    assert len(contents) > 5


def _all(recording: Recording) -> list[Step]:
    return [step for life in recording.lives for step in life]


def _fsyncs(recording: Recording) -> list[tuple[int, int]]:
    """Where in the trace each fsync of a file begins and returns."""
    found, begin = [], 0
    for at, step in enumerate(_all(recording)):
        word, _, value = (
            step.data.decode(errors="replace").partition(" ") if step.call == "mark" else ("", "", "")
        )
        if word == "begin":
            begin = at
        elif word == "done" and recording.history.ops[int(value)].name == "fsync":
            found.append((begin, at))
    return found


def _is_sync_of(step: Step, part: str) -> bool:
    if step.call != "sync":
        return False
    return part in step.path if part.endswith("/") else step.path.endswith(part)
