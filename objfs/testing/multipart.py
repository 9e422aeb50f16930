"""Contract of multipart uploads and part copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from objfs.errors import CorruptError, NotFoundError, PreconditionFailedError
from objfs.store.values import ABSENT, ByteRange, Condition, Part, PutOptions
from objfs.testing.samples import all_keys, random_bytes, slice_of

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.store.protocol import ComposeApi, MultipartApi, ObjectStore


class MultipartContract:
    """Tests of `multipart` and `compose`."""

    def test_parts_make_an_object(self, store: ObjectStore, tmp_path: Path) -> None:
        api = _multipart(store)
        first, second = random_bytes(max(1000, api.limits.min_part_bytes), seed=1), random_bytes(1000, seed=2)
        options = PutOptions(metadata={"mode": "33188"}, content_type="text/x-objfs")
        upload_id = api.create("dir/é a", options=options)
        parts = [
            api.upload_part("dir/é a", upload_id, 1, slice_of(tmp_path, first)),
            api.upload_part("dir/é a", upload_id, 2, second),
        ]
        assert all_keys(store) == []
        assert [part.size_bytes for part in parts] == [len(first), len(second)]
        version = api.complete("dir/é a", upload_id, parts)
        info = store.head("dir/é a")
        assert info.version == version
        assert version.size_bytes == len(first) + len(second)
        assert dict(info.metadata or {}) == {"mode": "33188"}
        assert info.content_type == "text/x-objfs"
        assert store.get("dir/é a").data == first + second
        edge = ByteRange(start=len(first) - 2, stop=len(first) + 2)
        assert store.get("dir/é a", byte_range=edge).data == first[-2:] + second[:2]

    def test_one_small_part_sent_twice(self, store: ObjectStore) -> None:
        api = _multipart(store)
        upload_id = api.create("a")
        api.upload_part("a", upload_id, 1, b"old")
        part = api.upload_part("a", upload_id, 1, b"new")
        api.complete("a", upload_id, [part])
        assert store.get("a").data == b"new"

    def test_numbers_with_gaps(self, store: ObjectStore) -> None:
        api = _multipart(store)
        size = api.limits.min_part_bytes
        upload_id = api.create("a")
        last = api.upload_part("a", upload_id, 30, b"z")
        first = api.upload_part("a", upload_id, 4, b"y" * size)
        api.complete("a", upload_id, [first, last])
        assert store.get("a").data == b"y" * size + b"z"

    def test_abort(self, store: ObjectStore) -> None:
        api = _multipart(store)
        upload_id = api.create("a")
        part = api.upload_part("a", upload_id, 1, b"x")
        api.abort("a", upload_id)
        api.abort("a", upload_id)
        with pytest.raises(NotFoundError):
            api.upload_part("a", upload_id, 2, b"x")
        with pytest.raises(NotFoundError):
            api.complete("a", upload_id, [part])
        assert all_keys(store) == []

    def test_a_completed_upload_is_gone(self, store: ObjectStore) -> None:
        api = _multipart(store)
        upload_id = api.create("a")
        part = api.upload_part("a", upload_id, 1, b"x")
        api.complete("a", upload_id, [part])
        assert api.list_uploads("a") == []
        with pytest.raises(NotFoundError):
            api.upload_part("a", upload_id, 2, b"x")

    def test_a_wrong_part_is_refused(self, store: ObjectStore) -> None:
        api = _multipart(store)
        upload_id = api.create("a")
        api.upload_part("a", upload_id, 1, b"x")
        wrong = Part(number=1, etag="0" * 32, size_bytes=1)
        with pytest.raises(CorruptError):  # sent anew: the bytes are still here
            api.complete("a", upload_id, [wrong])
        api.abort("a", upload_id)
        assert all_keys(store) == []

    def test_list_uploads(self, store: ObjectStore) -> None:
        api = _multipart(store)
        first, second = api.create("dir/a"), api.create("dir/a")
        other = api.create("dir/b")
        found = {upload.upload_id for upload in api.list_uploads("dir/a")}
        assert found == {first, second}
        assert all(upload.key == "dir/a" for upload in api.list_uploads("dir/a"))
        for key, upload_id in (("dir/a", first), ("dir/a", second), ("dir/b", other)):
            api.abort(key, upload_id)
        assert api.list_uploads("dir/a") == []

    def test_uploads_of_one_key_do_not_meet(self, store: ObjectStore) -> None:
        api = _multipart(store)
        first, second = api.create("a"), api.create("a")
        one = api.upload_part("a", first, 1, b"one")
        two = api.upload_part("a", second, 1, b"two")
        api.complete("a", second, [two])
        api.complete("a", first, [one])
        assert store.get("a").data == b"one"

    def test_complete_if_absent(self, store: ObjectStore) -> None:
        api = _conditional(store)
        upload_id = api.create("a")
        part = api.upload_part("a", upload_id, 1, b"ours")
        store.put("a", b"theirs")
        with pytest.raises(PreconditionFailedError):
            api.complete("a", upload_id, [part], condition=ABSENT)
        assert store.get("a").data == b"theirs"
        store.delete(["a"])
        upload_id = api.create("a")
        part = api.upload_part("a", upload_id, 1, b"ours")
        api.complete("a", upload_id, [part], condition=ABSENT)
        assert store.get("a").data == b"ours"

    def test_complete_if_match(self, store: ObjectStore) -> None:
        api = _conditional(store)
        base = store.put("a", b"base")
        upload_id = api.create("a")
        part = api.upload_part("a", upload_id, 1, b"ours")
        ours = api.complete("a", upload_id, [part], condition=Condition(if_match=base.etag))
        upload_id = api.create("a")
        part = api.upload_part("a", upload_id, 1, b"late")
        with pytest.raises(PreconditionFailedError):
            api.complete("a", upload_id, [part], condition=Condition(if_match=base.etag))
        assert store.head("a").version == ours
        api.abort("a", upload_id)

    def test_complete_if_match_of_a_missing_key(self, store: ObjectStore) -> None:
        api = _conditional(store)
        gone = store.put("a", b"base")
        upload_id = api.create("a")
        part = api.upload_part("a", upload_id, 1, b"ours")
        store.delete(["a"])
        with pytest.raises(PreconditionFailedError):
            api.complete("a", upload_id, [part], condition=Condition(if_match=gone.etag))
        assert all_keys(store) == []
        api.abort("a", upload_id)

    def test_copy_part(self, store: ObjectStore) -> None:
        api, compose = _multipart(store), _compose(store)
        size = api.limits.min_part_bytes
        data = random_bytes(size + 10, seed=3)
        source = store.put("source", data)
        upload_id = api.create("a")
        copied = compose.copy_part(
            "source", ByteRange(start=5, stop=5 + size), "a", upload_id, 1, source_if_match=source.etag
        )
        assert copied.size_bytes == size
        patch = api.upload_part("a", upload_id, 2, b"patch")
        version = api.complete("a", upload_id, [copied, patch])
        assert version.size_bytes == size + 5
        assert store.get("a").data == data[5 : 5 + size] + b"patch"

    def test_copy_part_onto_its_source(self, store: ObjectStore) -> None:
        api, compose = _multipart(store), _compose(store)
        data = random_bytes(api.limits.min_part_bytes, seed=4)
        store.put("a", data)
        upload_id = api.create("a")
        copied = compose.copy_part("a", ByteRange(start=0, stop=len(data)), "a", upload_id, 1)
        patch = api.upload_part("a", upload_id, 2, b"appended")
        api.complete("a", upload_id, [copied, patch])
        assert store.get("a").data == data + b"appended"

    def test_copy_part_of_nothing_or_another_version(self, store: ObjectStore) -> None:
        api, compose = _multipart(store), _compose(store)
        upload_id = api.create("a")
        whole = ByteRange(start=0, stop=3)
        with pytest.raises(NotFoundError):
            compose.copy_part("missing", whole, "a", upload_id, 1)
        old = store.put("source", b"old")
        store.put("source", b"new")
        with pytest.raises(PreconditionFailedError):
            compose.copy_part("source", whole, "a", upload_id, 1, source_if_match=old.etag)
        api.abort("a", upload_id)


def _multipart(store: ObjectStore) -> MultipartApi:
    if store.multipart is None:
        pytest.skip("the store has no multipart uploads")
    return store.multipart


def _conditional(store: ObjectStore) -> MultipartApi:
    if not store.capabilities.complete_conditions:
        pytest.skip("the store does not promise this")
    return _multipart(store)


def _compose(store: ObjectStore) -> ComposeApi:
    if store.compose is None:
        pytest.skip("the store has no part copies")
    return store.compose
