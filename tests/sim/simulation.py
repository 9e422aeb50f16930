"""One seed, one run: programs over a mount that is killed now and then, and what must be left of it."""

from __future__ import annotations

import copy
import errno
import random
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import zstandard

from objfs.errors import PermissionDeniedError, UnavailableError, first_error
from objfs.store.values import PutOptions
from objfs.upload.operations import ROOT_MARKER_KEY, State
from tests.sim.client import Client
from tests.sim.dark import Glimpse
from tests.sim.model import File, Folder, Model, Op
from tests.sim.mounting import Caches, Disk, Mount, mortal, mounted, run
from tests.sim.program import NAMES, Program
from tests.sim.store import FAIR, KillSwitch, SimulatedStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.sim.model import Entry, Result
    from tests.sim.plans import Plan

WALK_EVERY = 12  # operations between two comparisons of everything
FORK_CHANCE = 0.02  # per step, to look what a kill would leave
REFUSED_FOR_S = 10.0  # a key is refused, or not, for so long


class SimulationError(Exception):
    """What was promised was not kept."""


@dataclass
class Actor:
    """A program, what it may expect, and what it has not yet been told."""

    program: Program
    model: Model
    prefix: str
    pending: Op | None = None
    done: int = 0


@dataclass
class Simulation:
    """One run."""

    plan: Plan
    caches: Caches
    log: Callable[[str], None] = field(default=lambda _line: None)

    def __post_init__(self) -> None:
        plan = self.plan
        self.dice = random.Random(f"run {plan.seed}")
        self.fork_dice = random.Random(f"fork {plan.seed}")
        self.forks: list[Simulation] = []
        self.is_ending = self.is_dark = False
        self.walking = 0  # comparisons of everything under way: those wait for the light
        self.start_s = 0.0
        self.store = SimulatedStore(
            dice=random.Random(f"store {plan.seed}"),
            capabilities=plan.capabilities,
            content_etags=plan.content_etags,
            stale_s=plan.stale_s,
            log=lambda line: self._say(f"    {line}"),
            before_request=self._refuse,
        )
        self.disk = Disk(random.Random(f"disk {plan.seed}"))
        prefixes = [""] if plan.programs == 1 else [f"p{number}/" for number in range(plan.programs)]
        self.actors = [self._actor(prefix) for prefix in prefixes]

    async def main(self) -> None:
        """All lives, then the reckoning."""
        for kill in (*self.plan.kills, None):
            switch = KillSwitch(at=kill, on_kill=self.caches.take_picture, on_step=self._fork)
            self.store.switch = switch
            try:
                with self.disk.failing(), mortal(switch):
                    async with mounted(self.store, self.caches.path, self.plan.options) as mount:
                        await self._life(mount, last=kill is None)
            except BaseException as group:
                # What else fails in a life that ended is only the way in which the test takes it down.
                if not switch.dead or isinstance(group, KeyboardInterrupt):
                    raise
            self._say(f"-- killed at step {kill}" if switch.dead else "-- ended")
        for number, fork in enumerate(self.forks):
            self._say(f"==== fork {number}")
            fork.start_s = trio.current_time()
            await fork.main()

    def _fork(self) -> None:
        """Now and then: what if the process was killed now? Such lives are lived after this one."""
        dice = self.fork_dice
        if len(self.forks) >= self.plan.forks or dice.random() > FORK_CHANCE:
            return
        plan = replace(
            self.plan,
            seed=dice.randrange(1 << 40),
            operations=dice.choice((0, 0, 0, 20)),
            kills=(dice.randint(1, 60),) if dice.random() < 0.2 else (),
            forks=0,
            away_s=dice.choice((0.0, 0.0, 30.0)),
        )
        self._say(f"==== fork {len(self.forks)} taken")
        fork = Simulation(plan, self.caches.fork(), self.log)
        fork.store.take_over(self.store)
        fork.actors = copy.deepcopy(self.actors)
        self.forks.append(fork)

    def _refuse(self, name: str, key: str) -> None:
        """The store takes no changes while it is away, and some keys it refuses for a while."""
        if self.is_dark and not self.walking:
            raise UnavailableError("No answer.", key=key)
        if self.is_ending or name.startswith(("HEAD", "GET", "LIST", "UPLOADS", "ABORT")):
            return
        now = trio.current_time()
        if now < self.start_s + self.plan.away_s:
            raise UnavailableError("No changes now.", key=key)
        for one in (*key.split(","), *name.split(" ")[1:2]) if self.plan.refused else ():
            if random.Random(f"{self.plan.seed} {one} {now // REFUSED_FOR_S}").random() < self.plan.refused:
                raise PermissionDeniedError("Not now.", key=key)

    async def _life(self, mount: Mount, *, last: bool) -> None:
        await trio.sleep(self.plan.stale_s)  # what an earlier life wrote, only listings tell it
        self.store.weather = self.plan.weather
        clients = [Client(mount.filesystem) for _ in self.actors]
        for actor, client in zip(self.actors, clients, strict=True):
            await self._look_in_the_dark(actor, client)
            await self._recover(actor, client)
        if self.plan.moves:
            await trio.sleep(self.dice.choice((0.0, 2 * self.plan.options.metadata_ttl_s)))
            for actor, client in zip(self.actors, clients, strict=True):
                self._compare(actor, await self._walk(actor, client), "a while after the start")
        self.disk.chance = self.plan.disk_failures
        share = self.plan.operations // (len(self.plan.kills) + 1) // len(self.actors) + 1
        async with trio.open_nursery() as outages:
            if self.plan.dark:
                outages.start_soon(self._go_dark_now_and_then)
            async with trio.open_nursery() as nursery:
                for actor, client in zip(self.actors, clients, strict=True):
                    nursery.start_soon(self._act, actor, client, share)
            outages.cancel_scope.cancel()
        self.disk.chance, self.is_dark = 0.0, False
        if last:
            await self._reckon(mount, clients)

    async def _reckon(self, mount: Mount, clients: list[Client]) -> None:
        """Everything is closed and sent: what is in the store, and shown, is what should be there."""
        for actor, client in zip(self.actors, clients, strict=True):
            for op in actor.program.close_all():
                await self._step(actor, client, op)
        self.store.weather, self.is_ending = FAIR, True
        await trio.sleep(self.dice.choice((0.0, 1.0, 10.0)))
        await mount.filesystem.commit_everything()
        mount.uploader.ledger.unpark()  # what the disk could not read or keep
        with trio.move_on_after(3600.0) as scope:
            await mount.uploader.drain()
            if mount.uploader.ledger.unpark():  # what was being refused just now
                await mount.uploader.drain()
        self._check(not scope.cancelled_caught, "the queue never drains", *self._queue(mount))
        await trio.sleep(1.0 + self.plan.stale_s)
        self._check_store(mount)
        for ttl in (0.0, 30.0):
            await trio.sleep(ttl)
            for actor, client in zip(self.actors, clients, strict=True):
                self._compare(actor, await self._walk(actor, client), "after the end")

    # -- programs -----------------------------------------------------------------------------------

    async def _act(self, actor: Actor, client: Client, count: int) -> None:
        operations = actor.program.operations()
        for number in range(count):
            await self._step(actor, client, next(operations))
            if number % WALK_EVERY == WALK_EVERY - 1:
                self._compare(actor, await self._walk(actor, client), "while mounted")

    async def _step(self, actor: Actor, client: Client, op: Op) -> None:
        self._say(str(op))
        actor.pending = op
        seen: Result | OSError
        try:
            seen = await client.apply(op)
        except OSError as error:
            seen = error
            is_through = self.plan.options.through and error.errno == errno.EIO
            if is_through or (self.plan.disk_failures and error.errno in (errno.EIO, errno.ENOSPC)):
                await self._refused(actor, client, op)
                return
            if error.errno == errno.EXDEV and self.plan.stale_s:
                self._say("  refused")
                actor.pending = None
                return
            if error.errno == errno.EIO and self.plan.weather != FAIR:
                self._say(f"  refused: {error}")
                actor.pending = None
                return
        wanted: Result | OSError
        try:
            wanted = actor.model.apply(op)
        except OSError as error:
            wanted = error
        actor.pending = None
        self._check(_plain(seen) == _plain(wanted), f"{op}: {_short(seen)}, should be {_short(wanted)}")

    async def _refused(self, actor: Actor, client: Client, op: Op) -> None:
        """The local disk failed, or the store where it is waited for: all or nothing is seen."""
        self._say("  refused")
        seen = await self._walk(actor, client)
        actor.pending = None
        if self._wrong(actor, actor.model, seen):
            after = copy.deepcopy(actor.model)
            with suppress(OSError):
                after.apply(op)
            self._compare(replace(actor, model=after), seen, f"after {op}, refused by the disk")
            actor.model = actor.program.model = after
            for slot in set(after.handles) - set(client.handles):
                del after.handles[slot]
        elif op.name == "close":
            actor.model.handles.pop(op.slot, None)

    async def _go_dark_now_and_then(self) -> None:
        while True:
            await trio.sleep(self.dice.uniform(0, 20))
            self.is_dark = True
            await trio.sleep(self.dice.uniform(0, 8))
            self.is_dark = False

    async def _look_in_the_dark(self, actor: Actor, client: Client) -> None:
        """After a kill, while the store does not answer: what can be seen is there."""
        if not self.plan.dark:
            return
        self.disk.calm += 1
        self.is_dark = True
        glimpse = await Glimpse.of(client, actor.prefix.rstrip("/"))
        self.is_dark = False
        self.disk.calm -= 1
        self._say(f"in the dark: {glimpse}")
        wrong = glimpse.differences(actor.model)
        if wrong and actor.pending is not None:
            after = copy.deepcopy(actor.model)
            with suppress(OSError):
                after.apply(actor.pending)
            wrong = glimpse.differences(after)
        self._check(not wrong, f"in the dark, after a kill (during {actor.pending})", *wrong)

    async def _recover(self, actor: Actor, client: Client) -> None:
        """After a kill: everything acknowledged is there, and of the last operation all or nothing."""
        before, after = actor.model, None
        if actor.pending is not None:
            after = copy.deepcopy(actor.model)
            try:
                after.apply(actor.pending)
            except OSError:
                after = None
        seen = await self._walk(actor, client)
        wrong = self._wrong(actor, before, seen, crashed=True)
        if wrong and after is not None:
            wrong = self._wrong(actor, after, seen, crashed=True)
            before = after
        elif after is not None and not self._wrong(actor, after, seen, crashed=True):
            before = after
        self._check(not wrong, f"after a kill (during {actor.pending})", *wrong)
        before.adopt(seen)
        actor.model = actor.program.model = before
        actor.pending = None

    async def _walk(self, actor: Actor, client: Client) -> dict[str, Entry]:
        """Everything that a program sees below its folder; the weather may cost some tries."""
        self.disk.calm += 1
        self.walking += 1
        try:
            for patience in range(20):
                try:
                    return await client.walk(actor.prefix.rstrip("/"))
                except Exception as error:
                    if self.plan.weather == FAIR or patience == 19:
                        raise
                    self._say(f"walk: {error!r}")
                    await trio.sleep(1.0)
            raise AssertionError
        finally:
            self.walking -= 1
            self.disk.calm -= 1

    # -- judgement ----------------------------------------------------------------------------------

    def _wrong(
        self, actor: Actor, model: Model, seen: dict[str, Entry], *, crashed: bool = False
    ) -> list[str]:
        if actor.prefix:
            seen = {**seen, actor.prefix.rstrip("/"): ("folder", 0o755, b"", None, b"")}
        return model.differences(seen, crashed=crashed)

    def _compare(self, actor: Actor, seen: dict[str, Entry], when: str) -> None:
        wrong = self._wrong(actor, actor.model, seen)
        self._check(not wrong, when, *wrong)

    def _check_store(self, mount: Mount) -> None:
        """The store holds the model, exactly, and nothing is left over anywhere."""
        wanted: dict[str, File | Folder] = {}
        for actor in self.actors:
            for path, entry in actor.model.entries().items():
                wanted[path if isinstance(entry, File) else f"{path}/"] = entry
        objects = self.store.objects()
        wrong = self._queue(mount)
        for key in sorted(objects.keys() | wanted.keys()):
            if key not in objects:
                if _is_needed(wanted[key]):
                    wrong.append(f"{key} is not in the store")
            elif key in wanted:
                wrong += self._wrong_object(key, wanted[key], objects[key])
            elif key != ROOT_MARKER_KEY:
                wrong.append(f"{key} should not be in the store")
        wrong += [f"upload of {one.key} is left over" for one in self.store.pending_uploads()]
        wrong += [f"journal row {row.seq} {row.kind} {row.path}" for row in mount.journal.load()]
        mount.staging.sweep()
        staged = [entry.name for entry in self.caches.path.joinpath("staging").iterdir()]
        if staged or mount.staging.used_bytes:
            wrong.append(f"staging holds {staged}, {mount.staging.used_bytes} bytes counted")
        wrong += self.store.violations
        self._check(not wrong, "in the store", *wrong)

    def _wrong_object(self, key: str, entry: File | Folder, data: bytes) -> list[str]:
        content = entry.content if isinstance(entry, File) else b""
        info = self.store.memory.head(key)
        if info.content_encoding == "zstd":
            data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        if data != content:
            return [f"{key} holds {_short(data)}, should hold {_short(content)}"]
        metadata = info.metadata or {}
        default = 0o644 if isinstance(entry, File) else 0o755
        mode = int(metadata.get("mode", "0")) & 0o7777 if "mode" in metadata else default
        return [] if mode == entry.mode else [f"{key} has mode {mode:o}, should have {entry.mode:o}"]

    def _queue(self, mount: Mount) -> list[str]:
        return [
            f"{one.kind} {one.path} {one.source} is {one.state} {one.error}"
            for one in mount.uploader.ledger
            if one.state is not State.DONE
        ]

    def _check(self, condition: bool, *text: str) -> None:
        if not condition:
            raise SimulationError("\n  ".join(text))

    def _say(self, line: str) -> None:
        try:
            now = trio.current_time()
        except RuntimeError:
            now = 0.0
        self.log(f"{now:9.3f} {line}")

    # -- the beginning ------------------------------------------------------------------------------

    def _actor(self, prefix: str) -> Actor:
        """A program and its folder, which others filled before: with and without markers."""
        model = Model()
        top = model.root
        if prefix:
            top = model.root.children[prefix[:-1]] = Folder(marked=False)
        objects: dict[str, tuple[bytes, dict[str, str]]] = {
            "a": (b"a of others", {}),
            "d/b": (b"b of others" * 1000, {}),
            "d/e/c": (b"c of others" * 9000, {}),
            "c/": (b"", {"mode": str(0o40755)}),
            "c/f.txt": (b"text", {"mode": str(0o100600), "uid": "7"}),
        }
        for key, (data, metadata) in objects.items():
            self.store.memory.put(prefix + key, data, options=PutOptions(metadata=metadata))
        top.children["a"] = _old_file(objects["a"][0])
        below = top.children["d"] = Folder(marked=False)
        below.children["b"] = _old_file(objects["d/b"][0])
        deeper = below.children["e"] = Folder(marked=False)
        deeper.children["c"] = _old_file(objects["d/e/c"][0])
        marked = top.children["c"] = Folder()
        marked.children["f.txt"] = _old_file(b"text", 0o600)
        program = Program(dice=random.Random(f"{prefix} {self.plan.seed}"), model=model, prefix=prefix)
        program.habits, program.names = self.plan.habits, NAMES[: self.plan.names]
        program.max_depth = self.plan.depth
        return Actor(program=program, model=model, prefix=prefix)


