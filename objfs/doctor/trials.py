"""What a store allows, and whether it keeps what it says; what is tried is gone afterwards."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from hashlib import md5
from typing import TYPE_CHECKING

from objfs.doctor.findings import Finding, failed, ok, skipped, warning
from objfs.doctor.measuring import measure
from objfs.doctor.tracking import trial_prefix
from objfs.drivers.s3api.diagnosis import code_of, kind_of
from objfs.errors import (
    InvalidRequestError,
    NotSupportedError,
    ObjectStoreError,
    PermissionDeniedError,
    QuotaExceededError,
)
from objfs.store.probe import probe_conditions
from objfs.store.values import MIB, ByteRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.doctor.tracking import TrackingStore
    from objfs.drivers.s3api.diagnosis import Raw

BODY = b"objfs doctor"
CONSISTENT_WITHIN_S = 5.0
SLOW_HEAD_S = 0.2
SPEED_BYTES = 8 * MIB
_POLL_S = 0.1
_TAGS = b"<Tagging><TagSet><Tag><Key>objfs</Key><Value>doctor</Value></Tag></TagSet></Tagging>"


class Trials:
    """What has to be tried by writing. Everything goes below one trial prefix."""

    def __init__(self, store: TrackingStore, raw: Raw | None) -> None:
        self._store = store
        self._raw = raw
        self._key = f"{trial_prefix('doctor')}"
        self._may_delete = self._may_put = False

    def run(self) -> Iterator[Finding]:
        """All of them."""
        yield self._try_delete()
        yield self._try_put()
        yield self._try_get()
        yield self._try_multipart()
        if self._raw is not None:
            yield self._try_tags(self._raw)
            yield self._try_checksum(self._raw)
        yield self._try_conditions()
        yield from self._try_listing()
        yield from self._try_speed()

    def _try_delete(self) -> Finding:
        """First: where nothing can be deleted, nothing is written."""
        advice = "ask the owner for s3:DeleteObject; without it mount --read-only"
        try:
            failures = self._store.delete([f"{self._key}-missing"])
        except ObjectStoreError as error:
            return failed("delete", _why(error), advice)
        if failures:
            return failed("delete", _why(failures[0].error), advice)
        self._may_delete = True
        return ok("delete", "allowed")

    def _try_put(self) -> Finding:
        advice = "ask the owner for s3:PutObject; without it mount --read-only"
        if not self._may_delete:
            return self._try_refused_put(advice)
        try:
            self._store.put(self._key, BODY)
        except QuotaExceededError as error:
            return failed("put", _why(error), "make room in the store, or raise the quota")
        except ObjectStoreError as error:
            return failed("put", _why(error), advice)
        self._may_put = True
        return ok("put", "allowed")

    def _try_refused_put(self, advice: str) -> Finding:
        """A body with a wrong checksum: refused for that where putting is allowed, and never stored."""
        if self._raw is None:
            return skipped("put", "not tried, since it could not be taken away again")
        try:
            answer = self._raw.put(self._key, BODY, _wrong_md5())
        except ObjectStoreError as error:
            return failed("put", _why(error), advice)
        if issubclass(kind_of(answer), PermissionDeniedError):
            return failed("put", f"not allowed ({answer.status} {code_of(answer)})", advice)
        return ok("put", "allowed, as far as can be told without writing")

    def _try_get(self) -> Finding:
        advice = "ask the owner for s3:GetObject"
        try:
            if self._may_put:
                if self._store.get(self._key).data != BODY:
                    return failed(
                        "get", "the store gave other bytes than it was given", "do not use this store"
                    )
                return ok("get", "allowed, and the bytes are those that were put")
            listed = [one for one in self._store.list("", max_keys=100).objects if one.version.size_bytes]
            if not listed:
                return skipped("get", "there is no object to try it with")
            self._store.get(listed[0].key, byte_range=ByteRange(start=0, stop=1))
        except ObjectStoreError as error:
            return failed("get", _why(error), advice)
        return ok("get", "allowed")

    def _try_multipart(self) -> Finding:
        api = self._store.multipart
        if api is None:
            return skipped("multipart", "this store has no uploads in parts")
        if not self._may_put:
            return skipped("multipart", "not tried, since put is not allowed")
        key = f"{self._key}-parts"
        advice = "ask the owner for s3:PutObject, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads"
        try:
            upload_id = api.create(key)
            api.upload_part(key, upload_id, 1, BODY)
        except ObjectStoreError as error:
            return failed("multipart", f"files above 16 MiB cannot be uploaded: {_why(error)}", advice)
        try:
            listed = any(one.upload_id == upload_id for one in api.list_uploads(key))
        except ObjectStoreError:
            listed = False
        try:
            api.abort(key, upload_id)
        except ObjectStoreError as error:
            return warning(
                "multipart", f"uploads that are given up stay, and are billed: {_why(error)}", advice
            )
        if not listed:
            return warning("multipart", "allowed, but what is unfinished is not listed", advice)
        return ok("multipart", "allowed: begin, send, list, abort")

    def _try_tags(self, raw: Raw) -> Finding:
        if not self._may_put:
            return skipped("tags", "not tried, since put is not allowed")
        digest = b64encode(md5(_TAGS, usedforsecurity=False).digest()).decode()
        try:
            answer = raw.put_tags(self._key, _TAGS, digest)
        except ObjectStoreError as error:
            return warning(
                "tags", _why(error), "rules that set tags, or that expire files by tag, will not work"
            )
        if answer.status < 300:
            return ok("tags", "allowed")
        told = f"{answer.status} {code_of(answer)}".strip()
        if issubclass(kind_of(answer), PermissionDeniedError):
            return warning(
                "tags",
                f"not allowed ({told})",
                "only for rules that set tags: ask the owner for s3:PutObjectTagging",
            )
        return warning("tags", f"this store has none ({told})", "rules that set tags will not work")

    def _try_checksum(self, raw: Raw) -> Finding:
        if not self._may_put:
            return skipped("checksums", "not tried, since put is not allowed")
        try:
            answer = raw.put(self._key, BODY, _wrong_md5())
        except ObjectStoreError as error:
            return skipped("checksums", _why(error))
        if answer.status < 300:
            return warning(
                "checksums",
                "a body with a wrong checksum was accepted: damage on the way would not be noticed",
                "look for a proxy in between that answers for the store",
            )
        return ok("checksums", f"a damaged body is refused ({answer.status} {code_of(answer)})")

    def _try_conditions(self) -> Finding:
        if not self._may_put:
            return skipped("conditional writes", "not tried, since put is not allowed")
        found = probe_conditions(self._store)
        names = {
            "put": found.put_conditions,
            "complete": found.complete_conditions,
            "copy": found.copy_conditions,
        }
        kept = ", ".join(name for name, honoured in names.items() if honoured)
        lacking = ", ".join(name for name, honoured in names.items() if not honoured)
        if not found.put_conditions:
            return warning(
                "conditional writes",
                "not honoured: of two writers at the same instant, one may overwrite the other",
                "let one mount write at a time, or use a newer version of the store",
            )
        how = "sent as these instead" if lacking == "copy" else "compared just before instead"
        rest = f"; not for {lacking}: {how}" if lacking else ""
        return ok("conditional writes", f"honoured for {kept}{rest}")

    def _try_listing(self) -> Iterator[Finding]:
        if not self._may_put:
            yield skipped("listing", "not tried, since put is not allowed")
            return
        key = f"{self._key}-listed"
        advice = "set a longer --metadata-ttl, and expect changes by others to show late"
        try:
            self._store.put(key, BODY)
            shown_s = self._wait_listed(key, present=True)
            self._store.delete([key])
            gone_s = self._wait_listed(key, present=False)
        except ObjectStoreError as error:
            yield skipped("listing", _why(error))
            return
        if shown_s is None or gone_s is None:
            what = "a new key" if shown_s is None else "a deleted key"
            yield warning("listing", f"{what} was told wrong for {CONSISTENT_WITHIN_S:.0f} s", advice)
        elif max(shown_s, gone_s) > _POLL_S:
            yield warning("listing", f"follows writes after {max(shown_s, gone_s):.1f} s", advice)
        else:
            yield ok("listing", "shows what was written and deleted at once")

    def _wait_listed(self, key: str, *, present: bool) -> float | None:
        begun_s = time.monotonic()
        while True:
            asked_s = time.monotonic() - begun_s
            if any(one.key == key for one in self._store.list(key).objects) == present:
                return asked_s
            if asked_s > CONSISTENT_WITHIN_S:
                return None
            time.sleep(_POLL_S)

    def _try_speed(self) -> Iterator[Finding]:
        if not self._may_put:
            yield skipped("speed", "not measured, since put is not allowed")
            return
        key, body = f"{self._key}-speed", os.urandom(SPEED_BYTES)
        try:
            head = measure("head", 1, 0, [lambda: self._store.head(self._key) for _ in range(10)])
            put = measure("put", 1, SPEED_BYTES, [lambda: self._store.put(key, body)])
            get = measure("get", 1, SPEED_BYTES, [lambda: self._store.get(key)])
        except ObjectStoreError as error:
            yield warning("speed", _why(error), "see 'objfs bench'")
            return
        speeds = f"put {put.mb_s:.0f} MB/s, get {get.mb_s:.0f} MB/s"
        text = f"head {head.p50_s * 1000:.1f} ms, {speeds} (one at a time)"
        if head.p50_s > SLOW_HEAD_S:
            yield warning("speed", text, "choose a region nearby; 'objfs bench' tells more")
        else:
            yield ok("speed", text)


def _wrong_md5() -> dict[str, str]:
    digest = md5(b"something else", usedforsecurity=False).digest()
    return {"content-length": str(len(BODY)), "content-md5": b64encode(digest).decode()}


def _why(error: Exception) -> str:
    text = str(error).rstrip(".")
    match error:
        case PermissionDeniedError():
            return f"not allowed ({text})"
        case NotSupportedError() | InvalidRequestError():
            return f"refused ({text})"
    return text
