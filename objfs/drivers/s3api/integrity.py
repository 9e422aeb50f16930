"""Checks against the checksums that S3 keeps: CRCs, SHA sums, and ETags that are MD5 sums."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

from awscrt import checksums  # type: ignore[import-untyped]  # it ships no types

from objfs.drivers.s3api.http import Call
from objfs.errors import ObjectStoreError, PreconditionFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from objfs.drivers.s3api.store import S3Store
    from objfs.store.values import Version

_PREFIX = "x-amz-checksum-"
_MULTIPART_ETAG = re.compile(r"[0-9a-f]{32}-([0-9]{1,5})")
_PLAIN_ETAG = re.compile(r"[0-9a-f]{32}")
_HEADS_AT_ONCE = 16
_MAX_PARTS_ASKED = 2000  # each costs a HEAD; larger objects are checked by their checksum alone


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class S3Integrity:
    """The integrity face of an `S3Store`."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def check(self, key: str, version: Version) -> S3Check:
        """See `IntegrityApi`. One HEAD, and one more per part where nothing but a multipart ETag is kept."""
        headers = {"x-amz-checksum-mode": "ENABLED"}
        answer = self._store.send(Call("HEAD", self._store.check_key(key), headers=headers))
        if answer.etag != version.etag:
            raise PreconditionFailedError("The object is another version.", key=key)
        kept = {
            name: value
            for name in _SUMS
            if (value := answer.header(_PREFIX + name)) is not None and "-" not in value
        }
        is_opaque = (answer.header("x-amz-server-side-encryption") or "").startswith("aws:kms")
        parts: Sequence[int] = ()
        if not is_opaque and _PLAIN_ETAG.fullmatch(version.etag):
            parts = (version.size_bytes,)
        elif not is_opaque and not kept and (match := _MULTIPART_ETAG.fullmatch(version.etag)):
            parts = self._parts(key, int(match[1]))
        if sum(parts) != version.size_bytes:
            parts = ()
        return S3Check(kept, version.etag, parts)

    def _parts(self, key: str, count: int) -> Sequence[int]:
        """Lengths of the parts of a multipart object; none if the store does not tell."""
        if not 0 < count <= _MAX_PARTS_ASKED:
            return ()

        def length(number: int) -> int:
            answer = self._store.send(Call("HEAD", key, query={"partNumber": str(number)}))
            return int(answer.header("content-length") or 0)

        try:
            with ThreadPoolExecutor(_HEADS_AT_ONCE) as pool:
                return list(pool.map(length, range(1, count + 1)))
        except (ObjectStoreError, ValueError):
            return ()


class S3Check:
    """See `Check`.

    Args:
        kept: base64 of the checksums of the whole object, by the names of their headers.
        etag: of the object.
        parts: lengths of the pieces whose MD5 sums make the ETag; none if it is something else.
    """

    def __init__(self, kept: dict[str, str], etag: str, parts: Sequence[int]) -> None:
        self._kept = kept
        self._sums = {name: _SUMS[name]() for name in kept}
        self._etag = _EtagSum(etag, parts) if parts else None

    @property
    def names(self) -> tuple[str, ...]:
        """See `Check`."""
        return (*self._kept, *(("ETag (MD5)",) if self._etag is not None else ()))

    def update(self, data: bytes) -> None:
        """See `Check`."""
        for digest in self._sums.values():
            digest.update(data)
        if self._etag is not None:
            self._etag.update(data)

    def mismatches(self) -> dict[str, tuple[str, str]]:
        """See `Check`."""
        found = {
            name: (self._kept[name], b64encode(bytes.fromhex(digest.hexdigest())).decode())
            for name, digest in self._sums.items()
        }
        if self._etag is not None:
            found["ETag (MD5)"] = (self._etag.etag, self._etag.value())
        return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


class _EtagSum:
    """The MD5 sum of MD5 sums of parts, or of all where there is one part."""

    def __init__(self, etag: str, parts: Sequence[int]) -> None:
        self.etag = etag
        self._left = list(parts)
        self._part = hashlib.md5(usedforsecurity=False)
        self._digests: list[bytes] = []
        self._extra_bytes = 0

    def update(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._left:
            piece, view = view[: self._left[0]], view[self._left[0] :]
            self._part.update(piece)
            self._left[0] -= len(piece)
            if not self._left[0]:
                del self._left[0]
                self._digests.append(self._part.digest())
                self._part = hashlib.md5(usedforsecurity=False)
        self._extra_bytes += len(view)

    def value(self) -> str:
        if self._extra_bytes:
            return f"of something {self._extra_bytes} bytes longer"
        if "-" not in self.etag:
            return (self._digests[0] if self._digests else self._part.digest()).hex()
        whole = hashlib.md5(b"".join(self._digests), usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self._digests)}"


class _Crc64:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = checksums.crc64nvme(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:016x}"


class _Crc32c(_Crc64):
    def update(self, data: bytes) -> None:
        self._value = checksums.crc32c(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


class _Crc32(_Crc32c):
    def update(self, data: bytes) -> None:
        self._value = crc32(data, self._value)


_SUMS: dict[str, Callable[[], _Digest]] = {
    "crc64nvme": _Crc64,
    "crc32c": _Crc32c,
    "crc32": _Crc32,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}
