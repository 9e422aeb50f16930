"""What a running mount does on request besides flushing and leaving: warm, pin, verify, take options anew."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import trio

from objfs.control.pinning import Pinning, show_mib
from objfs.control.remount import apply_settings, changed_settings
from objfs.control.verifying import VerifyResult, verify_cache
from objfs.errors import MountError, UsageError
from objfs.vfs.warming import WarmCounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from objfs.config import MountSettings
    from objfs.control.remount import Knobs
    from objfs.vfs.filesystem import FileSystem
    from objfs.vfs.warming import Warmer, WarmFile
    from objfs_cache.blocks import BlockCache

log = logging.getLogger("objfs.actions")

PROGRESS_INTERVAL_S = 0.25  # smooth to the eye, nothing to the processor
MAX_FAILURES_TOLD = 100  # of single files, in one answer


class ActionReply:
    """What a request is answered with while it runs; `progress` is looked at every now and then."""

    def __init__(self) -> None:
        self.progress: dict[str, Any] = {}


class Actions:
    """One mount's. Each request is `name` and its arguments -> an answer in plain JSON values."""

    def __init__(self, settings: MountSettings, blocks: BlockCache, knobs: Knobs) -> None:
        self._settings = settings
        self._blocks = blocks
        self._knobs = knobs
        self._filesystem: FileSystem | None = None
        self._warmer: Warmer | None = None
        self._pinning: Pinning | None = None
        self._requests = {
            "warm": self._warm,
            "pin": self._pin,
            "unpin": self._unpin,
            "pins": self._pins,
            "verify": self._verify,
            "remount": self._remount,
            "set": self._set,
        }

    def knows(self, name: object) -> bool:
        """Whether there is such a request."""
        return name in self._requests

    async def run(self, request: Mapping[str, Any], reply: ActionReply) -> dict[str, Any]:
        """Answer a request.

        Raises:
            ObjfsError: with one sentence for people.
        """
        return await self._requests[request["command"]](request, reply)

    @asynccontextmanager
    async def serving(self, filesystem: FileSystem) -> AsyncIterator[None]:
        """The mount is there within the block; pinned files are followed meanwhile."""
        self._filesystem = filesystem
        self._warmer = filesystem.warmer(self._blocks)
        self._pinning = Pinning(self._settings.cache_path, self._warmer, self._blocks)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pinning.run)
            try:
                yield
            finally:
                self._filesystem = self._warmer = self._pinning = None
                nursery.cancel_scope.cancel()

    async def _warm(self, request: Mapping[str, Any], reply: ActionReply) -> dict[str, Any]:
        warmer, _ = self._mounted()
        counts = WarmCounts()
        async with _told_meanwhile(counts, reply):
            files = await self._find(warmer, _paths(request), counts)
            counts.is_total = True
            room = self._blocks.limit_bytes - await self._pinned_elsewhere(files)
            if counts.total_bytes > room:
                raise MountError(
                    f"{show_mib(counts.total_bytes)} are asked for, and the cache has room for "
                    f"{show_mib(max(room, 0))}; name less, or enlarge it: "
                    "objfs remount MOUNT -o cache_size=SIZE."
                )
            await warmer.fetch(files, counts)
        return _told(counts)

    async def _pin(self, request: Mapping[str, Any], reply: ActionReply) -> dict[str, Any]:
        warmer, pinning = self._mounted()
        files = await pinning.add(_paths(request))
        counts = WarmCounts(
            total_files=len(files), total_bytes=sum(one.size_bytes for one in files), is_total=True
        )
        async with _told_meanwhile(counts, reply):
            await warmer.fetch(files, counts)
        return _told(counts)

    async def _unpin(self, request: Mapping[str, Any], _reply: ActionReply) -> dict[str, Any]:
        _, pinning = self._mounted()
        await pinning.remove(_paths(request))
        return {}

    async def _pins(self, _request: Mapping[str, Any], _reply: ActionReply) -> dict[str, Any]:
        _, pinning = self._mounted()
        return {"pins": [asdict(one) for one in await pinning.facts()], "room_bytes": pinning.room_bytes}

    async def _verify(self, _request: Mapping[str, Any], reply: ActionReply) -> dict[str, Any]:
        def note(done: VerifyResult) -> None:
            trio.from_thread.check_cancelled()
            reply.progress = asdict(done)

        return asdict(
            await trio.to_thread.run_sync(verify_cache, self._blocks, self._settings.cache_path, note)
        )

    async def _remount(self, request: Mapping[str, Any], _reply: ActionReply) -> dict[str, Any]:
        options = request.get("options")
        if not isinstance(options, dict):
            raise UsageError("no options were named.")
        before = self._settings
        after = changed_settings(before, {str(name): str(text) for name, text in options.items()})
        if after.cache_size_bytes != before.cache_size_bytes:
            await trio.to_thread.run_sync(self._knobs.set_cache_bytes, after.cache_size_bytes)
        apply_settings(after, self._knobs)
        log.info("changed: %s", ", ".join(f"{name}={after.text_of(name)}" for name in options))
        self._settings = after
        return {"changed": {name: [before.text_of(name), after.text_of(name)] for name in options}}

    async def _set(self, request: Mapping[str, Any], _reply: ActionReply) -> dict[str, Any]:
        values = request.get("values")
        if not isinstance(values, dict) or not values:
            raise UsageError("nothing was named that is to be set.")
        filesystem = self._filesystem
        if filesystem is None:
            raise MountError("the mount is not there yet, or is leaving already.")
        for path in _paths(request):
            try:
                await filesystem.treatment.set_at(path, values)
            except OSError as error:
                raise MountError(f"{path}: {error.strerror or error}.") from error
        return {}

    async def _find(self, warmer: Warmer, paths: list[str], counts: WarmCounts) -> list[WarmFile]:
        found: dict[str, WarmFile] = {}
        for path in paths:
            try:
                node = await warmer.find(path)
                files = await warmer.files(node)
            except OSError as error:
                raise MountError(f"'{path}' cannot be fetched: {error.strerror}.") from error
            found |= {one.source.object_id: one for one in files}
            counts.total_files = len(found)
            counts.total_bytes = sum(one.size_bytes for one in found.values())
        return list(found.values())

    async def _pinned_elsewhere(self, files: list[WarmFile]) -> int:
        """Bytes that no room can be made of, beside these files'."""

        def count() -> int:
            wanted = {one.source.object_id for one in files}
            mine = sum(
                sum(self._blocks.held(name).values()) for name in wanted if self._blocks.is_pinned(name)
            )
            return self._blocks.pinned_bytes() - mine

        return await trio.to_thread.run_sync(count)

    def _mounted(self) -> tuple[Warmer, Pinning]:
        if self._warmer is None or self._pinning is None:
            raise MountError("the mount is not there yet, or is leaving already.")
        return self._warmer, self._pinning


@asynccontextmanager
async def _told_meanwhile(counts: WarmCounts, reply: ActionReply) -> AsyncIterator[None]:
    """The counts go into the reply while the block runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell_progress, counts, reply)
        yield
        nursery.cancel_scope.cancel()


async def _tell_progress(counts: WarmCounts, reply: ActionReply) -> None:
    while True:
        reply.progress = _told(counts)
        await trio.sleep(PROGRESS_INTERVAL_S)


def _told(counts: WarmCounts) -> dict[str, Any]:
    value = asdict(counts)
    value["failed_files"] = len(counts.failed)
    value["failed"] = [list(one) for one in counts.failed[:MAX_FAILURES_TOLD]]
    return value


def _paths(request: Mapping[str, Any]) -> list[str]:
    paths = request.get("paths")
    if not isinstance(paths, list) or not paths:
        raise UsageError("no path was named.")
    return [str(path) for path in paths]
