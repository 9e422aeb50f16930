"""Filling the disk cache ahead of need: which blocks of which files, fetched beside what programs read."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from objfs.errors import ObjectStoreError, ObjfsError, StaleVersionError, first_error
from objfs.read.values import Source
from objfs.store.parallel import for_each
from objfs.store.threads import in_thread
from objfs.store.values import MIB, Version
from objfs.vfs.content import is_regular, object_id
from objfs.vfs.nodes import DirectoryNode, FileNode, Node
from objfs.vfs.proving import PROVE_AT_ONCE
from objfs.vfs.tree import Tree, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from objfs.read.reader import Reader
    from objfs.vfs.directories import Directories
    from objfs_cache.blocks import BlockCache

log = logging.getLogger(__name__)

RUN_BYTES = 4 * MIB  # one GET; four of them are 16 MiB of memory beside the read budget
PARALLEL_FETCHES = 4  # of the 16 threads that read; one while a program waits for the store
PARALLEL_FILES = 8
GIVE_WAY_S = 0.02  # how long a fetch waits before it looks again whether programs still read


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmFile:
    """One file to have in the cache: the version that it had when it was found."""

    path: str
    node: FileNode
    source: Source

    @property
    def size_bytes(self) -> int:
        """Bytes of the version."""
        return self.source.version.content_bytes


@dataclass(slots=True, kw_only=True)
class WarmCounts:
    """How far it is. `here_bytes` were in the cache before; `lost` files were not kept, with the reason.

    Attributes:
        total_files, total_bytes: of all files found so far; `is_total` once that is all.
    """

    total_files: int = 0
    total_bytes: int = 0
    is_total: bool = False
    done_files: int = 0
    here_bytes: int = 0
    fetched_bytes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


class Warmer:
    """Fetches files into the disk cache. Holds no state between calls but how many fetches there may be."""

    def __init__(self, tree: Tree, directories: Directories, reader: Reader, blocks: BlockCache) -> None:
        self._tree = tree
        self._directories = directories
        self._reader = reader
        self._blocks = blocks
        self._fetches = trio.CapacityLimiter(PARALLEL_FETCHES)
        self._disk = trio.CapacityLimiter(2)

    async def find(self, path: str) -> Node:
        """The node at a path below the mount's root, asking the store.

        Raises:
            OSError: ENOENT, ENOTDIR.
        """
        node: Node = self._tree.root
        for part in path.split("/") if path else ():
            if not isinstance(node, DirectoryNode):
                raise OSError(errno.ENOTDIR, "not a directory")
            child = await self._directories.lookup(node, part)
            if child is None:
                raise OSError(errno.ENOENT, "no such file or directory")
            node = child
        return node

    async def files(self, node: Node) -> list[WarmFile]:
        """All files at and below a node that have content in the store; directories are listed for it."""
        if isinstance(node, DirectoryNode):
            await self._list_all(node)
        return list(self.known_files(node))

    def known(self, path: str) -> Iterator[WarmFile]:
        """Like `files` at a path, as far as they are known without asking the store."""
        node = self._tree.find(path)
        return self.known_files(node) if node is not None else iter(())

    def known_files(self, node: Node) -> Iterator[WarmFile]:
        """Like `files`, as far as they are known without asking the store."""
        for one in walk(node):
            if isinstance(one, FileNode) and one.version is not None and one.version.content_bytes:
                if one.superseded or not is_regular(one) or (one.layers and one.layers[-1].complete):
                    continue
                source = Source(object_id=object_id(one), key=one.key, version=one.version)
                yield WarmFile(path=one.path, node=one, source=source)

    async def lacking_bytes(self, files: Iterable[WarmFile]) -> int:
        """How much of the files is not in the cache."""
        wanted = list(files)

        def count() -> int:
            return sum(sum(self._length(one, index) for index in self._missing(one)) for one in wanted)

        return await in_thread(count, limiter=self._disk)

    async def fetch(self, files: Iterable[WarmFile], counts: WarmCounts) -> None:
        """Have these files in the cache; what goes wrong with one of them is in `counts.failed`.

        Programs that read come first. Nothing of it goes through memory, or pushes out what is read.
        """
        line = iter(files)

        async def work() -> None:
            for one in line:
                try:
                    await self._fetch_file(one, counts)
                except Exception as error:  # told; the other files go on
                    leaf = first_error(error)
                    if not isinstance(leaf, OSError | ObjfsError):
                        log.exception("warming failed")
                    counts.failed.append((one.path, str(leaf)))
                else:
                    counts.done_files += 1

        async with trio.open_nursery() as nursery:
            for _ in range(PARALLEL_FILES):
                nursery.start_soon(work)

    async def _fetch_file(self, one: WarmFile, counts: WarmCounts) -> None:
        name = one.source.object_id

        def look() -> list[int]:
            self._blocks.touch(name)  # else they might go, as the oldest, for the rest of their own file
            return self._missing(one)

        missing = await in_thread(look, limiter=self._disk)
        counts.here_bytes += one.size_bytes - sum(self._length(one, index) for index in missing)
        async with trio.open_nursery() as nursery:
            for first, stop in _runs(missing, max(1, RUN_BYTES // self._reader.block_bytes)):
                await self._give_way()
                await self._fetches.acquire_on_behalf_of(token := object())
                nursery.start_soon(self._fetch_run, one, first, stop, token, counts)

    async def _give_way(self) -> None:
        while self._reader.is_busy and self._fetches.borrowed_tokens > 0:  # noqa: ASYNC110  # reads must not signal
            await trio.sleep(GIVE_WAY_S)

    async def _fetch_run(
        self, one: WarmFile, first: int, stop: int, token: object, counts: WarmCounts
    ) -> None:
        try:
            data = await self._get(one, first, stop)
            view, size = memoryview(data), self._reader.block_bytes
            blocks = [(first + at // size, view[at : at + size]) for at in range(0, len(view), size)]
            kept = await in_thread(self._blocks.put_many, one.source.object_id, blocks, limiter=self._disk)
        finally:
            self._fetches.release_on_behalf_of(token)
        if not kept:
            raise OSError(errno.ENOSPC, "the cache has no room for it")
        counts.fetched_bytes += len(data)

    async def _get(self, one: WarmFile, first: int, stop: int) -> bytes:
        """The blocks of the version, wherever our own renames have put it meanwhile."""
        source = one.source
        while True:
            try:
                return await self._reader.fetch_apart(source, first, stop)
            except StaleVersionError:
                if one.node.version != source.version or one.node.key == source.key:
                    raise
                source = Source(object_id=source.object_id, key=one.node.key, version=source.version)

    async def _list_all(self, top: DirectoryNode) -> None:
        """List a directory and all below it, one after another: that becomes a few flat listings."""
        stack = [top]
        while stack:
            directory = stack.pop()
            await self._directories.ensure_listed(directory, walking=True)
            files = [child for child in directory.children.values() if isinstance(child, FileNode)]
            unproven = [file for file in files if not file.proven]
            await for_each(unproven, self._prove, at_once=PROVE_AT_ONCE)
            children = [child for child in directory.children.values() if isinstance(child, DirectoryNode)]
            stack.extend(sorted(children, key=lambda child: child.name, reverse=True))

    async def _prove(self, node: FileNode) -> None:
        """Learn what a listing need not tell: whether it is a plain file, and the length of its content."""
        try:
            await self._directories.prover.prove(node)
        except ObjectStoreError as error:
            log.debug("%r is taken as listed: %s", node.path, error)

    def _missing(self, one: WarmFile) -> list[int]:
        held = self._blocks.held(one.source.object_id)
        count = -(-one.size_bytes // self._reader.block_bytes)
        return [index for index in range(count) if held.get(index) != self._length(one, index)]

    def _length(self, one: WarmFile, index: int) -> int:
        return block_length(one.source.version, index, self._reader.block_bytes)


def block_length(version: Version, index: int, block_bytes: int) -> int:
    """Bytes of one block of a version."""
    return min((index + 1) * block_bytes, version.content_bytes) - index * block_bytes


def _runs(indexes: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Adjacent indexes as [first, stop), at most `most` in one."""
    start = 0
    for at in range(1, len(indexes) + 1):
        if at == len(indexes) or indexes[at] != indexes[at - 1] + 1 or at - start >= most:
            yield indexes[start], indexes[at - 1] + 1
            start = at
