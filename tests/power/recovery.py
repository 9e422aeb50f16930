"""The next start after a power loss, and what it makes of the disk."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

import trio

import objfs_cache.journal
from objfs.errors import StaleVersionError, first_error
from objfs.upload.operations import ROOT_MARKER_KEY, Kind, State
from tests.power.disk import write_state
from tests.power.expectation import Seen, judge, short
from tests.sim.client import Client
from tests.sim.mounting import MountOptions, mounted, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from objfs_cache.journal import Record
    from tests.power.expectation import History
    from tests.power.shop import Shop
    from tests.sim.mounting import Mount
    from tests.sim.store import SimulatedStore

DRAIN_S = 600.0
READ_S = 60.0  # as the deadline of a handler


@dataclass(frozen=True)
class Moment:
    """A cut: how far the program and the store were, and all contents that the store had until then."""

    done: int
    begun: int
    shop: Shop
    stored: frozenset[bytes]


def wrong_after(
    state: Mapping[str, bytes | None], moment: Moment, history: History, folder: Path, seed: int
) -> list[str]:
    """Start over a state of the disk twice; returns everything that is not as promised."""
    top = folder / "state"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    write_state(dict(state), top)
    boot_id = folder / "boot_id"
    boot_id.write_text(f"boot {seed}\n")
    (top / "deep").mkdir(exist_ok=True)
    store = moment.shop.store(random.Random(f"recovery {seed}"))
    dice = random.Random(f"plan {seed}")
    with mock.patch.object(objfs_cache.journal, "BOOT_ID_PATH", boot_id):
        check = _Check(store, top / "deep" / "cache", moment, history)
        try:
            if dice.random() < 0.3:  # started, killed, and started again
                run(seed, check.look)
            run(seed, check.look_and_drain)
        except* Exception as group:  # noqa: BLE001  # whatever it is, it is told
            error = first_error(group)
            check.wrong.append(f"recovery failed: {type(error).__name__}: {error}")
    return check.wrong


class _Check:
    def __init__(self, store: SimulatedStore, cache: Path, moment: Moment, history: History) -> None:
        self.store = store
        self.cache = cache
        self.moment = moment
        self.history = history
        self.wrong: list[str] = []

    async def look(self) -> None:
        async with mounted(self.store, self.cache, MountOptions(delay_s=1e6)) as mount:
            await self._judge(mount, "at the start")

    async def look_and_drain(self) -> None:
        async with mounted(self.store, self.cache) as mount:
            await self._judge(mount, "at the start")
            with trio.move_on_after(DRAIN_S) as scope:
                await mount.uploader.drain()
            if scope.cancelled_caught:
                self.wrong.append("the queue never drains")
            await trio.sleep(40)
            seen = await self._judge(mount, "after the drain")
            self._judge_store(mount, seen)

    async def _judge(self, mount: Mount, when: str) -> Seen:
        seen = await _walk(mount, self.moment.stored)
        wrong = judge(self.history, self.moment.done, self.moment.begun, seen)
        if wrong:
            self.wrong += [f"{when}:", *wrong]
        return seen

    def _judge_store(self, mount: Mount, seen: Seen) -> None:
        objects = self.store.objects()
        for key in sorted(objects.keys() | seen.entries.keys()):
            kind, content = seen.entries.get(key.rstrip("/"), (None, None))
            if kind == "file" and key not in seen.torn and objects.get(key) != content:
                held = short(objects[key]) if key in objects else "nothing"
                self.wrong.append(f"the store holds {held} as {key}, the mount shows {short(content or b'')}")
            if kind is None and key in objects and key != ROOT_MARKER_KEY:
                self.wrong.append(f"the store holds {key}, the mount shows nothing")
            if key in seen.torn and key in objects:
                contents = {one for past in self.history.pasts.values() for one in past.contents.values()}
                if objects[key] not in contents:
                    self.wrong.append(f"the store holds {short(objects[key])} as {key}, which is torn")
        for one in mount.uploader.ledger:
            if one.state is State.PARKED and one.path not in seen.torn:
                self.wrong.append(f"{one.kind} {one.path} is parked: {one.error}")
        if mount.uploader.status().conflicts:
            self.wrong.append("a conflict with ourselves")
        wanted = {one.staged.file_id for one in mount.journal.load() if one.staged is not None}
        left = {int(one.name, 16) for one in (self.cache / "staging").iterdir()}
        if left - wanted:
            self.wrong.append(f"staged files {sorted(left - wanted)} are left over")


async def _entry(client: Client, path: str) -> tuple[str, bytes | None]:
    for _ in range(3):
        try:
            with trio.fail_after(READ_S):
                kind, _, content, *_ = await client.entry(path)
            return kind, content
        except StaleVersionError:  # as the kernel would, look it up again
            continue
        except (OSError, trio.TooSlowError):
            break
    return "file", None


def _torn(rows: list[Record]) -> frozenset[str]:
    """Names under which the journal says that bytes are lost, after all that waits."""
    found: set[str] = set()
    for row in rows:
        if row.kind == Kind.RENAME and row.source in found:
            found.remove(row.source)
            found.add(row.path)
        elif row.staged is not None and row.staged.torn:
            found.add(row.path)
        elif row.kind in (Kind.PUT, Kind.DELETE, Kind.RENAME):
            found.discard(row.path)
    return frozenset(found)


async def _walk(mount: Mount, stored: frozenset[bytes]) -> Seen:
    client = Client(mount.filesystem)
    torn = _torn(mount.journal.load())
    entries: dict[str, tuple[str, bytes | None]] = {}
    stack = [""]
    while stack:
        above = stack.pop()
        for name in await client.names(above):
            path = f"{above}/{name}".lstrip("/")
            entries[path] = await _entry(client, path)
            if entries[path][0] == "folder":
                stack.append(path)
    return Seen(entries, torn, stored)
