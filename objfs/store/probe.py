"""Finds out what a store honours: some take the headers of conditions and ignore them."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from objfs.errors import ObjectStoreError, PreconditionFailedError
from objfs.store.checks import check_condition
from objfs.store.forward import ForwardingMultipart, ForwardingStore
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ABSENT, ANY, Condition, PutOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from objfs.store.protocol import MultipartApi, ObjectStore
    from objfs.store.values import Body, Capabilities, Part, Version

PROBE_PREFIX = ".objfs/probe-"
_OTHER_VERSION = Condition(if_match="00000000000000000000000000000000")  # no object of ours has this ETag
_TOLD = PutOptions(metadata={"mode": "33188", "mtime": "1.5"}, content_encoding="zstd")
_NEVER = (ABSENT, _OTHER_VERSION)  # neither holds for an object that exists


def probe_conditions(store: ObjectStore) -> Capabilities:
    """The store's capabilities with conditions as found by trying; what can't be found out counts as absent.

    Whether objects hide those below them (`file_over_prefix`), and whether listings tell metadata, is found
    out on the way. Sends about twenty small requests below `.objfs/probe-…`, five at a time, and leaves
    nothing behind.
    """
    base = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    keys = [f"{base}-{name}" for name in ("put", "complete", "copy", "over", "listed")]
    with ThreadPoolExecutor(max_workers=len(keys), thread_name_prefix="objfs-probe") as pool:
        probes = [
            pool.submit(_probe_put, store, keys[0]),
            pool.submit(_probe_complete, store, keys[1]),
            pool.submit(_probe_copy, store, keys[2]),
            pool.submit(_probe_over, store, keys[3]),
            pool.submit(_probe_listed, store, keys[4]),
        ]
        put, complete, copy, over, listed = (probe.result() for probe in probes)
    with suppress(ObjectStoreError):
        store.delete([*keys, f"{keys[3]}/below"])
    return replace(
        store.capabilities,
        put_conditions=put,
        complete_conditions=complete,
        copy_conditions=copy,
        file_over_prefix=over,
        listing_metadata=listed,
    )


def probe_listing(store: ObjectStore) -> Capabilities:
    """The store's capabilities with `listing_metadata` as its first object shows, without writing."""
    try:
        for listed in store.list("", max_keys=1, with_metadata=True).objects:
            found = store.head(listed.key)
            told = listed.metadata == found.metadata and listed.content_encoding == found.content_encoding
            return replace(store.capabilities, listing_metadata=told)
    except ObjectStoreError:
        pass
    return store.capabilities


def _probe_put(store: ObjectStore, key: str) -> bool:
    try:
        store.put(key, b"", condition=ABSENT)
    except ObjectStoreError:
        return False
    return all(_is_refused(partial(store.put, key, b"", condition=condition)) for condition in _NEVER)


def _probe_copy(store: ObjectStore, key: str) -> bool:
    try:
        store.put(key, b"")
    except ObjectStoreError:
        return False
    send = partial(store.copy, key, key, options=DEFAULT_PUT)
    return all(_is_refused(partial(send, condition=condition)) for condition in _NEVER)


def _probe_over(store: ObjectStore, key: str) -> bool:
    keys = [key, f"{key}/below"]
    try:
        for each in keys:
            store.put(each, b"")
        return [info.key for info in store.list(key).objects] == keys
    except ObjectStoreError:
        return False


def _probe_listed(store: ObjectStore, key: str) -> bool:
    try:
        store.put(key, b"", options=_TOLD)
        (listed,) = store.list(key, with_metadata=True).objects
    except (ObjectStoreError, ValueError):
        return False
    return listed.metadata == _TOLD.metadata and listed.content_encoding == _TOLD.content_encoding


def _probe_complete(store: ObjectStore, key: str) -> bool:
    api = store.multipart
    if api is None:
        return False
    try:
        store.put(key, b"")
        return all(_probe_one_complete(api, key, condition) for condition in _NEVER)
    except ObjectStoreError:
        return False


def _probe_one_complete(api: MultipartApi, key: str, condition: Condition) -> bool:
    upload_id = api.create(key)
    try:
        part = api.upload_part(key, upload_id, 1, b"x")
        return _is_refused(partial(api.complete, key, upload_id, [part], condition=condition))
    finally:
        api.abort(key, upload_id)


def _is_refused(send: Callable[[], object]) -> bool:
    try:
        send()
    except PreconditionFailedError:
        return True
    except ObjectStoreError:
        return False
    return False


class ProbedStore(ForwardingStore):
    """A store with the capabilities a probe found; conditions it would ignore are refused here."""

    def __init__(self, store: ObjectStore, capabilities: Capabilities) -> None:
        super().__init__(store)
        self._capabilities = capabilities
        if store.multipart is not None:
            self._multipart = _ProbedMultipart(store.multipart, self)

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return self._capabilities

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        check_condition(condition, honoured=self._capabilities.put_conditions, key=key)
        return super().put(key, body, options=options, condition=condition)

    def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version:
        """See `ObjectStore`."""
        check_condition(condition, honoured=self._capabilities.copy_conditions, key=key)
        return super().copy(
            source_key, key, source_if_match=source_if_match, options=options, condition=condition
        )


class _ProbedMultipart(ForwardingMultipart):
    def __init__(self, api: MultipartApi, owner: ProbedStore) -> None:
        super().__init__(api, owner)
        self._owner = owner

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        check_condition(condition, honoured=self._owner.capabilities.complete_conditions, key=key)
        return super().complete(key, upload_id, parts, condition=condition)
