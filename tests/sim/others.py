"""Other writers: somebody else changes the bucket all the time, and nobody's bytes are lost in silence."""

from __future__ import annotations

import copy
import itertools
import os
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from objfs.store.values import KIB
from objfs.upload.moving import is_within
from objfs.upload.operations import ROOT_MARKER_KEY, Kind, State
from tests.sim.client import Client
from tests.sim.model import Op
from tests.sim.mounting import Caches, Disk, Mount, MountOptions, mortal, mounted
from tests.sim.plans import FULL, LIKE_MINIO
from tests.sim.simulation import FORK_CHANCE, SimulationError, in_a_world
from tests.sim.staying import Stay
from tests.sim.store import FAIR, KillSwitch, RivalStore, SimulatedStore, Weather, without_conditions
from tests.sim.witness import Witness, marks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from objfs.store.values import Capabilities
    from objfs.upload.operations import Operation

FOLDERS = ("", "d", "d/s", "e")
NAMES = ("a", "b", "c")
LATE = 2  # slot of a file that stays open
GONE = "gone"
SIZES = (40, 40, 300, 5 * KIB, 60 * KIB)


@dataclass(frozen=True, kw_only=True)
class OthersPlan:
    """What one seed does."""

    seed: int
    operations: int
    kills: tuple[int, ...]
    weather: Weather
    capabilities: Capabilities
    content_etags: bool
    stale_s: float
    others: int
    pause_s: float
    options: MountOptions
    moves: bool = False
    rival: bool = False
    stays: bool = False
    disk_failures: float = 0.0
    forks: int = 0

    @classmethod
    def of(cls, seed: int) -> OthersPlan:
        """The plan of a seed."""
        dice = random.Random(f"others {seed}")
        capabilities = dice.choice(
            (FULL, LIKE_MINIO, replace(FULL, listing_metadata=True), without_conditions(FULL))
        )
        stale_s = dice.choice((0.0, 0.0, 0.0, 20.0))
        if stale_s:
            capabilities = replace(capabilities, listing_consistent=False, listing_metadata=False)
        kills = [dice.choice((30, 150, 600)) for _ in range(dice.choice((0, 0, 1, 2)))]
        return cls(
            seed=seed,
            operations=dice.choice((15, 40, 80)),
            kills=tuple(dice.randint(1, most) for most in kills),
            weather=dice.choice((FAIR, FAIR, Weather(refused=0.03, lost=0.03, slow=0.01))),
            capabilities=capabilities,
            content_etags=dice.random() < 0.5,
            stale_s=stale_s,
            others=dice.choice((1, 1, 2)),
            pause_s=dice.choice((0.3, 2.0, 8.0)),
            options=MountOptions(
                delay_s=dice.choice((0.0, 0.5, 2.0)),
                parallel_operations=dice.choice((1, 8)),
                metadata_ttl_s=dice.choice((0.5, 5.0)),
            ),
        )


def with_stalls(plan: OthersPlan) -> OthersPlan:
    """The same with a store that never answers some writes."""
    return replace(plan, weather=replace(plan.weather, stalled=0.03))


def with_moved_folders(plan: OthersPlan) -> OthersPlan:
    """The same with programs that mostly rename directories, and more kills."""
    dice = random.Random(f"moved {plan.seed}")
    kills = tuple(dice.randint(1, dice.choice((30, 100, 300))) for _ in range(dice.choice((0, 1, 3))))
    return replace(
        plan,
        moves=True,
        kills=kills,
        stale_s=0.0,
        capabilities=replace(plan.capabilities, listing_consistent=True),
    )


def on_a_bad_disk(plan: OthersPlan) -> OthersPlan:
    """The same, perhaps with renamed directories, on a disk that fails now and then."""
    dice = random.Random(f"disk {plan.seed}")
    plan = with_moved_folders(plan) if dice.random() < 0.5 else plan
    return replace(plan, disk_failures=dice.choice((0.003, 0.01, 0.03)))


