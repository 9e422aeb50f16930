"""Opens stores by URL; drivers come from the entry-point group `objfs.drivers`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from objfs.errors import UsageError
from objfs.store.prefix import PrefixStore
from objfs.store.urls import StoreOptions, StoreUrl

if TYPE_CHECKING:
    from objfs.store.protocol import ObjectStore

ENTRY_POINT_GROUP = "objfs.drivers"
DEFAULT_OPTIONS = StoreOptions()


class OpenDriver(Protocol):
    """What an entry point names: it opens the bucket of a URL, and leaves the URL's prefix alone."""

    def __call__(self, url: StoreUrl, options: StoreOptions) -> ObjectStore: ...


def known_schemes() -> list[str]:
    """URL schemes that have a driver installed."""
    return sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})


def open_store(url: StoreUrl | str, options: StoreOptions = DEFAULT_OPTIONS) -> ObjectStore:
    """The store a URL names, seen below the URL's prefix. Opening sends no request.

    Raises:
        UsageError: the URL is wrong, no driver knows its scheme, or the driver's SDK is missing.
    """
    parsed = StoreUrl.parse(url) if isinstance(url, str) else url
    store = _load_driver(parsed.scheme)(parsed, options)
    return PrefixStore(store, parsed.prefix) if parsed.prefix else store


def _load_driver(scheme: str) -> OpenDriver:
    entries = entry_points(group=ENTRY_POINT_GROUP, name=scheme)
    if not entries:
        known = ", ".join(f"{name}://" for name in known_schemes())
        raise UsageError(f"No driver for {scheme}:// is installed (known: {known or 'none'}).")
    try:
        driver: OpenDriver = next(iter(entries)).load()
    except ImportError as error:
        raise UsageError(f"The driver for {scheme}:// needs a package that is missing: {error}") from error
    return driver
