"""A natively async store under simulated weather: latency, refusals, lost answers, and sudden death."""

from __future__ import annotations

import functools
from copy import copy
from dataclasses import dataclass, field, replace
from hashlib import md5
from typing import TYPE_CHECKING, TypeVar

import trio

from objfs.drivers.memory import MemoryStore, _Object
from objfs.errors import CorruptError, ObjectStoreError, ThrottledError, UnavailableError
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import (
    ANY,
    KIB,
    Blob,
    Body,
    ByteRange,
    Capabilities,
    Condition,
    DeleteFailure,
    ListPage,
    MultipartLimits,
    ObjectInfo,
    Part,
    PendingUpload,
    PutOptions,
    Version,
)

if TYPE_CHECKING:
    import builtins
    import random
    from collections.abc import Callable, Sequence

    from tests.sim.witness import Witness

T = TypeVar("T")

LIMITS = MultipartLimits(min_part_bytes=8 * KIB, max_part_bytes=1024 * KIB, max_parts=100)


class Killed(BaseException):
    """The process is killed at this point; nothing of it runs any more."""


@dataclass
class KillSwitch:
    """Ends the process at the n-th step that anything outside of it could see.

    Attributes:
        at: the step, or None to live on.
        on_kill: takes the picture of the disk that the next life begins with.
        on_step: called at each step.
    """

    at: int | None = None
    on_kill: Callable[[], None] = field(default=lambda: None)
    on_step: Callable[[], None] = field(default=lambda: None)
    steps: int = 0
    dead: bool = False

    def tick(self) -> None:
        """One step was taken."""
        if self.dead:
            raise Killed
        self.steps += 1
        self.on_step()
        if self.steps == self.at:
            self.on_kill()
            self.dead = True
            raise Killed


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How badly requests fare; probabilities per request sent.

    Attributes:
        refused: it fails before it takes effect.
        lost: it takes effect, and the answer is lost.
        slow: it takes up to half a minute.
        stalled: a write is never answered, whether it took effect or not.
        attempts: how often a request is sent before the caller hears of the failure.
    """

    refused: float = 0.0
    lost: float = 0.0
    slow: float = 0.0
    stalled: float = 0.0
    attempts: int = 4
    latency_s: tuple[float, float] = (0.001, 0.05)


FAIR = Weather()


@dataclass
class SimulatedStore:
    """An `AsyncObjectStore`, its own multipart and compose, over a `MemoryStore`.

    Attributes:
        content_etags: equal bytes have equal ETags, as in S3; otherwise each write makes a new one.
        foreign: ETags that somebody else wrote.
        before_request: called with name and key of each request; may raise.
        lose: whether the answer to a request that took effect is lost.
        violations: what the mount did to others' objects without asking.
        witness: whoever watches who destroys whose versions.
        stale_s: listings show the store as it was up to so long ago.
        hollow: prefixes that listings with a delimiter tell although nothing is below them; where objects
            cannot be over prefixes, each object that is deleted leaves one.
        page_keys: most keys of a page of a listing.
    """

    dice: random.Random
    weather: Weather = FAIR
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(
            put_conditions=True, complete_conditions=True, copy_conditions=True, listing_metadata=False
        )
    )
    content_etags: bool = False
    switch: KillSwitch = field(default_factory=KillSwitch)
    memory: MemoryStore = field(default_factory=lambda: MemoryStore(limits=LIMITS))
    foreign: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    witness: Witness | None = None
    stale_s: float = 0.0
    hollow: set[str] = field(default_factory=set)
    page_keys: int = 7
    requests: int = 0
    log: Callable[[str], None] = field(default=lambda _line: None)
    before_request: Callable[[str, str], None] = field(default=lambda _name, _key: None)
    lose: Callable[[str, str], bool] = field(default=lambda _name, _key: False)

    def __post_init__(self) -> None:
        self._history: builtins.list[tuple[float, dict[str, _Object]]] = []
        if self.content_etags:
            self.memory._new_etag = _content_etag  # type: ignore[method-assign]

    @property
    def multipart(self) -> SimulatedStore:
        return self

    @property
    def compose(self) -> SimulatedStore:
        return self

    @property
    def tags(self) -> SimulatedTags:
        return SimulatedTags(self)

    @property
    def limits(self) -> MultipartLimits:
        return self.memory.multipart.limits

    # -- for tests ----------------------------------------------------------------------------------

    def objects(self) -> dict[str, bytes]:
        """What is in the store."""
        return {key: found.data for key, found in self.memory._objects.items()}

    def write_foreign(self, key: str, data: bytes) -> None:
        """Somebody else writes."""
        before = self.memory._objects.get(key)
        if self.witness is not None:
            self.witness.foreign_write(data, None if before is None else before.data)
        self._remember()
        self.foreign.add(self.memory.put(key, data).etag)
        self._remember()

    def delete_foreign(self, key: str) -> None:
        """Somebody else deletes."""
        before = self.memory._objects.get(key)
        if self.witness is not None and before is not None:
            self.witness.foreign_delete(before.data)
        self._remember()
        self._delete([key])
        self._remember()

    def take_over(self, other: SimulatedStore) -> None:
        """Have what another store has."""
        self.memory._objects, self.memory._keys = dict(other.memory._objects), list(other.memory._keys)
        self.memory._serial = copy(other.memory._serial)
        self.hollow = set(other.hollow)
        self.memory._multipart._uploads = {
            upload_id: replace(upload, parts=dict(upload.parts))
            for upload_id, upload in other.memory._multipart._uploads.items()
        }

    def copy_limit(self, most_bytes: int) -> None:
        """Larger objects are copied in parts."""
        self.capabilities = replace(self.capabilities, max_single_put_bytes=most_bytes)

    def pending_uploads(self) -> builtins.list[PendingUpload]:
        """Multipart uploads under way."""
        return self.memory.multipart.list_uploads("")

    # -- requests -----------------------------------------------------------------------------------

    async def head(self, key: str) -> ObjectInfo:
        return await self._request("HEAD", key, functools.partial(self.memory.head, key))

    async def get(
        self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> Blob:
        call = functools.partial(self.memory.get, key, byte_range=byte_range, if_match=if_match)
        return await self._request("GET", key, call)

    async def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        assert condition == ANY or self.capabilities.put_conditions

        def send() -> Version:
            self._judge("PUT", key, condition)
            self._judge_place(key)
            return self.memory.put(key, body, options=options, condition=condition)

        return await self._request("PUT", key, send, conditional=condition != ANY)

    async def delete(self, keys: Sequence[str]) -> builtins.list[DeleteFailure]:
        assert 0 < len(keys) <= 1000
        left = list(keys)
        done = functools.partial(self._delete, left)
        if len(left) > 1 and self.dice.random() < self.weather.refused:  # only some keys fail
            failed = [key for key in left if self.dice.random() < 0.3]
            await self._request("DELETE", left[0], lambda: self._delete([*set(left) - set(failed)]))
            return [DeleteFailure(key=key, error=ThrottledError("Slow down.", key=key)) for key in failed]
        return await self._request("DELETE", ",".join(keys), done)

    async def list(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page: str | None = None,
        max_keys: int = 1000,
        with_metadata: bool = False,
    ) -> ListPage:
        call = functools.partial(
            self.memory.list,
            prefix,
            delimiter=delimiter,
            start_after=start_after,
            page=page,
            max_keys=min(max_keys, self.page_keys),
            with_metadata=with_metadata and self.capabilities.listing_metadata,
        )
        page_of = functools.partial(self._list, call)
        if delimiter and page is None:
            page_of = functools.partial(self._with_hollow, page_of, prefix)
        return await self._request("LIST", prefix, page_of)

    async def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version:
        assert condition == ANY or self.capabilities.copy_conditions

        def send() -> Version:
            if source_key != key:
                self._judge("COPY", key, condition)
                self._judge_place(key)
            return self.memory.copy(
                source_key, key, source_if_match=source_if_match, options=options, condition=condition
            )

        compared = condition != ANY or (source_key == key and source_if_match is not None)
        return await self._request(f"COPY {source_key} to", key, send, conditional=compared)

    def _delete(self, keys: Sequence[str]) -> builtins.list[DeleteFailure]:
        if not self.capabilities.file_over_prefix:
            self.hollow.update(f"{key}/" for key in keys if not key.endswith("/"))
        return self.memory.delete(keys)

    def _judge_place(self, key: str) -> None:
        """Write down whether an object is put over others, or below one, where that cannot be."""
        if self.witness is not None or self.capabilities.file_over_prefix:
            return
        objects = self.memory._objects
        clashes = [above for above in _objects_above(key)[:-1] if above in objects]
        if not key.endswith("/"):
            clashes += [one for one in objects if one.startswith(f"{key}/") and one != f"{key}/"]
        self.violations += [f"{key} is put where {one} is" for one in clashes]

    def _with_hollow(self, call: Callable[[], ListPage], prefix: str) -> ListPage:
        """A listing with the folders that were left behind, as far as no object has taken their place."""
        page, objects = call(), self.memory._objects
        told = {
            prefix + folder[len(prefix) :].partition("/")[0] + "/"
            for folder in self.hollow
            if folder.startswith(prefix)
            and folder != prefix
            and not any(above in objects for above in _objects_above(folder))
        }
        return replace(page, prefixes=tuple(sorted({*page.prefixes, *told})))

    # -- multipart and compose ----------------------------------------------------------------------

    async def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        call = functools.partial(self.memory.multipart.create, key, options=options)
        return await self._request("CREATE", key, call, attempts=1)

    async def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        call = functools.partial(self.memory.multipart.upload_part, key, upload_id, number, body)
        return await self._request("PART", key, call)

    async def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        assert condition == ANY or self.capabilities.complete_conditions

        def send() -> Version:
            self._judge("COMPLETE", key, condition)
            self._judge_place(key)
            return self.memory.multipart.complete(key, upload_id, parts, condition=condition)

        return await self._request("COMPLETE", key, send, conditional=condition != ANY)

    async def abort(self, key: str, upload_id: str) -> None:
        await self._request("ABORT", key, functools.partial(self.memory.multipart.abort, key, upload_id))

    async def list_uploads(self, prefix: str) -> builtins.list[PendingUpload]:
        call = functools.partial(self.memory.multipart.list_uploads, prefix)
        return await self._request("UPLOADS", prefix, call)

    async def copy_part(
        self,
        source_key: str,
        byte_range: ByteRange,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_if_match: str | None = None,
    ) -> Part:
        call = functools.partial(
            self.memory.multipart.copy_part,
            source_key,
            byte_range,
            key,
            upload_id,
            number,
            source_if_match=source_if_match,
        )
        return await self._request(f"COPYPART {source_key} to", key, call)

    # -- weather ------------------------------------------------------------------------------------

    async def _request(
        self,
        name: str,
        key: str,
        send: Callable[[], T],
        *,
        attempts: int | None = None,
        conditional: bool = False,
    ) -> T:
        attempt, sent_s = 0, trio.current_time()
        while True:
            attempt += 1
            try:
                return await self._send(name, key, send, sent_s=sent_s, conditional=conditional)
            except ObjectStoreError as error:
                error.after_retry = attempt > 1
                self.log(f"{name} {key}: {type(error).__name__}")
                if not error.retryable or attempt >= (attempts or self.weather.attempts):
                    raise
            await trio.sleep(self.dice.uniform(0.05, 0.5))

    async def _send(
        self, name: str, key: str, send: Callable[[], T], *, sent_s: float, conditional: bool
    ) -> T:
        self.requests += 1
        self.before_request(name, key)
        self.switch.tick()
        weather, dice = self.weather, self.dice
        await trio.sleep(dice.uniform(*weather.latency_s))
        if dice.random() < weather.slow:
            await trio.sleep(dice.uniform(1.0, 30.0))
        if dice.random() < weather.refused:
            raise dice.choice([ThrottledError, UnavailableError, CorruptError])("Refused.", key=key)
        if self.switch.dead:
            await trio.sleep_forever()
        is_write = not name.startswith(("HEAD", "LIST", "GET"))
        if weather.stalled and is_write and dice.random() < weather.stalled:
            if dice.random() < 0.5:
                self._witnessed(name, key, send, sent_s=sent_s, conditional=conditional)
            await trio.sleep_forever()
        answer = self._witnessed(name, key, send, sent_s=sent_s, conditional=conditional)
        self.log(f"{name} {key}")
        self.switch.tick()
        await trio.sleep(dice.uniform(*weather.latency_s))
        if dice.random() < weather.lost or self.lose(name, key):
            raise UnavailableError("The answer is lost.", key=key)
        return answer

    def _witnessed(
        self, name: str, key: str, send: Callable[[], T], *, sent_s: float, conditional: bool
    ) -> T:
        """Have a request take effect, before witnesses."""
        if self.witness is None:
            return send()
        before = self._remember()
        try:
            return send()
        finally:
            self._tell(self.witness, name, key, before, sent_s=sent_s, conditional=conditional)

    def _tell(
        self,
        witness: Witness,
        name: str,
        key: str,
        before: dict[str, _Object],
        *,
        sent_s: float,
        conditional: bool,
    ) -> None:
        told: builtins.list[str] = []
        if name in ("HEAD", "GET"):
            told = [key]
        elif name == "LIST" and not self.stale_s:
            told = [one for one in {*before, *witness.compared} if one.startswith(key)]
        elif name.startswith(("COPY ", "COPYPART ")):
            told = [name.split(" ")[1]]
        for one in told:
            witness.saw(one, before[one].data if one in before else None, compared=name != "LIST")
        after = self.memory._objects
        for one in {*before, *after}:
            old, new = before.get(one), after.get(one)
            if old is not new:
                lost = None if old is None or (new is not None and new.data == old.data) else old.data
                witness.changed(name, one, lost, sent_s=sent_s, conditional=conditional)
        self._remember()

    def _remember(self) -> dict[str, _Object]:
        """The store as it is now, also for listings to come."""
        present = dict(self.memory._objects)
        if self.stale_s:
            self._history.append((trio.current_time(), present))
        return present

    def _list(self, call: Callable[[], ListPage]) -> ListPage:
        """A listing, perhaps of what was there before."""
        if not self.stale_s:
            return call()
        asked_s = trio.current_time() - self.dice.choice((0.0, self.dice.uniform(0, self.stale_s)))
        while len(self._history) > 1 and self._history[1][0] < trio.current_time() - self.stale_s:
            self._history.pop(0)
        shown = [objects for at, objects in self._history if at <= asked_s][-1:] or [self.memory._objects]
        if self.witness is not None:
            for found in shown[0].values():
                self.witness.seen.setdefault(found.data, trio.current_time())
        memory = self.memory
        present, memory._objects = (memory._objects, memory._keys), shown[0]
        memory._keys = sorted(shown[0], key=str.encode)
        try:
            return call()
        finally:
            memory._objects, memory._keys = present

    def _judge(self, name: str, key: str, condition: Condition) -> None:
        """Write down whether an object of somebody else's is replaced without asking."""
        found = self.memory._objects.get(key)
        if self.witness is not None or found is None or found.info.version.etag not in self.foreign:
            return
        if not condition.if_absent and condition.if_match is None:
            self.violations.append(f"{name} {key} replaced somebody else's object")


