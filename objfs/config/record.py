"""How a store was last mounted: a small file beside its journal, so that what is left can be sent later."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from objfs.config.settings import SETTING_NAMES
from objfs_cache.directory import replace_durably

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.config.settings import MountSettings

RECORD_NAME = "mount.json"
RECORD_FORMAT = 1
_KEPT = ("endpoint_url", "region", "profile", "credentials_file", "log_file", "log_level")
_KEPT_TEXTS = ("rules", "origin_metadata", "sha256")  # what is left is stored as the mount would have


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRecord:
    """What the last mount of a cache folder was.

    Attributes:
        cache_path: the folder.
        options: settings by name, as text, that reach the same store again; nothing secret.
        written_s: Unix time of that mount.
    """

    cache_path: Path
    url: str
    store_identity: str
    mountpoint: Path
    options: Mapping[str, str]
    written_s: float


def write_record(settings: MountSettings) -> None:
    """Note a mount in its cache folder, which exists."""
    values = {name: getattr(settings, name) for name in _KEPT}
    values |= {name: settings.text_of(name) or None for name in _KEPT_TEXTS}
    text = json.dumps(
        {
            "format": RECORD_FORMAT,
            "url": settings.url,
            "store_identity": settings.store_identity,
            "mountpoint": os.fspath(settings.mountpoint),
            "options": {name: str(value) for name, value in values.items() if value is not None},
        }
    )
    replace_durably(settings.cache_path / RECORD_NAME, text.encode())


def read_record(cache_path: Path) -> MountRecord | None:
    """The record of a cache folder; None if there is none, or none that can be used."""
    path = cache_path / RECORD_NAME
    try:
        value = json.loads(path.read_text())
        if value["format"] != RECORD_FORMAT:
            return None
        options = {str(name): str(text) for name, text in value["options"].items()}
        return MountRecord(
            cache_path=cache_path,
            url=str(value["url"]),
            store_identity=str(value["store_identity"]),
            mountpoint=Path(value["mountpoint"]),
            options={name: text for name, text in options.items() if name in SETTING_NAMES},
            written_s=path.stat().st_mtime,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_records(cache_base: Path) -> list[MountRecord]:
    """The records of all cache folders below a base, the newest first."""
    try:
        folders = sorted(cache_base.iterdir())
    except OSError:
        return []
    found = [record for folder in folders if (record := read_record(folder)) is not None]
    return sorted(found, key=lambda record: -record.written_s)
