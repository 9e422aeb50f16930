"""Reads objects back from a store, and compares them with every checksum that is known of them."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import zstandard

from objfs.codec.marks import content_version
from objfs.errors import NotFoundError, ObjectStoreError, PreconditionFailedError
from objfs.store.values import MIB, ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from objfs.store.integrity import Check
    from objfs.store.protocol import ObjectStore
    from objfs.store.values import ObjectInfo, Version

READ_BYTES = 8 * MIB
READS_AT_ONCE = 4
TRIES = 3  # an object that somebody replaces meanwhile is read anew
_DECODED_BYTES = 1 * MIB

Verdict = Literal["good", "read", "mismatch", "missing", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readback:
    """What came of one object.

    Attributes:
        verdict: `good`: equal to all that is known. `read`: nothing is known to compare with. `mismatch`;
            `missing`; `unreadable`: the store did not hand it out.
        compared: names of the checksums.
        details: for people, of what is wrong.
    """

    key: str
    verdict: Verdict
    size_bytes: int = 0
    compared: tuple[str, ...] = ()
    details: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether the object is not known to be whole."""
        return self.verdict in ("mismatch", "missing", "unreadable")


def read_back(store: ObjectStore, key: str, on_bytes: Callable[[int], None]) -> Readback:
    """Read one object, all of it, and compare. Blocks."""
    for _ in range(TRIES):
        try:
            return _read_back(store, store.head(key), on_bytes)
        except PreconditionFailedError:
            continue
        except NotFoundError:
            return Readback(key=key, verdict="missing", details="the store has no such object (yet)")
        except ObjectStoreError as error:
            return Readback(key=key, verdict="unreadable", details=str(error).rstrip("."))
    return Readback(key=key, verdict="unreadable", details="it changes faster than it can be read")


def _read_back(store: ObjectStore, info: ObjectInfo, on_bytes: Callable[[int], None]) -> Readback:
    version = content_version(info)
    check = store.integrity.check(info.key, info.version) if store.integrity is not None else None
    content = _Content(version)
    for data in _chunks(store, info):
        if check is not None:
            check.update(data)
        content.update(data)
        on_bytes(len(data))
    wrong = [f"{name} is {now}, not {kept}" for name, (kept, now) in _differences(check)]
    wrong += content.mistakes()
    compared = (*(check.names if check is not None else ()), *content.names)
    verdict: Verdict = "mismatch" if wrong else "good" if compared else "read"
    return Readback(
        key=info.key,
        verdict=verdict,
        size_bytes=info.version.size_bytes,
        compared=compared,
        details="; ".join(wrong),
    )


def _differences(check: Check | None) -> list[tuple[str, tuple[str, str]]]:
    return [] if check is None else list(check.mismatches().items())


def _chunks(store: ObjectStore, info: ObjectInfo) -> Iterator[bytes]:
    """The object's bytes in order, a few requests ahead."""
    size, etag = info.version.size_bytes, info.version.etag
    ranges = [ByteRange(start=at, stop=min(at + READ_BYTES, size)) for at in range(0, size, READ_BYTES)]

    def get(wanted: ByteRange) -> bytes:
        return store.get(info.key, byte_range=wanted, if_match=etag).data

    with ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix="objfs-verify") as pool:
        waiting = [pool.submit(get, wanted) for wanted in ranges[:READS_AT_ONCE]]
        for number in range(len(ranges)):
            data = waiting.pop(0).result()
            if number + READS_AT_ONCE < len(ranges):
                waiting.append(pool.submit(get, ranges[number + READS_AT_ONCE]))
            yield data


class _Content:
    """The file's bytes, decompressed where the object is: their length and SHA-256, as recorded."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._is_packed = version.decoded_bytes is not None
        self._digest = hashlib.sha256()
        self._length = 0
        self._mistake = ""
        self._decoder = zstandard.ZstdDecompressor().decompressobj(
            write_size=_DECODED_BYTES, read_across_frames=True
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What is compared."""
        packed = ("zstd checksums and size",) if self._is_packed else ()
        return (*packed, *(("SHA-256",) if self._version.sha256 is not None else ()))

    def update(self, data: bytes) -> None:
        """The next bytes as stored."""
        if self._mistake or not self.names:
            return
        if not self._is_packed:
            self._digest.update(data)
            return
        try:
            # Small pieces: what one of them decompresses to is in memory at once.
            for at in range(0, len(data), _PACKED_PIECE_BYTES):
                plain = self._decoder.decompress(data[at : at + _PACKED_PIECE_BYTES])
                self._length += len(plain)
                self._digest.update(plain)
                if self._length > self._version.content_bytes:
                    self._mistake = "it decompresses to more than its metadata tell"
                    return
        except zstandard.ZstdError as error:
            self._mistake = f"it cannot be decompressed ({error})"

    def mistakes(self) -> list[str]:
        """What is wrong, after the last byte."""
        if self._mistake:
            return [self._mistake]
        found = []
        if self._is_packed and self._length != self._version.content_bytes:
            found.append(f"it decompresses to {self._length} bytes, not {self._version.content_bytes}")
        digest = self._digest.hexdigest()
        if self._version.sha256 is not None and digest != self._version.sha256:
            found.append(f"SHA-256 is {digest}, not {self._version.sha256}")
        return found


_PACKED_PIECE_BYTES = 4096  # at most some 64 MiB of zeros
