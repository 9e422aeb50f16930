"""Options that a running mount takes anew."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from objfs.config import build_settings
from objfs.errors import MountError, UsageError
from objfs.store.pace import Rates
from objfs.store.values import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.config import MountSettings

CHANGEABLE = (
    "cache_size",
    "metadata_ttl",
    "log_level",
    "limit_upload",
    "limit_download",
    "limit_requests",
    "drain_timeout",
)
_LOGGERS = ("objfs", "objfs_cache")


class Knobs(Protocol):
    """What a running mount lets be changed."""

    def set_cache_bytes(self, count: int) -> None:
        """Size of the cache; blocks. Raises MountError if more is pinned."""
        ...

    def set_drain_timeout_s(self, timeout_s: float) -> None:
        """How long uploads go on once the mount was taken away."""
        ...

    def set_metadata_ttl_s(self, ttl_s: float) -> None:
        """How long names and attributes are believed."""
        ...

    def set_rates(self, rates: Rates) -> None:
        """Limits per second."""
        ...


def check_changeable(options: Mapping[str, str]) -> None:
    """Raise UsageError for an option that only a new mount can change."""
    fixed = next((name for name in options if name not in CHANGEABLE), None)
    if fixed is not None:
        known = ", ".join(name.replace("_", "-") for name in CHANGEABLE)
        raise UsageError(
            f"{fixed.replace('_', '-')} cannot be changed while mounted; these can: {known}. "
            "For the others unmount, and mount again."
        )
    if not options:
        raise UsageError(
            "nothing to change was named; write for instance -o cache_size=20G,limit_upload=10M/s."
        )


def changed_settings(settings: MountSettings, options: Mapping[str, str]) -> MountSettings:
    """The settings with the options changed.

    Raises:
        UsageError: an option cannot be changed, or its value is wrong.
    """
    check_changeable(options)
    values = {name: settings.text_of(name) for name in CHANGEABLE} | dict(options)
    wanted = build_settings(settings.url, settings.mountpoint, [values], dict.fromkeys(values, "-o"))
    return _with(settings, wanted)


def _with(settings: MountSettings, wanted: MountSettings) -> MountSettings:
    return replace(
        settings,
        cache_size_bytes=wanted.cache_size_bytes,
        metadata_ttl_s=wanted.metadata_ttl_s,
        log_level=wanted.log_level,
        limit_upload_bytes_s=wanted.limit_upload_bytes_s,
        limit_download_bytes_s=wanted.limit_download_bytes_s,
        limit_requests_s=wanted.limit_requests_s,
        drain_timeout_s=wanted.drain_timeout_s,
    )


def apply_settings(settings: MountSettings, knobs: Knobs) -> None:
    """Turn everything but the size of the cache, which blocks."""
    knobs.set_rates(rates_of(settings))
    knobs.set_metadata_ttl_s(settings.metadata_ttl_s)
    knobs.set_drain_timeout_s(settings.drain_timeout_s)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(settings.log_level.upper())


def rates_of(settings: MountSettings) -> Rates:
    """The limits of a mount."""
    return Rates(
        upload_bytes_s=settings.limit_upload_bytes_s,
        download_bytes_s=settings.limit_download_bytes_s,
        requests_s=settings.limit_requests_s,
    )


def refuse_less_than_pinned(pinned_bytes: int, room_bytes: int) -> None:
    """Raise MountError if pins would not fit any more."""
    if pinned_bytes > room_bytes:
        raise MountError(
            f"{pinned_bytes / MIB:,.1f} MiB are pinned, more than so small a cache may pin "
            f"({room_bytes / MIB:,.1f} MiB); run 'objfs unpin' first, or choose a larger size."
        )
