"""Contract of listings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from objfs.store.values import PutOptions
from objfs.testing.samples import all_keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from objfs.store.protocol import ObjectStore

TREE = ("a", "a.txt", "a0/x", "b/", "b/c", "b/d/e", "b/d/f", "b0", "é", "日", "😀")


class ListingContract:
    """Tests of `list`."""

    def test_empty(self, store: ObjectStore) -> None:
        page = store.list("")
        assert (page.objects, page.prefixes, page.next_page) == ((), (), None)
        assert store.list("missing/", delimiter="/").objects == ()

    def test_flat_in_order(self, store: ObjectStore) -> None:
        _plant(store, reversed(TREE))
        assert all_keys(store) == sorted(TREE)
        page = store.list("")
        if store.capabilities.listing_ordered:
            assert [info.key for info in page.objects] == sorted(TREE, key=str.encode)

    def test_entries_tell_the_version(self, store: ObjectStore) -> None:
        version = store.put("dir/a", b"12345")
        (info,) = store.list("dir/").objects
        assert info.key == "dir/a"
        assert info.version == version
        head = store.head("dir/a")
        assert info.modified_ns // 10**9 == head.modified_ns // 10**9

    def test_delimiter(self, store: ObjectStore) -> None:
        _plant(store, TREE)
        page = store.list("", delimiter="/")
        assert [info.key for info in page.objects] == ["a", "a.txt", "b0", "é", "日", "😀"]
        assert list(page.prefixes) == ["a0/", "b/"]
        page = store.list("b/", delimiter="/")
        assert [info.key for info in page.objects] == ["b/", "b/c"]
        assert list(page.prefixes) == ["b/d/"]

    def test_prefix_is_text_not_folder(self, store: ObjectStore) -> None:
        _plant(store, TREE)
        assert all_keys(store, "a") == ["a", "a.txt", "a0/x"]
        assert all_keys(store, "b/d") == ["b/d/e", "b/d/f"]
        assert all_keys(store, "b", delimiter="/") == ["b/", "b0"]
        assert all_keys(store, "b/d/e") == ["b/d/e"]
        assert all_keys(store, "b/d/e/") == []

    @pytest.mark.parametrize("delimiter", ["", "/"])
    @pytest.mark.parametrize("max_keys", [1, 2, 3, 100])
    def test_pages(self, store: ObjectStore, delimiter: str, max_keys: int) -> None:
        _plant(store, TREE)
        found = all_keys(store, delimiter=delimiter, max_keys=max_keys)
        assert found == all_keys(store, delimiter=delimiter)
        assert len(found) == len(set(found))

    def test_pages_are_no_longer_than_asked(self, store: ObjectStore) -> None:
        _plant(store, TREE)
        page = store.list("", delimiter="/", max_keys=3)
        assert len(page.objects) + len(page.prefixes) <= 3
        assert page.next_page is not None

    def test_full_pages(self, store: ObjectStore) -> None:
        keys = sorted(f"{number}" for number in range(1005))
        _plant(store, keys)
        page = store.list("")
        assert len(page.objects) == 1000
        assert page.next_page is not None
        rest = store.list("", page=page.next_page)
        assert [info.key for info in (*page.objects, *rest.objects)] == keys
        assert rest.next_page is None

    def test_start_after(self, store: ObjectStore) -> None:
        _plant(store, TREE)
        keys = [info.key for info in store.list("", start_after="b/c").objects]
        assert keys == ["b/d/e", "b/d/f", "b0", "é", "日", "😀"]
        keys = [info.key for info in store.list("b/", start_after="b/d/e").objects]
        assert keys == ["b/d/f"]
        page = store.list("", start_after="b0", delimiter="/")
        assert [info.key for info in page.objects] == ["é", "日", "😀"]
        assert page.prefixes == ()

    def test_metadata_in_listings(self, store: ObjectStore) -> None:
        if not store.capabilities.listing_metadata:
            pytest.skip("the store does not promise this")
        options = PutOptions(
            metadata={"mode": "33188", "xattr": "%7B%7D", "objfs-size": "7"}, content_encoding="zstd"
        )
        store.put("a &<>", b"1", options=options)
        store.put("b", b"2")
        first, second = store.list("", with_metadata=True).objects
        assert dict(first.metadata or {}) == dict(options.metadata)
        assert first.content_encoding == "zstd"
        assert second.metadata == {}

    def test_a_folder_ends_with_its_last_object(self, store: ObjectStore) -> None:
        _plant(store, ["d/e/f", "d/g"])
        store.delete(["d/e/f"])
        assert store.list("d/", delimiter="/").prefixes == ()
        store.delete(["d/g"])
        assert store.list("", delimiter="/").prefixes == ()


def _plant(store: ObjectStore, keys: Iterable[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"1"), keys))
