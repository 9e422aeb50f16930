"""A look into a block cache that changes nothing of it, for who may need what it alone has left."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import struct
import threading
from typing import TYPE_CHECKING

from diskcache.core import DBNAME

from objfs_cache.blocks_files import BlockFiles
from objfs_cache.blocks_format import has_format
from objfs_cache.blocks_rows import block_key, unpack_block
from objfs_cache.directory import CacheError, connect_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from objfs_cache.blocks_files import Buffer

_LOG = logging.getLogger(__name__)

_FIND = "SELECT filename, value FROM Cache WHERE key = ? AND raw = 1"


class PeekedBlocks:
    """Blocks by (object id, index). Nothing is kept, so nothing goes for it; may be called from any thread.

    Failures of disk or database cost hits, not errors, as in `BlockCache`.
    """

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self._files = BlockFiles(directory)
        self._connection = connection
        self._lock = threading.Lock()  # guards the connection

    def get_many(self, object_id: str, indexes: Sequence[int]) -> list[bytes | None]:
        """Several blocks, each verified, None where missing."""
        return [self._get(block_key(object_id, index)) for index in indexes]

    def may_hold(self, object_id: str) -> bool:
        """False if there surely is no block of an object."""
        return True

    def put_batch(self, blocks: Sequence[tuple[str, int, Buffer]]) -> bool:
        """See `BlockCache`: all are dropped."""
        return False

    def _get(self, key: bytes) -> bytes | None:
        try:
            with self._lock:
                row = self._connection.execute(_FIND, (key,)).fetchone()
            return None if row is None else self._files.read(unpack_block(*row))
        except (OSError, sqlite3.Error, struct.error, TypeError) as error:
            _LOG.debug("a cached block cannot be read: %s", error)
            return None


@contextlib.contextmanager
def peek_block_cache(directory: Path) -> Iterator[PeekedBlocks | None]:
    """The block cache in `directory`, which nobody else has open; None if there is none that can be read."""
    try:
        connection = connect_to_read(directory / DBNAME) if has_format(directory) else None
    except (CacheError, OSError, sqlite3.Error) as error:
        _LOG.warning("cached blocks cannot be used: %s", error)
        connection = None
    if connection is None:
        yield None
    else:
        with contextlib.closing(connection):
            yield PeekedBlocks(directory, connection)
