"""The store of a mount or a URL, for commands that work on objects themselves."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from objfs.cli.targets import find_target, settings_of
from objfs.errors import BucketNotFoundError, MountError, ObjectStoreError, UnavailableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from objfs.config import MountSettings
    from objfs.store.protocol import ObjectStore

DEADLINE_S = 60.0  # somebody waits at a terminal; a restart of a server is waited for


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStore:
    """A store below its mount's root, and the settings it was reached with."""

    store: ObjectStore
    settings: MountSettings


def settings_for_target(text: str, flags: Mapping[str, str]) -> MountSettings:
    """The settings of a mount, mounted or not, or of a URL or a NAME; with the rules that hold there.

    Raises:
        MountError: there is no such mount.
        UsageError: the URL or a flag is wrong.
    """
    return settings_of(find_target(text, flags), flags)


@contextmanager
def open_target(text: str, flags: Mapping[str, str]) -> Iterator[OpenedStore]:
    """The store of a mount, a URL or a NAME.

    Raises:
        MountError: there is no such mount, or what the store answered made the command fail.
        UsageError: the URL or a flag is wrong.
    """
    settings = settings_for_target(text, flags)
    with open_for(settings) as store:
        yield OpenedStore(store=store, settings=settings)


@contextmanager
def open_for(settings: MountSettings) -> Iterator[ObjectStore]:
    """The store of a mount's settings."""
    from objfs.app.stores import store_options
    from objfs.store.registry import open_store
    from objfs.store.retry import RetryingStore, RetryPolicy
    from objfs.store.urls import StoreUrl

    url = StoreUrl.parse(settings.url)
    if url.scheme == "memory":
        raise UsageError("memory:// lives within its mount alone; other programs cannot reach it.")
    with closing(open_store(url, store_options(settings))) as driver:
        try:
            yield RetryingStore(driver, RetryPolicy(deadline_s=DEADLINE_S))
        except (UnavailableError, BucketNotFoundError) as error:
            raise MountError(f"{settings.url} cannot be reached: {str(error).rstrip('.')}.") from error
        except ObjectStoreError as error:
            place = f" ({error.key})" if error.key else ""
            raise MountError(f"{settings.url} refuses{place}: {str(error).rstrip('.')}.") from error
