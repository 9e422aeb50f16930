"""ETags that answers to our own writes tell: what a wrong one would make of later changes is worth a look."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from objfs.store.values import Part

_MD5 = re.compile(r"[0-9a-f]{32}")


class ToldEtags:
    """Compares what one kind of write tells with what its bytes have, where a store's ETags are MD5 sums.

    Where they differ the object itself is asked for, and is right. Of a store that means something else by
    its ETags this is found out with the first write.
    """

    def __init__(self) -> None:
        self._are_others = False

    def confirmed(self, told: str, expect: Callable[[], str | None], ask: Callable[[], str | None]) -> str:
        """The ETag of what was written: `told`, or what is expected if `ask` finds that in the store."""
        if self._are_others:
            return told
        expected = expect()
        if expected in (None, told):
            return told
        found = ask()
        self._are_others = found == told
        return expected if found == expected and expected is not None else told


def multipart_etag(parts: Sequence[Part]) -> str | None:
    """What S3 makes of the parts' ETags, None if these are no MD5 sums."""
    if not all(_MD5.fullmatch(part.etag) for part in parts):
        return None
    digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(parts)}"


def copied_etag(source_etag: str) -> str | None:
    """The ETag of a copy, None where it is another than the source's: a multipart upload's."""
    return source_etag if _MD5.fullmatch(source_etag) else None
