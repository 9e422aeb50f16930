"""Contract of how objects are stored: storage class, tags, cache control, encryption, lifecycle rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from objfs.errors import NotFoundError, NotSupportedError
from objfs.store.lifecycle import LifecycleRule
from objfs.store.protocol import options_of
from objfs.store.values import MIB, ByteRange, PutOptions
from objfs.testing.samples import random_bytes

if TYPE_CHECKING:
    from objfs.store.protocol import ObjectStore

TAGS = {"team": "storage + co", "cost-centre": "a=b/c:d@e", "empty": ""}
TREATED = PutOptions(
    metadata={"mode": "33188"},
    content_type="text/x-objfs",
    cache_control="max-age=60, private",
    storage_class="REDUCED_REDUNDANCY",  # the one that AWS and MinIO both know besides STANDARD
    tags=TAGS,
    headers={"content-disposition": 'inline; filename="a.txt"', "content-language": "fr"},
)


class TreatmentContract:
    """Tests of storage options."""

    def test_how_an_object_is_stored(self, store: ObjectStore) -> None:
        store.put("a b", b"body", options=TREATED)
        _check_treated(store, "a b")
        store.put("a b", b"body")
        info = store.head("a b")
        assert info.cache_control is None
        assert info.storage_class in (None, "STANDARD")
        assert _tags(store, "a b") == {}

    def test_how_a_multipart_object_is_stored(self, store: ObjectStore) -> None:
        api = store.multipart
        assert api is not None
        upload_id = api.create("big", options=TREATED)
        part = api.upload_part("big", upload_id, 1, b"body")
        api.complete("big", upload_id, [part])
        _check_treated(store, "big")

    def test_a_copy_is_stored_as_its_source(self, store: ObjectStore) -> None:
        store.put("a", b"body", options=TREATED)
        store.copy("a", "dir/b")
        _check_treated(store, "dir/b")
        assert dict(store.head("dir/b").metadata or {}) == dict(TREATED.metadata)

    def test_a_copy_in_parts_can_be_stored_as_its_source(self, store: ObjectStore) -> None:
        api, compose = store.multipart, store.compose
        if api is None or compose is None:
            return
        store.put("a", b"body", options=TREATED)
        upload_id = api.create("dir/b", options=options_of(store.head("a"), _tags(store, "a")))
        part = compose.copy_part("a", ByteRange(start=0, stop=4), "dir/b", upload_id, 1)
        api.complete("dir/b", upload_id, [part])
        _check_treated(store, "dir/b")
        assert dict(store.head("dir/b").metadata or {}) == dict(TREATED.metadata)

    def test_tags_are_told_of(self, store: ObjectStore) -> None:
        store.put("a", b"body", options=TREATED)
        assert store.head("a").tag_count == store.get("a").info.tag_count == len(TAGS)
        store.put("a", b"body")
        assert store.head("a").tag_count == store.get("a").info.tag_count == 0

    def test_a_copy_with_new_metadata_keeps_how_it_is_stored(self, store: ObjectStore) -> None:
        store.put("a", b"body", options=TREATED)
        for key in ("a", "b"):
            store.copy("a", key, options=PutOptions(metadata={"mode": "33261"}, content_type="text/x-objfs"))
            _check_treated(store, key)
            assert dict(store.head(key).metadata or {}) == {"mode": "33261"}

    def test_a_copy_stored_in_another_way(self, store: ObjectStore) -> None:
        store.put("a", b"body", options=TREATED)
        options = PutOptions(cache_control="no-store", storage_class="STANDARD", tags={"x": "y"})
        store.copy("a", "a", options=options)
        info = store.head("a")
        assert info.cache_control == "no-store"
        assert info.storage_class in (None, "STANDARD")
        assert _tags(store, "a") == {"x": "y"}
        store.copy("a", "a", options=PutOptions(tags={}))
        assert _tags(store, "a") == {}
        assert store.head("a").cache_control == "no-store"

    @pytest.mark.parametrize("encryption", ["sse-s3", "kms"])
    def test_encryption_is_kept_or_refused(self, store: ObjectStore, encryption: str) -> None:
        options = PutOptions(encryption=encryption)
        try:
            store.put("a", b"secret", options=options)
        except NotSupportedError:
            with pytest.raises(NotFoundError):
                store.head("a")
            return
        assert store.capabilities.encryption
        assert (store.head("a").encryption or "").startswith(encryption)
        assert store.get("a").data == b"secret"
        store.copy("a", "b", options=PutOptions(metadata={"x": "y"}))
        assert (store.head("b").encryption or "").startswith(encryption)

    def test_tags_of_a_missing_object(self, store: ObjectStore) -> None:
        api = store.tags
        assert api is not None
        with pytest.raises(NotFoundError):
            api.read("missing")

    @pytest.mark.parametrize("size", [0, 1000, 6 * MIB])
    def test_checksums_are_kept(self, store: ObjectStore, size: int) -> None:
        if store.integrity is None:
            return
        data = random_bytes(size)
        version = store.put("dir/a", data)
        for read, is_good in ((data, True), (data[:-1] + b"?", False), (data + b"?", False)):
            check = store.integrity.check("dir/a", version)
            assert check.names
            for at in range(0, len(read), 999_999):
                check.update(read[at : at + 999_999])
            assert (not check.mismatches()) is is_good

    def test_lifecycle_rules(self, store: ObjectStore) -> None:
        api = store.lifecycle
        if api is None:
            return
        assert api.read() == []
        rules = [
            LifecycleRule(rule_id="one tag", tags={"objfs-expire": "7d"}, expire_days=7),
            LifecycleRule(rule_id="prefix & tags", prefix="a/b", tags={"x": "1", "y": "<2>"}, expire_days=30),
            LifecycleRule(rule_id="prefix", prefix="logs/", expire_days=1, enabled=False),
        ]
        api.write(rules)
        assert _sorted(api.read()) == _sorted(rules)
        api.write(rules[:1])
        assert api.read() == rules[:1]
        api.write([])
        assert api.read() == []


def _check_treated(store: ObjectStore, key: str) -> None:
    info = store.head(key)
    assert info.cache_control == TREATED.cache_control
    assert info.storage_class == TREATED.storage_class
    assert info.content_type == TREATED.content_type
    assert info.headers == TREATED.headers
    assert store.get(key).info == info
    assert _tags(store, key) == TAGS
    assert store.get(key).data == b"body"


def _tags(store: ObjectStore, key: str) -> dict[str, str]:
    api = store.tags
    assert api is not None
    return api.read(key)


def _sorted(rules: list[LifecycleRule]) -> list[LifecycleRule]:
    return sorted(rules, key=lambda rule: rule.rule_id)
