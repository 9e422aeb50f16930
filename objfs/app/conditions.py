"""Which conditions a server honours, and such: found by trying, and remembered in the cache directory."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.store.probe import ProbedStore, probe_conditions

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.store.protocol import ObjectStore
    from objfs.store.values import Capabilities

PROBE_VALID_S = 30 * 86400.0  # servers are upgraded
PROBE_FORMAT = 3
_FOUND = ("put_conditions", "complete_conditions", "copy_conditions", "file_over_prefix", "listing_metadata")


def probed(store: ObjectStore, memory: Path) -> ObjectStore:
    """The store with its capabilities as found by trying; the finding is remembered in the file `memory`."""
    capabilities = _read(memory, store.capabilities, valid_s=PROBE_VALID_S)
    if capabilities is None:
        capabilities = probe_conditions(store)
        _write(memory, capabilities)
    return ProbedStore(store, capabilities)


def remembered(store: ObjectStore, memory: Path) -> ObjectStore | None:
    """The store as it was when it was last tried, however long ago; None if it never was."""
    capabilities = _read(memory, store.capabilities, valid_s=math.inf)
    return None if capabilities is None else ProbedStore(store, capabilities)


def _read(memory: Path, known: Capabilities, *, valid_s: float) -> Capabilities | None:
    try:
        value = json.loads(memory.read_text())
        if value["format"] != PROBE_FORMAT or not 0 <= time.time() - value["probed_s"] < valid_s:
            return None
        return replace(known, **{name: value[name] is True for name in _FOUND})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(memory: Path, found: Capabilities) -> None:
    value = {name: getattr(found, name) for name in _FOUND}
    temporary = memory.with_suffix(".tmp")
    temporary.write_text(json.dumps({"format": PROBE_FORMAT, "probed_s": time.time(), **value}))
    temporary.replace(memory)
