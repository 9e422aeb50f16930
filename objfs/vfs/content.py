"""A file's bytes: staged layers over one version in the store."""

from __future__ import annotations

import errno
import stat
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

import trio

from objfs.errors import StaleVersionError, UnavailableError
from objfs.read.salvage import salvage
from objfs.read.values import Source, object_name
from objfs.store.threads import in_thread
from objfs.store.values import MIB, Version
from objfs.upload.operations import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from objfs.read.reader import Reader
    from objfs.read.window import ReadStream
    from objfs.upload.operations import Operation
    from objfs.vfs.nodes import FileNode
    from objfs_cache.staged import StagedFile, StagedState
    from objfs_cache.staging import Staging

INLINE_BYTES = 64 * 1024  # a pread or pwrite below this costs less than handing it to a thread (100 us)
SETTLE_POLL_S = 0.05  # a read that met a request of ours on its way looks again so soon
STALLED_S = 1.0  # the kernel repeats a read for each program that waits for the page: those are told at once
PATIENCE_S = 0.1  # enough for what is in the cache
COPY_LAYER_BYTES = 1 * MIB  # a sealed file up to this size is copied rather than layered over


class Contents:
    """Reads and writes the content of file nodes."""

    def __init__(self, reader: Reader, staging: Staging, *, is_stuck: Callable[[Operation], bool]) -> None:
        self._reader = reader
        self._staging = staging
        self._is_stuck = is_stuck

    def new_stream(self) -> ReadStream:
        """The read-ahead state of one handle."""
        return self._reader.new_stream()

    async def read(self, node: FileNode, stream: ReadStream, offset: int, length: int) -> bytes:
        """Bytes at an offset; short only at the end of the file.

        Raises:
            StaleVersionError: somebody replaced the version in the store.
        """
        while True:
            before = (node.version, node.key, tuple(node.layers))
            try:
                return await self._read(node, stream, offset, length)
            except StaleVersionError:
                if not await self._changed_by_us(node, before):
                    raise

    async def _changed_by_us(self, node: FileNode, before: tuple[object, ...]) -> bool:
        """Whether the bytes are elsewhere now; requests of ours that may be moving them are waited for."""
        while before == (node.version, node.key, tuple(node.layers)):
            sent = [operation for operation in node.pending() if operation.state is State.SENT]
            if all(self._is_stuck(operation) for operation in sent):
                return False
            await trio.sleep(SETTLE_POLL_S)
        return True

    async def _read(self, node: FileNode, stream: ReadStream, offset: int, length: int) -> bytes:
        length = min(length, node.size_bytes - offset)
        if length <= 0:
            return b""
        if not node.layers and node.version is not None:
            return await self._read_version(node, stream, offset, length)
        chunks: list[bytes] = []
        with ExitStack() as pins:
            for layer in node.layers:
                pins.enter_context(layer.pinned())
            for start, stop, held_by, remote in list(
                _resolve(node.layers, 0, node.version, offset, offset + length)
            ):
                if held_by is not None:
                    chunks.append(await _read_layer(held_by, start, stop - start))
                elif remote:
                    chunks.append(await self._read_version(node, stream, start, stop - start))
                else:
                    chunks.append(bytes(stop - start))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def write(self, node: FileNode, offset: int, data: bytes) -> None:
        """Stage bytes. The node's lock is held by the caller.

        Raises:
            NoSpaceError: nothing was written.
        """
        with self._changed(node) as layer:
            layer.begin_write(len(data))
            try:
                if len(data) <= INLINE_BYTES:
                    layer.write_bytes(offset, data)
                else:
                    await in_thread(layer.write_bytes, offset, data)
            except OSError:
                layer.take_back(offset, len(data))
                raise
            layer.end_write(offset, len(data))

    def writable(self, node: FileNode) -> StagedFile:
        """The newest layer, made if there is none or if it is being uploaded."""
        if node.layers and not node.layers[0].sealed:
            return node.layers[0]
        size = node.size_bytes
        layer = self._staging.create()
        try:
            below = node.layers[0] if node.layers else None
            if below is not None and below.complete and size <= COPY_LAYER_BYTES:
                if size:
                    layer.write(0, below.read(0, size))
            else:
                layer.base_limit = size
            layer.truncate(size)
        except BaseException:
            layer.discard()
            raise
        node.layers.insert(0, layer)
        return layer

    @contextmanager
    def truncated(self, node: FileNode, length: int) -> Iterator[StagedFile]:
        """The file has another length in the block, which journals that, and afterwards if it ends well.

        The caller holds the node's lock, and trims the layer once all is durable that has to be.

        Raises:
            NoSpaceError: nothing was changed.
        """
        if length > node.size_bytes:
            self._staging.reserve(0)
        is_emptied = not length and bool(node.layers) and _is_left_whole(node.layers[0])
        with ExitStack() as as_before:
            if node.layers:
                as_before.enter_context(node.layers[0].or_as_before())
            layer = as_before.enter_context(self._emptied(node) if is_emptied else self._changed(node))
            layer.truncate(length)
            yield layer

    @contextmanager
    def _changed(self, node: FileNode) -> Iterator[StagedFile]:
        """The newest layer, for a change in the block; one made for it goes again if nothing was accepted."""
        is_new = not node.layers or node.layers[0].sealed
        layer = self.writable(node)
        with _gone_if_refused(node, layer) if is_new else nullcontext():
            yield layer

    @contextmanager
    def _emptied(self, node: FileNode) -> Iterator[StagedFile]:
        """A new layer over one that stays whole: if durable, until the journal tells of the new one."""
        layer = self._staging.create()
        node.layers[0].sealed = True
        node.layers.insert(0, layer)
        with _gone_if_refused(node, layer):
            yield layer

    def lost_layer(self, state: StagedState) -> StagedFile:
        """Stands for staged bytes that were lost."""
        return self._staging.lost(state)

    async def save(self, node: FileNode) -> None:
        """Fetch all of a version into a private layer: its object is about to be replaced by ourselves."""
        if node.version is None or (node.layers and node.layers[-1].complete):
            return
        version, stream = node.version, self.new_stream()
        layer = self._staging.create()
        try:
            for start in range(0, version.content_bytes, MIB):
                data = await self._read_version(node, stream, start, min(MIB, version.content_bytes - start))
                layer.write(start, data)
        except BaseException:
            layer.discard()
            raise
        layer.sealed = True
        if node.layers and node.layers[-1].complete:  # saved by somebody else meanwhile
            layer.discard()
        else:
            node.layers.append(layer)

    async def complete(self, node: FileNode) -> bool:
        """Fetch what a small changed file still lacks of its base, before somebody replaces that.

        Returns:
            Whether the layer has it now, which is to be journaled at once.
        """
        layer, version = _lacking(node), node.version
        if layer is None or version is None:
            return False
        data = await self._read_version(
            node, self.new_stream(), 0, min(layer.base_limit, version.content_bytes)
        )
        async with node.exclusively():
            if _lacking(node) is not layer:
                return False
            holes = [(a, b) for a, b, is_staged in layer.extents.pieces(0, layer.length) if not is_staged]
            holes = [(a, min(b, layer.base_limit)) for a, b in holes if a < layer.base_limit]
            for start, stop in holes:
                layer.write_bytes(start, data[start:stop])
            synced, changes = layer.synced, layer.changes
            if synced:  # what a program has synced stays so
                await in_thread(layer.sync_data)
            if _lacking(node) is not layer or layer.changes != changes:
                return False
            for start, stop in holes:
                layer.mark_filled(start, stop - start)
            if synced:
                layer.mark_synced(layer.moment())
            return True

    async def salvage(self, node: FileNode, layer: StagedFile) -> None:
        """Stage what can be had of what lies below a sealed layer: it is gone in the store.

        Raises:
            ObjectStoreError: whether it can be had is not known.
        """
        stream = self.new_stream()

        async def read_below(start: int, stop: int) -> bytes:
            if layer not in node.layers:
                raise StaleVersionError("it is no part of the file any more")
            return await self._read_below(node, layer, stream, start, stop)

        await salvage(layer, self._reader.block_bytes, read_below)

    async def _read_below(
        self, node: FileNode, layer: StagedFile, stream: ReadStream, start: int, stop: int
    ) -> bytes:
        """Bytes that show through a layer."""
        chunks: list[bytes] = []
        below = node.layers.index(layer) + 1
        if node.version is None and below == len(node.layers):
            raise StaleVersionError("nothing is known of what was changed")
        for low, high, held_by, remote in list(_resolve(node.layers, below, node.version, start, stop)):
            if held_by is not None:
                chunks.append(await _read_layer(held_by, low, high - low))
            elif remote:
                chunks.append(await self._read_version(node, stream, low, high - low))
            else:
                chunks.append(bytes(high - low))
        return b"".join(chunks)

    async def _read_version(self, node: FileNode, stream: ReadStream, offset: int, length: int) -> bytes:
        """Bytes of the version that the node has, as many as are asked for.

        Raises:
            StaleVersionError: somebody replaced it, or we did meanwhile, by one that ends before.
        """
        while True:
            version, key = node.version, node.key
            if version is None:
                raise OSError(errno.EIO, "content is gone")
            if offset + length > version.content_bytes:
                raise StaleVersionError(f"{key} was made shorter")
            source = Source(object_id=object_id(node), key=key, version=version)
            begun_at = trio.current_time()
            try:
                if trio.current_time() - node.stalled_at < STALLED_S:
                    with trio.fail_after(PATIENCE_S):
                        return await self._reader.read(source, offset, length, stream)
                return await self._reader.read(source, offset, length, stream)
            except (trio.Cancelled, UnavailableError):
                if trio.current_time() - begun_at > STALLED_S:
                    node.stalled_at = trio.current_time()
                raise
            except StaleVersionError:
                if (node.version, node.key) == (version, key):
                    raise
                # Our own rename or upload finished meanwhile: the same bytes are elsewhere now.


