"""The content of one upload, as programs see it: staged bytes over its base, however that is stored."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import trio

from objfs.codec.frames import decode_frames
from objfs.codec.remote import Tail, fetch_stored, fetch_tail
from objfs.errors import StaleVersionError
from objfs.store.threads import in_thread
from objfs.store.values import MIB

if TYPE_CHECKING:
    from objfs.codec.table import SeekTable
    from objfs.store.protocol import AsyncObjectStore
    from objfs.store.values import Version
    from objfs.upload.operations import Operation
    from objfs_cache.staged import StagedFile

HASH_BYTES = 4 * MIB  # per thread call


class Content:
    """What is to be uploaded. Its staged file is sealed: nobody changes it meanwhile."""

    def __init__(self, store: AsyncObjectStore, operation: Operation, staged: StagedFile) -> None:
        self.operation = operation
        self.staged = staged
        self.length = operation.size_bytes
        self._store = store
        self._tail: Tail | None = None
        self._tail_lock = trio.Lock()

    @property
    def base(self) -> Version | None:
        """The version that shows through."""
        return self.operation.base.version

    def holes(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Parts of [start, stop) that only the base has."""
        stop = min(stop, self.staged.base_limit)
        return [(a, b) for a, b, is_staged in self.staged.extents.pieces(start, stop) if not is_staged]

    async def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop)."""
        with self.staged.pinned():
            data = await in_thread(self.staged.read, start, stop - start)
        holes = self.holes(start, stop)
        if not holes:
            return data
        whole = bytearray(data)
        for low, high in holes:
            whole[low - start : high - start] = await self.read_base(low, high)
        return bytes(whole)

    async def read_base(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), not empty, of the base's content.

        Raises:
            StaleVersionError: the base is not known any more.
            PreconditionFailedError: it was replaced.
        """
        key, version = self.operation.key, self.base
        if version is None:
            raise StaleVersionError(f"the object that {self.operation.path!r} is a change of is gone")
        if version.decoded_bytes is None:
            return await fetch_stored(self._store, key, version, start, stop)
        table = await self.base_table()
        frames = table.covering(start, stop)
        stored = await fetch_stored(self._store, key, version, *table.stored_at(frames))
        return await in_thread(_decode, stored, table, frames, start, stop)

    async def base_table(self) -> SeekTable:
        """The seek table of a compressed base, fetched once."""
        async with self._tail_lock:
            if self._tail is None:
                if self.base is None:
                    raise StaleVersionError(f"the base of {self.operation.path!r} is not known")
                self._tail = await fetch_tail(self._store, self.operation.key, self.base)
            return self._tail.table

    async def sha256(self) -> str:
        """Digest of the content, in hex."""
        digest = hashlib.sha256()
        for start in range(0, self.length, HASH_BYTES):
            data = await self.read(start, min(start + HASH_BYTES, self.length))
            await in_thread(digest.update, data)
        return digest.hexdigest()


def _decode(stored: bytes, table: SeekTable, frames: range, start: int, stop: int) -> bytes:
    return b"".join(
        piece[max(0, start - offset) : stop - offset]
        for offset, piece in decode_frames(stored, table, frames)
    )