def with_lives_beside(plan: OthersPlan) -> OthersPlan:
    """The same, mostly with renamed directories, and what a kill at any step would have left."""
    dice = random.Random(f"beside {plan.seed}")
    plan = with_moved_folders(plan) if dice.random() < 0.7 else plan
    return replace(plan, forks=8, kills=plan.kills[: dice.choice((0, 1))])


def with_stays(plan: OthersPlan) -> OthersPlan:
    """The same with programs that keep files open and stand in directories, perhaps beside another mount."""
    dice = random.Random(f"stays {plan.seed}")
    plan = dice.choice((with_a_rival, with_moved_folders, replace))(plan)
    return replace(plan, stays=True, stale_s=0.0)


def with_hollow_prefixes(plan: OthersPlan) -> OthersPlan:
    """The same, perhaps beside another mount, in a store that keeps folders when all in them is gone."""
    plan = random.Random(f"hollow {plan.seed}").choice((replace, with_moved_folders, with_a_rival))(plan)
    return replace(plan, capabilities=replace(plan.capabilities, file_over_prefix=False))


def with_a_rival(plan: OthersPlan) -> OthersPlan:
    """The same beside another mount of the store, whose programs do the same; both die at once."""
    dice = random.Random(f"rival {plan.seed}")
    plan = with_moved_folders(plan) if dice.random() < 0.5 else replace(plan, stale_s=0.0)
    capabilities = replace(plan.capabilities, listing_consistent=True)
    return replace(plan, rival=True, others=dice.choice((0, 0, 1)), capabilities=capabilities)


@dataclass
class Claim:
    """What programs were told is kept: marks, and all the paths that they had."""

    marks: set[bytes]
    paths: list[str]


