"""The list of what is pinned: a small file in the cache folder, so that it outlives the mount."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PINS_NAME = "pins.json"
PINS_FORMAT = 1


def read_pins(cache_path: Path) -> list[str]:
    """Pinned paths below the mount's root, sorted; "" is all of it. Without a list that can be used: none."""
    try:
        value = json.loads((cache_path / PINS_NAME).read_text())
        return sorted({str(path) for path in value["pins"]}) if value["format"] == PINS_FORMAT else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_pins(cache_path: Path, pins: Iterable[str]) -> None:
    """Replace the list."""
    temporary = cache_path / f"{PINS_NAME}.tmp"
    temporary.write_text(json.dumps({"format": PINS_FORMAT, "pins": sorted(set(pins))}))
    temporary.replace(cache_path / PINS_NAME)
