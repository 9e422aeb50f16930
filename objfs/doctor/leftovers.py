"""What trials left behind that were killed before they could clean up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from objfs.doctor.findings import Finding, ok, skipped, warning
from objfs.doctor.tracking import PREFIX
from objfs.errors import ObjectStoreError
from objfs.store.values import MAX_DELETE_KEYS

if TYPE_CHECKING:
    from objfs.store.protocol import ObjectStore

LEFT_AFTER_S = 86400.0  # no trial takes so long
KINDS = ("bench-", "doctor-", "probe-")
_NAME = "left trials"


def examine_leftovers(store: ObjectStore, *, clean: bool) -> Finding:
    """Objects of trials of yesterday and before; with `clean` they are deleted."""
    try:
        keys = [key for kind in KINDS for key in _old_keys(store, PREFIX + kind)]
        if keys and clean:
            batches = [
                keys[start : start + MAX_DELETE_KEYS] for start in range(0, len(keys), MAX_DELETE_KEYS)
            ]
            failed = sum(len(store.delete(batch)) for batch in batches)
            if failed:
                return warning(_NAME, f"{failed} cannot be deleted", "the right s3:DeleteObject is needed")
            return ok(_NAME, f"{len(keys)} deleted")
    except ObjectStoreError as error:
        return skipped(_NAME, str(error).rstrip("."))
    if keys:
        return warning(
            _NAME,
            f"{len(keys)} objects of trials that were killed, {keys[0]} for instance",
            "run 'objfs doctor --clean' with the same target",
        )
    return ok(_NAME, "none")


def _old_keys(store: ObjectStore, prefix: str) -> list[str]:
    found: list[str] = []
    page: str | None = None
    while True:
        answer = store.list(prefix, page=page)
        found += [info.key for info in answer.objects if time.time() - info.modified_ns / 1e9 > LEFT_AFTER_S]
        page = answer.next_page
        if page is None:
            return found
