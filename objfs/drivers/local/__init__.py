"""A folder as an object store: objects are plain files under their keys. See `layout` for the exceptions."""

from objfs.drivers.local.store import LocalStore, open_driver

__all__ = ["LocalStore", "open_driver"]
