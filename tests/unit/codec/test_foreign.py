"""Compressed objects of others that are shown decompressed."""

from __future__ import annotations

from unittest import mock

import zstandard

from objfs.codec.foreign import DecodedStore
from objfs.codec.values import LONE_FRAME_BYTES
from objfs.drivers.memory import MemoryStore
from objfs.errors import PermissionDeniedError
from objfs.store.values import Blob, ByteRange, PutOptions
from tests.unit.codec.objects import compressed

CONTENT = b"what others wrote, " * 10_000
FRAME = zstandard.ZstdCompressor().compress(CONTENT)


def shown(data: bytes, options: PutOptions) -> str | None:
    """What HEAD tells of the content's length."""
    store = MemoryStore()
    store.put("a", data, options=options)
    return (DecodedStore(store).head("a").metadata or {}).get("objfs-size")


def test_lengths_that_can_be_told() -> None:
    zstd = PutOptions(content_encoding="zstd", metadata={"theirs": "x"})
    assert shown(compressed(CONTENT, size=1000), zstd) == str(len(CONTENT))
    assert shown(compressed(CONTENT, size=20), zstd) == str(
        len(CONTENT)
    )  # a table longer than the first guess
    assert shown(FRAME, zstd) == str(len(CONTENT))


def test_what_stays_as_it_is() -> None:
    zstd = PutOptions(content_encoding="zstd")
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(CONTENT)
    large = zstandard.ZstdCompressor().compress(bytes(LONE_FRAME_BYTES + 1))
    two = FRAME + FRAME
    for data in (
        two,
        FRAME + b"?",
        FRAME[:-1],
        b"",
        b"x",
        b"no frame, and no table either",
        unknown,
        large,
        compressed(CONTENT)[:-1] + b"?",
    ):
        assert shown(data, zstd) is None
    for options in (PutOptions(), PutOptions(content_encoding="gzip")):
        assert shown(FRAME, options) is None
    assert shown(FRAME, PutOptions(content_encoding="zstd", metadata={"objfs-size": "7"})) == "7"


def test_what_cannot_be_read_can_be_looked_at() -> None:
    store = MemoryStore()
    store.put("a", FRAME, options=PutOptions(content_encoding="zstd"))
    with mock.patch.object(store, "get", side_effect=PermissionDeniedError("InvalidObjectState")):
        assert DecodedStore(store).head("a") == store.head("a")


def test_what_is_replaced_while_it_is_looked_at() -> None:
    store = MemoryStore()
    store.put("a", FRAME, options=PutOptions(content_encoding="zstd"))
    get = store.get

    def get_late(key: str, *, byte_range: ByteRange, if_match: str) -> Blob:
        store.put("a", b"plain")
        return get(key, byte_range=byte_range, if_match=if_match)

    with mock.patch.object(store, "get", get_late):
        assert DecodedStore(store).head("a").version.size_bytes == len(b"plain")


def test_listings_leave_them_to_head() -> None:
    store = MemoryStore()
    store.put("foreign", FRAME, options=PutOptions(content_encoding="zstd"))
    ours = PutOptions(content_encoding="zstd", metadata={"objfs-size": str(len(CONTENT))})
    store.put("ours", compressed(CONTENT), options=ours)
    store.put("plain", b"x")
    listed = DecodedStore(store).list("", with_metadata=True).objects
    assert {info.key: info.metadata is not None for info in listed} == {
        "foreign": False,
        "ours": True,
        "plain": True,
    }
