"""Pictures of a simulated store."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest import mock

from objfs.store.values import PutOptions
from tests.sim.store import FAIR, SimulatedStore

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Thing:
    """One object."""

    data: bytes
    etag: str
    metadata: dict[str, str]
    content_type: str | None


@dataclass(frozen=True)
class Shop:
    """All objects of a moment."""

    things: Mapping[str, Thing]

    @classmethod
    def of(cls, store: SimulatedStore) -> Shop:
        """What is there now."""
        return cls(
            {
                key: Thing(
                    found.data,
                    found.info.version.etag,
                    dict(found.info.metadata or {}),
                    found.info.content_type,
                )
                for key, found in store.memory._objects.items()
            }
        )

    def store(self, dice: random.Random) -> SimulatedStore:
        """A store with this content, that writes ETags of its own."""
        store = SimulatedStore(dice=dice, weather=FAIR)
        for key, thing in self.things.items():
            with mock.patch.object(store.memory, "_new_etag", lambda _data, etag=thing.etag: etag):
                options = PutOptions(metadata=thing.metadata, content_type=thing.content_type)
                store.memory.put(key, thing.data, options=options)
        store.memory._serial = itertools.count(1_000_000 * dice.randint(1, 1_000_000))
        return store


def initial() -> Shop:
    """What others left in the store before."""
    store = SimulatedStore(dice=random.Random(0), weather=FAIR)
    some = random.Random("others").randbytes
    for key, length in (("old", 5000), ("big", 100_000)):
        data = some(length).replace(b"\0", b"\1")
        store.memory.put(key, data, options=PutOptions(metadata={"mode": str(0o100644)}))
    return Shop.of(store)
