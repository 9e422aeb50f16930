"""The process that is recorded: one life of the core over a cache directory, as told by a script.

Usage: python -m tests.power.worker FOLDER LIFE SEED
"""

from __future__ import annotations

import os
import pickle
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.power.script import KILL, SYNC_NAMES, random_ops, scenes
from tests.power.shop import Shop, initial
from tests.sim.client import Client
from tests.sim.mounting import mounted, run

if TYPE_CHECKING:
    from tests.sim.model import Op

CHANGES = ("PUT", "DELETE", "COPY", "COMPLETE")


def program(seed: int) -> list[Op]:
    """The operations of a seed; 0 are the chosen scenes."""
    return scenes() if seed == 0 else random_ops(seed, 60)


def lives(seed: int) -> list[list[tuple[int, Op]]]:
    """The program with the numbers of its operations, cut where the process is killed."""
    found: list[list[tuple[int, Op]]] = [[]]
    number = 0
    for op in program(seed):
        if op is KILL:
            found.append([])
        else:
            found[-1].append((number, op))
            number += 1
    return found


class Worker:
    """One life."""

    def __init__(self, folder: Path, life: int, seed: int) -> None:
        self.folder = folder
        self.life = life
        self.seed = seed
        self.marks = os.open(folder / "marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.shops: list[Shop] = [initial()]
        if life:
            self.shops = pickle.loads((folder / "shops").read_bytes())  # noqa: S301  # our own
        self.store = self.shops[-1].store(random.Random(f"store {seed} {life}"))
        self.store.log = self._requested

    def mark(self, text: str) -> None:
        os.write(self.marks, f"{text}\n".encode())

    def _requested(self, line: str) -> None:
        if line.startswith(CHANGES) and not line.endswith("Error"):
            self.shops.append(Shop.of(self.store))
            self.mark(f"store {len(self.shops) - 1}")

    async def main(self) -> None:
        async with mounted(self.store, self.folder / "disk" / "deep" / "cache") as mount:
            client = Client(mount.filesystem)
            for number, op in lives(self.seed)[self.life]:
                self.mark(f"begin {number}")
                if op is SYNC_NAMES:
                    await mount.filesystem.streams.sync()
                else:
                    await client.apply(op)
                self.mark(f"done {number}")
            (self.folder / "shops").write_bytes(pickle.dumps(self.shops))
            if self.life + 1 < len(lives(self.seed)):
                os._exit(0)  # as by kill -9
            await trio.sleep(20)
            (self.folder / "shops").write_bytes(pickle.dumps(self.shops))
        (self.folder / "shops").write_bytes(pickle.dumps(self.shops))


def main() -> None:
    """Run one life."""
    folder, life, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    worker = Worker(folder, life, seed)
    run(seed, worker.main)


if __name__ == "__main__":
    main()
