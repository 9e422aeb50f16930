"""How far the bodies on their way to the store are, by key."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.store.values import FileSlice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.values import Body

WHOLE = 0  # stands for the part number of a body that is sent in one


class Transfers:
    """Bytes handed to the network so far. Thread-safe; a body that is sent again is counted anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[str, dict[int, int]] = {}

    def watch(self, key: str, body: Body, part: int = WHOLE) -> Body:
        """The body, which tells here how far it was read; bodies that are not files are small."""
        if not isinstance(body, FileSlice):
            return body
        with self._lock:
            sent = self._sent.setdefault(key, {})

        def tell(position: int) -> None:
            sent[part] = position

        return replace(body, on_read=tell)

    def done(self, key: str) -> None:
        """Nothing of this key is on its way any more."""
        with self._lock:
            self._sent.pop(key, None)

    def sent_bytes(self) -> Mapping[str, int]:
        """Bytes sent so far of each key that is on its way."""
        with self._lock:
            return {key: sum(parts.values()) for key, parts in self._sent.items()}
