"""Contract of single objects: put, get, head, delete, copy."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from objfs.errors import InvalidRequestError, NotFoundError, PreconditionFailedError
from objfs.store.values import MIB, ByteRange, PutOptions
from objfs.testing.samples import BAD_KEYS, HARD_KEYS, PLAIN_KEYS, all_keys, random_bytes, slice_of

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.store.protocol import ObjectStore

CLOCK_SKEW_NS = 5_000_000_000  # stores tell whole seconds, and their clocks are not ours
FULL_OPTIONS = PutOptions(
    metadata={"mode": "33188", "mtime": "1700000000.123456789", "xattr": "%7B%22a%22%3A%22eA%3D%3D%22%7D"},
    content_type="text/x-objfs",
    content_encoding="zstd",
)


class ObjectContract:
    """Tests of single objects."""

    def test_put_then_get(self, store: ObjectStore) -> None:
        version = store.put("dir/a", b"hello")
        blob = store.get("dir/a")
        assert blob.data == b"hello"
        assert blob.info.key == "dir/a"
        assert blob.info.version == version
        assert version.size_bytes == 5
        assert version.etag
        assert '"' not in version.etag

    @pytest.mark.parametrize("size", [0, 1, 4096, MIB + 1])
    def test_bodies_of_any_size(self, store: ObjectStore, size: int) -> None:
        data = random_bytes(size)
        version = store.put("a", data)
        assert version.size_bytes == size
        assert store.get("a").data == data
        assert store.head("a").version == version

    @pytest.mark.parametrize("size", [0, 3, MIB + 1])
    def test_body_from_a_file(self, store: ObjectStore, tmp_path: Path, size: int) -> None:
        data = random_bytes(size)
        version = store.put("a", slice_of(tmp_path, data))
        assert version.size_bytes == size
        assert store.get("a").data == data

    def test_missing_key(self, store: ObjectStore) -> None:
        with pytest.raises(NotFoundError) as caught:
            store.get("missing")
        assert caught.value.key == "missing"
        assert not caught.value.retryable
        with pytest.raises(NotFoundError):
            store.head("missing")
        with pytest.raises(NotFoundError):
            store.head("missing/")

    def test_head_tells_what_was_put(self, store: ObjectStore) -> None:
        before_ns = time.time_ns()
        version = store.put("a", b"body", options=FULL_OPTIONS)
        info = store.head("a")
        assert info.key == "a"
        assert info.version == version
        assert info.content_type == FULL_OPTIONS.content_type
        assert info.content_encoding == FULL_OPTIONS.content_encoding
        assert dict(info.metadata or {}) == dict(FULL_OPTIONS.metadata)
        assert abs(info.modified_ns - before_ns) < CLOCK_SKEW_NS

    def test_get_tells_what_was_put(self, store: ObjectStore) -> None:
        store.put("a", b"not zstd at all", options=FULL_OPTIONS)
        blob = store.get("a")
        assert blob.data == b"not zstd at all"
        assert dict(blob.info.metadata or {}) == dict(FULL_OPTIONS.metadata)
        assert blob.info.content_encoding == "zstd"
        assert store.get("a", byte_range=ByteRange(start=1, stop=3)).data == b"ot"

    def test_an_object_without_metadata_has_none(self, store: ObjectStore) -> None:
        store.put("a", b"1", options=FULL_OPTIONS)
        store.put("a", b"2")
        assert dict(store.head("a").metadata or {}) == {}

    def test_put_replaces(self, store: ObjectStore) -> None:
        first = store.put("a", b"first")
        second = store.put("a", b"second!")
        assert first != second
        assert store.get("a").data == b"second!"
        assert store.head("a").version == second

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 1000), (999, 1000), (10, 20)])
    def test_ranges(self, store: ObjectStore, start: int, stop: int) -> None:
        data = random_bytes(1000)
        version = store.put("a", data)
        blob = store.get("a", byte_range=ByteRange(start=start, stop=stop))
        assert blob.data == data[start:stop]
        assert blob.info.version == version

    def test_a_range_past_the_end_is_refused(self, store: ObjectStore) -> None:
        store.put("a", b"12345")
        with pytest.raises(InvalidRequestError):
            store.get("a", byte_range=ByteRange(start=5, stop=6))

    def test_get_if_match(self, store: ObjectStore) -> None:
        old = store.put("a", b"old")
        assert store.get("a", if_match=old.etag).data == b"old"
        new = store.put("a", b"new")
        with pytest.raises(PreconditionFailedError):
            store.get("a", if_match=old.etag)
        with pytest.raises(PreconditionFailedError):
            store.get("a", if_match=old.etag, byte_range=ByteRange(start=0, stop=1))
        assert store.get("a", if_match=new.etag, byte_range=ByteRange(start=0, stop=1)).data == b"n"

    @pytest.mark.parametrize("key", PLAIN_KEYS, ids=ascii)
    def test_plain_keys(self, store: ObjectStore, key: str) -> None:
        _round_trip(store, key)

    @pytest.mark.parametrize("key", HARD_KEYS, ids=ascii)
    def test_hard_keys(self, store: ObjectStore, key: str) -> None:
        for decoy in ("x", "b", "a/b", "dir/", "leading"):
            store.put(decoy, b"decoy")
        try:
            store.put(key, b"probe")
        except InvalidRequestError:
            refused = True
        else:
            refused = False
            _round_trip(store, key)
        for decoy in ("x", "b", "a/b", "dir/", "leading"):
            assert store.get(decoy).data == b"decoy", f"{refused=}"

    @pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
    def test_bad_keys_are_refused(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(InvalidRequestError):
            store.put(key, b"")
        with pytest.raises(InvalidRequestError):
            store.head(key)

    def test_longest_key(self, store: ObjectStore) -> None:
        length = store.capabilities.max_key_bytes
        key = ("k" * 200 + "/") * (length // 201)
        key += "x" * (length - len(key))
        _round_trip(store, key)
        with pytest.raises(InvalidRequestError):
            store.put(key + "x", b"")

    def test_metadata_limits(self, store: ObjectStore) -> None:
        limit = store.capabilities.max_metadata_bytes
        value = "v" * (limit - 4)
        store.put("a", b"", options=PutOptions(metadata={"name": value}))
        assert dict(store.head("a").metadata or {}) == {"name": value}
        with pytest.raises(InvalidRequestError):
            store.put("a", b"", options=PutOptions(metadata={"name": value + "v"}))

    @pytest.mark.parametrize(
        "metadata", [{"a": "é"}, {"a": "x\ny"}, {"a": " x"}, {"A": "x"}, {"a b": "x"}, {"": "x"}]
    )
    def test_metadata_that_no_header_carries_is_refused(
        self, store: ObjectStore, metadata: dict[str, str]
    ) -> None:
        with pytest.raises(InvalidRequestError):
            store.put("a", b"", options=PutOptions(metadata=metadata))
        with pytest.raises(NotFoundError):
            store.head("a")

    def test_delete(self, store: ObjectStore) -> None:
        for key in ("a", "b", "c/d", "c/"):
            store.put(key, b"1")
        assert store.delete(["a", "c/d", "missing"]) == []
        assert all_keys(store) == ["b", "c/"]
        assert store.delete(["b"]) == []
        assert store.delete(["b"]) == []
        assert store.delete([]) == []
        assert all_keys(store) == ["c/"]
        with pytest.raises(NotFoundError):
            store.get("a")

    def test_delete_a_thousand(self, store: ObjectStore) -> None:
        keys = [f"many/{number:04d} &" for number in range(1000)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, b"1"), keys))
        store.put("other", b"1")
        assert store.delete(keys) == []
        assert all_keys(store) == ["other"]

    def test_a_marker_lives_by_itself(self, store: ObjectStore) -> None:
        options = PutOptions(metadata={"mode": "16877"}, content_type="application/x-directory")
        store.put("dir/", b"", options=options)
        store.put("dir/a", b"1")
        store.delete(["dir/a"])
        assert all_keys(store) == ["dir/"]
        assert store.head("dir/").content_type == "application/x-directory"
        with pytest.raises(NotFoundError):
            store.head("dir")

    def test_no_object_where_only_others_are_below(self, store: ObjectStore) -> None:
        store.put("dir/a", b"1")
        for key in ("dir", "dir/"):
            with pytest.raises(NotFoundError):
                store.head(key)

    def test_an_object_over_others(self, store: ObjectStore) -> None:
        if not store.capabilities.file_over_prefix:
            pytest.skip("the store does not promise this")
        for keys in (("a", "a/b", "a/b/c"), ("z/b/c", "z/b", "z")):
            for key in keys:
                store.put(key, key.encode())
        every = ["a", "a/b", "a/b/c", "z", "z/b", "z/b/c"]
        assert all_keys(store) == every
        assert all_keys(store, delimiter="/") == ["a", "a/", "z", "z/"]
        assert [store.get(key).data.decode() for key in every] == every
        store.delete(["a", "z/b/c"])
        assert all_keys(store) == ["a/b", "a/b/c", "z", "z/b"]

    def test_copy(self, store: ObjectStore) -> None:
        source = store.put("dir/source é+", b"body", options=FULL_OPTIONS)
        version = store.copy("dir/source é+", "b", source_if_match=source.etag)
        assert version.size_bytes == 4
        info = store.head("b")
        assert info.version == version
        assert dict(info.metadata or {}) == dict(FULL_OPTIONS.metadata)
        assert info.content_type == FULL_OPTIONS.content_type
        assert store.get("b").data == b"body"
        assert store.get("dir/source é+").data == b"body"

    def test_copy_with_new_options(self, store: ObjectStore) -> None:
        store.put("a", b"body", options=FULL_OPTIONS)
        store.copy("a", "a", options=PutOptions(metadata={"mode": "33261"}, content_type="text/plain"))
        info = store.head("a")
        assert dict(info.metadata or {}) == {"mode": "33261"}
        assert info.content_type == "text/plain"
        assert store.get("a").data == b"body"

    def test_copy_from_nothing_or_another_version(self, store: ObjectStore) -> None:
        with pytest.raises(NotFoundError):
            store.copy("missing", "b")
        old = store.put("a", b"old")
        store.put("a", b"new")
        with pytest.raises(PreconditionFailedError):
            store.copy("a", "b", source_if_match=old.etag)
        assert all_keys(store) == ["a"]

    def test_writers_of_different_keys(self, store: ObjectStore) -> None:
        keys = [f"d{number % 3}/k{number}" for number in range(48)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, key.encode()), keys))
            assert list(pool.map(lambda key: store.get(key).data.decode(), keys)) == keys
            list(pool.map(lambda key: store.delete([key]), keys[::2]))
        assert all_keys(store) == sorted(keys[1::2])

    def test_readers_see_whole_versions(self, store: ObjectStore) -> None:
        bodies = [bytes([number]) * 10_000 for number in range(8)]
        store.put("a", bodies[0])
        with ThreadPoolExecutor(8) as pool:
            writes = [pool.submit(store.put, "a", body) for body in bodies]
            reads = [pool.submit(store.get, "a") for _ in range(24)]
            written = {write.result().etag for write in writes}
        assert all(read.result().data in bodies for read in reads)
        assert store.head("a").version.etag in written

    def test_close_twice(self, store: ObjectStore) -> None:
        store.close()
        store.close()


def _round_trip(store: ObjectStore, key: str) -> None:
    store.put(key, key.encode())
    blob = store.get(key)
    assert blob.data == key.encode()
    assert blob.info.key == key
    assert store.head(key).key == key
    assert key in all_keys(store)
    assert all_keys(store, key)[0] == key
    if not key.endswith("/"):
        store.copy(key, "copied", source_if_match=blob.info.version.etag)
        assert store.get("copied").data == key.encode()
    assert store.delete([key, "copied"]) == []
    assert key not in all_keys(store)