def _lacking(node: FileNode) -> StagedFile | None:
    """The one staged file of a small changed file, if the version below shows through it."""
    if len(node.layers) != 1 or node.layers[0].sealed or node.layers[0].complete:
        return None
    return node.layers[0] if node.layers[0].base_limit <= COPY_LAYER_BYTES else None


@contextmanager
def _gone_if_refused(node: FileNode, layer: StagedFile) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if layer in node.layers:
            node.layers.remove(layer)
            layer.discard()
        raise


def _is_left_whole(layer: StagedFile) -> bool:
    """Whether an emptied file begins with a new staged file: this one's bytes were promised, or are bad."""
    return layer.durable is not None or layer.is_lost or layer.is_unsafe


def object_id(node: FileNode) -> str:
    """The block cache's name for a node's version; kept when the file is renamed by us."""
    version = node.version
    if version is None:
        return ""
    if not node.object_id:
        node.object_id = object_name(node.key, version)
    return node.object_id


def is_regular(node: FileNode) -> bool:
    """Whether the node is a plain file."""
    return stat.S_ISREG(node.attributes.mode)


def _resolve(
    layers: list[StagedFile], at: int, version: Version | None, start: int, stop: int
) -> Iterator[tuple[int, int, StagedFile | None, bool]]:
    """[start, stop) cut into (start, stop, layer holding it, held by the version); neither means zeros."""
    if start >= stop:
        return
    if at == len(layers):
        limit = min(stop, version.content_bytes if version is not None else 0)
        if start < limit:
            yield start, limit, None, True
        if max(start, limit) < stop:
            yield max(start, limit), stop, None, False
        return
    layer = layers[at]
    for first, last, is_staged in layer.extents.pieces(start, stop):
        if is_staged:
            yield first, last, layer, False
            continue
        visible = min(last, max(first, layer.base_limit))
        yield from _resolve(layers, at + 1, version, first, visible)
        if visible < last:
            yield visible, last, None, False


async def _read_layer(layer: StagedFile, offset: int, length: int) -> bytes:
    if length <= INLINE_BYTES:
        return layer.read(offset, length)
    return await in_thread(layer.read, offset, length)