@dataclass
class RivalStore(SimulatedStore):
    """The same store as another mount of it sees it: what that one does, somebody else does.

    Attributes:
        rival_of: the witness of the first mount.
    """

    rival_of: Witness | None = None

    def _witnessed(
        self, name: str, key: str, send: Callable[[], T], *, sent_s: float, conditional: bool
    ) -> T:
        before = dict(self.memory._objects)
        try:
            return send()
        finally:
            after = self.memory._objects
            for one in {*before, *after}:
                old, new = before.get(one), after.get(one)
                if old is not new and self.rival_of is not None:
                    contents = [None if found is None else found.data for found in (new, old)]
                    self.rival_of.rival_changed(*contents)


@dataclass(frozen=True)
class SimulatedTags:
    """The tags of a simulated store."""

    store: SimulatedStore

    async def read(self, key: str) -> dict[str, str]:
        call = functools.partial(self.store.memory.tags.read, key)
        return await self.store._request("GETTAGS", key, call)


def _content_etag(data: bytes) -> str:
    return md5(data, usedforsecurity=False).hexdigest()


def without_conditions(capabilities: Capabilities) -> Capabilities:
    """A store that ignores conditions."""
    return replace(capabilities, put_conditions=False, complete_conditions=False, copy_conditions=False)


def _objects_above(folder: str) -> list[str]:
    """Keys of objects, not of markers, that a folder would be below."""
    parts = folder.rstrip("/").split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