@dataclass
class OthersSimulation:
    """One run."""

    plan: OthersPlan
    caches: Caches
    log: Callable[[str], None] = field(default=lambda _line: None)
    _serial: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        plan = self.plan
        self.dice = random.Random(f"run {plan.seed}")
        self.store = SimulatedStore(
            dice=random.Random(f"store {plan.seed}"),
            capabilities=plan.capabilities,
            content_etags=plan.content_etags,
            stale_s=plan.stale_s,
            log=lambda line: self._say(f"    {line}"),
        )
        self.witness = self.store.witness = Witness(now=_now, content=self.store.objects)
        self.rival = RivalStore(
            dice=random.Random(f"rival {plan.seed}"),
            capabilities=plan.capabilities,
            memory=self.store.memory,
            rival_of=self.witness,
            log=lambda line: self._say(f"                  {line}"),
        )
        self.disk = Disk(random.Random(f"disk {plan.seed}"))
        self.rival_caches = Caches(self.caches.top / "rival")
        self.fork_dice = random.Random(f"fork {plan.seed}")
        self.forks: list[OthersSimulation] = []
        self.ours: dict[str, Claim] = {}
        self.doing: Op | None = None
        self.stay = Stay()

    async def main(self) -> None:
        """All lives, then the reckoning."""
        self._forget_uncertain()
        for kill in (*self.plan.kills, None):
            switch = KillSwitch(at=kill, on_kill=self._take_pictures, on_step=self._fork)
            self.store.switch = self.rival.switch = switch
            try:
                with self.disk.failing(), mortal(switch):
                    async with AsyncExitStack() as stack:
                        mounts = [
                            await stack.enter_async_context(mounted(store, caches.path, self.plan.options))
                            for store, caches in self._sides()
                        ]
                        await self._life(mounts, last=kill is None)
            except BaseException as group:
                if not switch.dead or isinstance(group, KeyboardInterrupt):
                    raise
            self.disk.chance = 0.0
            self._say(f"-- killed at step {kill}" if switch.dead else "-- ended")
            self._forget_uncertain()
        for number, fork in enumerate(self.forks):
            self._say(f"==== fork {number}")
            await fork.main()

    def _fork(self) -> None:
        """Now and then: what if the process was killed now? Such lives are lived after this one."""
        dice = self.fork_dice
        if len(self.forks) >= self.plan.forks or dice.random() > FORK_CHANCE:
            return
        plan = replace(
            self.plan,
            seed=dice.randrange(1 << 40),
            operations=dice.choice((0, 0, 20)),
            kills=(dice.randint(1, 60),) if dice.random() < 0.2 else (),
            others=dice.choice((0, 1)),
            forks=0,
        )
        self._say(f"==== fork {len(self.forks)} taken")
        fork = OthersSimulation(plan, self.caches.fork(), self.log)
        fork.store.take_over(self.store)
        fork.witness = fork.store.witness = self.witness.forked(fork.store.objects)
        fork.ours, fork.doing = copy.deepcopy(self.ours), self.doing
        fork._serial = self._serial
        self.forks.append(fork)

    def _sides(self) -> list[tuple[SimulatedStore, Caches]]:
        ours: list[tuple[SimulatedStore, Caches]] = [(self.store, self.caches)]
        return [*ours, (self.rival, self.rival_caches)] if self.plan.rival else ours

    def _take_pictures(self) -> None:
        for _, caches in self._sides():
            if caches.path.exists():  # else the first mount was not up yet
                caches.take_picture()

    async def _life(self, mounts: list[Mount], *, last: bool) -> None:
        self.store.weather = self.rival.weather = self.plan.weather
        client, self.stay = Client(mounts[0].filesystem), Stay()
        share = self.plan.operations // (len(self.plan.kills) + 1) + 1
        self.disk.chance = self.plan.disk_failures
        async with trio.open_nursery() as nursery:
            for mount in mounts[1:]:
                nursery.start_soon(self._compete, Client(mount.filesystem))
            for _ in range(self.plan.others):
                nursery.start_soon(self._meddle)
            for _ in range(share):
                await self._habit(client)
            if last and LATE in client.handles:
                await self._leave(client)
            await trio.sleep(self.dice.choice((0.0, 3.0)))
            nursery.cancel_scope.cancel()
        self.disk.chance = 0.0
        if not last:
            return
        self.store.weather = self.rival.weather = FAIR
        for mount in mounts:
            await mount.filesystem.commit_everything()
            if self.plan.disk_failures:
                mount.uploader.ledger.unpark()  # what the disk could not read or keep
            with trio.move_on_after(3600.0) as scope:
                await mount.uploader.drain()
            waiting = [
                f"{one.kind} {one.source} {one.path} {one.state} {one.error}" for one in mount.uploader.ledger
            ]
            self._check(not scope.cancelled_caught, "the queue never drains", *waiting)
        await trio.sleep(self.plan.stale_s + 30.0)
        wrong = self._lost(mounts[0])
        for mount, (_, caches) in zip(mounts, self._sides(), strict=True):
            wrong += await self._left_over(mount, caches)
        self._check(not wrong, "in the end", *wrong)

    # -- somebody else ------------------------------------------------------------------------------

    async def _meddle(self) -> None:
        while True:
            await trio.sleep(self.dice.uniform(0.0, 2 * self.plan.pause_s))
            keys = [key for key in self.store.objects() if not key.endswith("/") and key != ROOT_MARKER_KEY]
            key = self.dice.choice(keys) if keys and self.dice.random() < 0.7 else self._path()
            if ".conflict-" in key:
                continue  # it has no reason to: it is the last place where ours is
            if self.dice.random() < 0.25:
                self._say(f"  others delete {key}")
                self.store.delete_foreign(key)
            else:
                self._say(f"  others write {key}")
                self.store.write_foreign(key, self._data("theirs", self.dice.choice(SIZES)))

    async def _compete(self, client: Client) -> None:
        """Programs over the other mount: files come, change, move and go."""
        dice = self.rival.dice
        while True:
            await trio.sleep(dice.uniform(0.0, self.plan.pause_s))
            path, other = (f"{dice.choice(FOLDERS)}/{dice.choice(NAMES)}".lstrip("/") for _ in range(2))
            folder, place = dice.choice(FOLDERS[1:]), dice.choice((*FOLDERS[1:], "n"))
            data = self._data("rival", dice.choice(SIZES))
            truncates = dice.choice((0, os.O_TRUNC))
            ops: tuple[tuple[Op, ...], ...] = (
                (
                    Op("create", path, slot=1, flags=truncates),
                    Op("write", slot=1, data=data),
                    Op("close", slot=1),
                ),
                (Op("rename", path, other),),
                (Op("unlink", path),),
                (Op("mkdir", folder),),
                (Op("rename", folder, place),),
                (Op("list", folder), Op("stat", path)),
            )
            for op in dice.choices(ops, (6, 3, 3, 2, 3 if self.plan.moves else 1, 4))[0]:
                self._say(f"              {op}")
                try:
                    await client.apply(op)
                except OSError as error:
                    self._say(f"                {error}")
                    break

    # -- our program --------------------------------------------------------------------------------

    async def _habit(self, client: Client) -> None:
        habits: tuple[tuple[Callable[[Client], Awaitable[object]], int], ...] = (
            (self._save, 6),
            (self._patch, 4),
            (self._replace, 3),
            (self._rename, 3),
            (self._unlink, 3),
            (self._mkdir, 4 if self.plan.moves else 1),
            (self._rename_folder, 8 if self.plan.moves else 1),
            (self._chmod, 1),
            (self._rest, 5),
            *(((self._linger, 8), (self._stand, 5)) if self.plan.stays else ()),
        )
        kinds, weights = zip(*habits, strict=True)
        await self.dice.choices(kinds, weights)[0](client)

    async def _save(self, client: Client, path: str | None = None, at: str | None = None) -> bool:
        """Write a whole file; `at` is how its path is told."""
        path = path or self._path()
        data = self._data("ours", self.dice.choice(SIZES))
        made = Op("create", at or path, slot=1, flags=os.O_TRUNC)
        if not await self._do(client, made):
            return False
        self._say(f"save {path} {data[:20]!r}")
        self.witness.act(path)
        self.ours.pop(path, None)
        self.stay.written(path)
        written = await self._do(client, Op("write", path, slot=1, data=data))
        if await self._close(client, path) and written:
            self.ours[path] = Claim(marks(data), [path])
            return True
        return False

    async def _patch(self, client: Client) -> None:
        path = self._path()
        if not await self._do(client, Op("open", path, slot=1, flags=os.O_RDWR)):
            return
        size = (await client.fs.getattr(client.handles[1][1])).size_bytes
        data = self._data("patch", 40)
        at = self.dice.choice((0, size, self.dice.randrange(size + 1)))
        self._say(f"patch {path} {data[:20]!r} at {at} of {size}")
        self.witness.act(path)
        self.ours.pop(path, None)  # what it leaves of earlier marks depends on whose version it changed
        self.stay.written(path)
        written = await self._do(client, Op("write", path, slot=1, offset=at, data=data))
        if await self._close(client, path) and written:
            self.ours[path] = Claim(marks(data), [path])

    async def _replace(self, client: Client) -> None:
        path = self._path()
        if await self._save(client, f"{path}.tmp"):
            if self.dice.random() < 0.5:
                await self._rest(client)
            await self._move(client, f"{path}.tmp", path)

    async def _rename(self, client: Client) -> None:
        await self._move(client, self._path(), self._path())

    async def _move(self, client: Client, path: str, other: str) -> None:
        if path != other and await self._do(client, Op("rename", path, other)):
            self.witness.act(path)
            self.witness.act(other)
            self.ours.pop(other, None)
            self.stay.moved(path, other)
            for old in [old for old in self.ours if old == path or old.startswith(f"{path}/")]:
                new = other + old[len(path) :]
                self.ours[new] = self.ours.pop(old)
                self.ours[new].paths.append(new)

    async def _unlink(self, client: Client) -> None:
        path = self._path()
        if await self._do(client, Op("unlink", path)):
            self.witness.act(path)
            self.ours.pop(path, None)
            self.stay.removed(path)

    async def _linger(self, client: Client) -> None:
        """A file is opened, written to some time later, and closed some time after that."""
        stay, path = self.stay, self.stay.file or ""
        if LATE not in client.handles:
            path = self._path()
            if await self._do(client, Op("open", path, slot=LATE, flags=os.O_RDWR)):
                stay.file, stay.marks = path, frozenset()
        elif self.dice.random() < 0.4:
            await self._leave(client)
        else:
            data = self._data("late", 40)
            if path:
                self.witness.act(path)
                self.ours.pop(path, None)
            if await self._do(client, Op("write", path, slot=LATE, data=data)):
                stay.marks = frozenset(marks(data))

    async def _leave(self, client: Client) -> None:
        closed = await self._do(client, Op("close", self.stay.file or "", slot=LATE))
        if closed and self.stay.file is not None and self.stay.marks:
            self.ours[self.stay.file] = Claim(set(self.stay.marks), [self.stay.file])
        self.stay.file = None

    async def _stand(self, client: Client) -> None:
        """Somebody stands in a directory, and makes files there."""
        stay, folder = self.stay, self.dice.choice(FOLDERS[1:])
        if not stay.stands or self.dice.random() < 0.3:
            if await self._do(client, Op("stand", folder)):
                stay.folder, stay.stands = folder, True
            return
        name = self.dice.choice(NAMES)
        saved = await self._save(client, f"{stay.folder or GONE}/{name}", f"./{name}")
        self._check(not saved or stay.folder is not None, "a file was made in a directory that was replaced")

    async def _mkdir(self, client: Client) -> None:
        await self._do(client, Op("mkdir", self.dice.choice(FOLDERS[1:])))

    async def _rename_folder(self, client: Client) -> None:
        await self._move(client, self.dice.choice(FOLDERS[1:]), self.dice.choice((*FOLDERS[1:], "n")))

    async def _chmod(self, client: Client) -> None:
        await self._do(client, Op("chmod", self._path(), number=self.dice.choice((0o600, 0o644))))

    async def _rest(self, client: Client) -> None:
        await self._do(client, Op("sleep", number=self.dice.choice((10, 1000, 3000, 9000))))

    async def _close(self, client: Client, path: str) -> bool:
        return await self._do(client, Op("close", path, slot=1))

    async def _do(self, client: Client, op: Op) -> bool:
        """Whether the mount acknowledged an operation."""
        self._say(str(op))
        self.doing = op
        try:
            await client.apply(op)
        except OSError as error:
            self._say(f"  {error}")
            self.doing = None
            return False
        self.doing = None
        return True

    def _forget_uncertain(self) -> None:
        """Of what was being done when the process died, either outcome is right."""
        if self.doing is None:
            return
        for path in (self.doing.path, self.doing.other):
            self.witness.act(path)
            for old in [old for old in self.ours if path and f"{old}/".startswith(f"{path}/")]:
                del self.ours[old]
        self.doing = None

    # -- judgement ----------------------------------------------------------------------------------

    def _lost(self, mount: Mount) -> list[str]:
        """What is not where it should be, and nobody else's doing."""
        objects = self.store.objects()
        wrong = list(self.witness.violations) + list(self.store.violations)
        left = sorted(mount.uploader.ledger, key=lambda one: one.seq)
        parked = [one for one in left if one.state is State.PARKED]
        kept = [_content(one) for one in left]
        for claim in self.ours.values():
            names = [key for key in objects if key.partition(".conflict-")[0] in claim.paths]
            names += [key for key in objects if ".conflict-" in key]
            is_kept = any(
                claim.marks <= marks(data) for data in (*map(objects.get, names), *self.witness.taken) if data
            )
            waits = parked and (
                any(claim.marks <= marks(data) for data in kept)
                or any(
                    _concerns(one, path) or one.path.partition(".conflict-")[0] == path
                    for one in left
                    for path in claim.paths
                )
            )
            if not is_kept and not waits:
                elsewhere = [key for key, data in objects.items() if claim.marks <= marks(data)]
                wrong.append(f"{claim.paths}: ours {claim.marks} is lost (elsewhere: {elsewhere})")
        return wrong

    async def _left_over(self, mount: Mount, caches: Caches) -> list[str]:
        """What a mount did not get done, and how what it shows differs from what is stored."""
        objects = self.store.objects()
        left = sorted(mount.uploader.ledger, key=lambda one: one.seq)
        parked = [one for one in left if one.state is State.PARKED]
        wrong = [
            f"{one.kind} {one.source} {one.path} is {one.state} {one.error}"
            for one in left
            if (one.state is State.PARKED and "can no longer be had" not in one.error) or not parked
        ]
        wrong += [f"upload of {one.key} is left over" for one in self.store.pending_uploads()]
        if not parked:
            wrong += [f"journal row {row.seq} {row.kind} {row.path}" for row in mount.journal.load()]
            mount.staging.sweep()
            staged = [entry.name for entry in caches.path.joinpath("staging").iterdir()]
            if staged:
                wrong.append(f"staging holds {staged}, {mount.staging.used_bytes} bytes counted")
            walk = await Client(mount.filesystem).walk()
            seen = {path: entry[2] for path, entry in walk.items() if entry[0] == "file"}
            shown = {key: data for key, data in objects.items() if _is_file(key, objects)}
            wrong += [
                f"{path} shows {_start(seen.get(path))}, and {_start(shown.get(path))} is stored"
                for path in sorted({*seen, *shown})
                if seen.get(path) != shown.get(path)
            ]
        return wrong

    def _check(self, condition: bool, *text: str) -> None:
        if not condition:
            raise SimulationError("\n  ".join(text))

    # -- parts --------------------------------------------------------------------------------------

    def _path(self) -> str:
        return f"{self.dice.choice(FOLDERS)}/{self.dice.choice(NAMES)}".lstrip("/")

    def _data(self, who: str, size: int) -> bytes:
        """Bytes with one mark at the start, unlike all others."""
        mark = f"<{who}-{next(self._serial)}>".encode()
        return mark + b"." * max(0, size - len(mark))

    def _say(self, line: str) -> None:
        self.log(f"{_now():9.3f} {line}")


def simulate_others(plan: OthersPlan, log: Callable[[str], None] = lambda _line: None) -> None:
    """Run a plan.

    Raises:
        SimulationError: a promise was broken.
    """
    in_a_world(plan.seed, lambda caches: OthersSimulation(plan, caches, log).main())


def _is_file(key: str, objects: dict[str, bytes]) -> bool:
    """Whether a key is shown as a file: a directory of its name hides it."""
    if key.endswith("/") or key.startswith(".objfs/"):
        return False
    return not any(other.startswith(f"{key}/") for other in objects)


def _content(operation: Operation) -> bytes:
    """What an operation has to store."""
    if operation.staged is None:
        return operation.body or b""
    return operation.staged.read(0, operation.staged.length)


def _now() -> float:
    try:
        return trio.current_time()
    except RuntimeError:
        return 0.0


def _start(data: bytes | None) -> str:
    return "nothing" if data is None else f"{data[:24]!r}*{len(data)}"


def _concerns(operation: Operation, path: str) -> bool:
    """Whether it is about a path, or moves a tree that the path is in."""
    names = (operation.path, operation.source)
    is_tree = operation.kind is Kind.RENAME_TREE
    return path in names or (is_tree and any(is_within(path, name) for name in names))
