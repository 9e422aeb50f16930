"""Keeps pinned files in the cache, version after version."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from objfs.control.pins import read_pins, write_pins
from objfs.errors import MountError, ObjfsError, first_error
from objfs.store.values import MIB
from objfs.vfs.warming import WarmCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from objfs.vfs.warming import Warmer, WarmFile
    from objfs_cache.blocks import BlockCache

log = logging.getLogger("objfs.pins")

PINNED_SHARE = 0.9  # of the cache: the rest is for whatever else is read
STORE_INTERVAL_S = 60.0  # how soon a version that nobody here has looked at is noticed
TREE_INTERVAL_S = 2.0  # how soon one is that somebody has: in memory, no request
TREE_REST = 50  # a look at many files in memory is followed by a rest so many times as long


@dataclass(frozen=True, slots=True, kw_only=True)
class PinFacts:
    """One pin: its files and bytes in the store, and how much of them is in the cache."""

    path: str
    files: int
    bytes: int
    held_bytes: int


class Pinning:
    """The pins of one mount."""

    def __init__(self, cache_path: Path, warmer: Warmer, blocks: BlockCache) -> None:
        self._cache_path = cache_path
        self._warmer = warmer
        self._blocks = blocks
        self._pins = read_pins(cache_path)
        self._kept: frozenset[str] = frozenset()
        self._news = trio.Event()
        self._told: str | None = None
        self._ask_at = 0.0

    @property
    def paths(self) -> Sequence[str]:
        """What is pinned."""
        return self._pins

    async def add(self, paths: Iterable[str]) -> list[WarmFile]:
        """Pin paths, and return their files, which the caller may fetch; else that is done by and by.

        Raises:
            MountError: they are not there, or would not fit.
        """
        new = [path for path in dict.fromkeys(paths) if path not in self._pins]
        files: list[WarmFile] = []
        for path in new:
            files += await self._find(path)
        before = await self._all_files()
        total = sum({one.source.object_id: one.size_bytes for one in [*before, *files]}.values())
        if total > self.room_bytes:
            raise MountError(
                f"with {_named(new)}, {show_mib(total)} would be pinned, and pins may take "
                f"{show_mib(self.room_bytes)}, {PINNED_SHARE:.0%} of the cache; pin less, or enlarge it: "
                "objfs remount MOUNT -o cache_size=SIZE."
            )
        self._pins = sorted({*self._pins, *new})
        write_pins(self._cache_path, self._pins)
        ids = {one.source.object_id for one in files}
        self._kept |= ids
        self._news.set()
        await trio.to_thread.run_sync(lambda: self._blocks.pin(ids, keep_others=True))
        return files

    async def remove(self, paths: Sequence[str]) -> None:
        """Give paths up to eviction; raises MountError if one is not pinned."""
        for path in paths:
            if path not in self._pins:
                inside = next((pin for pin in self._pins if pin == "" or path.startswith(f"{pin}/")), None)
                hint = f"; it is part of '{inside or '/'}', which is" if inside is not None else ""
                raise MountError(f"'{path or '/'}' is not pinned itself{hint}.")
        self._pins = [pin for pin in self._pins if pin not in paths]
        write_pins(self._cache_path, self._pins)
        self._ask_at = trio.current_time()
        self._news.set()
        if not self._pins:
            await trio.to_thread.run_sync(lambda: self._blocks.pin((), keep_others=False))
            self._kept = frozenset()

    async def facts(self) -> list[PinFacts]:
        """Every pin with its sizes, as far as the files are known here."""
        found = []
        for path in self._pins:
            files = self._known(path)
            total = sum(one.size_bytes for one in files)
            lacking = await self._warmer.lacking_bytes(files)
            found.append(PinFacts(path=path, files=len(files), bytes=total, held_bytes=total - lacking))
        return found

    @property
    def room_bytes(self) -> int:
        """Most bytes that may be pinned."""
        return int(self._blocks.limit_bytes * PINNED_SHARE)

    async def run(self) -> None:
        """Follow the pinned files until cancelled."""
        self._ask_at = trio.current_time()
        while True:
            self._news = trio.Event()
            if not self._pins:
                await self._news.wait()
                continue
            begun_at = trio.current_time()
            ask_store = begun_at >= self._ask_at
            if ask_store:
                self._ask_at = begun_at + STORE_INTERVAL_S
            try:
                await self._follow(ask_store=ask_store)
            except Exception as error:  # noqa: BLE001  # the next round tries anew
                self._tell(f"pinned files could not be looked at: {first_error(error)}")
            took_s = 0.0 if ask_store else trio.current_time() - begun_at
            with trio.move_on_after(max(TREE_INTERVAL_S, took_s * TREE_REST)):
                await self._news.wait()

    async def _follow(self, *, ask_store: bool) -> None:
        files: list[WarmFile] = []
        complete, pins = ask_store, self._pins
        for path in pins:
            if not ask_store:
                files += self._known(path)
                continue
            try:
                files += await self._warmer.files(await self._warmer.find(path))
            except FileNotFoundError:
                continue  # it may come back
            except (OSError, ObjfsError, ExceptionGroup) as error:
                complete = False
                log.debug("pinned %r: %s", path, first_error(error))
        ids = {one.source.object_id for one in files}
        if not ask_store and ids <= self._kept:
            return
        complete = complete and pins == self._pins  # what was pinned meanwhile is not to be unpinned
        fitting = self._fitting(files)
        kept = frozenset(one.source.object_id for one in fitting)
        await trio.to_thread.run_sync(lambda: self._blocks.pin(kept, keep_others=not complete))
        self._kept = kept if complete else self._kept | kept
        counts = WarmCounts()
        await self._warmer.fetch(fitting, counts)
        if counts.fetched_bytes:
            log.info("%d bytes of pinned files were fetched", counts.fetched_bytes)
        if counts.failed:
            path, why = counts.failed[0]
            self._tell(
                f"{len(counts.failed)} pinned files are not in the cache, {path!r} for instance: {why}"
            )

    def _fitting(self, files: list[WarmFile]) -> list[WarmFile]:
        """The files that may be pinned, in order, while there is room."""
        room, chosen = self.room_bytes, []
        for one in files:
            if one.size_bytes <= room:
                room -= one.size_bytes
                chosen.append(one)
        if len(chosen) < len(files):
            self._tell(f"{len(files) - len(chosen)} pinned files find no room in the cache any more")
        return chosen

    async def _find(self, path: str) -> list[WarmFile]:
        try:
            return await self._warmer.files(await self._warmer.find(path))
        except OSError as error:
            raise MountError(f"'{path}' cannot be pinned: {error.strerror}.") from error

    async def _all_files(self) -> list[WarmFile]:
        files: list[WarmFile] = []
        for path in self._pins:
            try:
                files += await self._warmer.files(await self._warmer.find(path))
            except OSError:
                continue
        return files

    def _known(self, path: str) -> list[WarmFile]:
        return list(self._warmer.known(path))

    def _tell(self, text: str) -> None:
        """A warning, once until it changes."""
        if text != self._told:
            log.warning("%s", text)
        self._told = text


def show_mib(count: int) -> str:
    """Bytes for people."""
    return f"{count / MIB:,.1f} MiB"


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"'{paths[0] or '/'}'{more}" if paths else "this"