def simulate(plan: Plan, log: Callable[[str], None] = lambda _line: None) -> None:
    """Run a plan.

    Raises:
        SimulationError: a promise was broken.
    """
    in_a_world(plan.seed, lambda caches: Simulation(plan, caches, log).main())


def in_a_world(seed: int, main: Callable[[Caches], Awaitable[None]]) -> None:
    """Run something with cache directories, under simulated time."""
    top = Path(tempfile.mkdtemp(prefix="objfs-sim-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        run(seed, lambda: main(Caches(top)))
    except BaseExceptionGroup as group:
        error = first_error(group)
        if isinstance(error, Exception):
            raise error from None
        raise
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _is_needed(entry: File | Folder) -> bool:
    """Whether it needs an object of its own."""
    return isinstance(entry, File) or entry.marked or not entry.children


def _old_file(content: bytes, mode: int = 0o644) -> File:
    return File(content=content, mode=mode, history=[content])


def _plain(result: Result | OSError) -> object:
    return f"errno {errno.errorcode.get(result.errno or 0)}" if isinstance(result, OSError) else result


def _short(result: object) -> str:
    if isinstance(result, OSError):
        return f"{_plain(result)} ({result})"
    text = repr(result)
    return text if len(text) < 80 else f"{text[:60]}..{text[-10:]} ({len(text)} characters)"
