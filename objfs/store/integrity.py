"""Checks of whole objects against the checksums that a store keeps of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from objfs.store.values import Version


class Check(Protocol):
    """One object being read from its first byte to its last."""

    @property
    def names(self) -> tuple[str, ...]:
        """The checksums that can be compared; none if the store keeps none."""
        ...

    def update(self, data: bytes) -> None:
        """The next bytes as stored."""
        ...

    def mismatches(self) -> Mapping[str, tuple[str, str]]:
        """By name, what the store keeps and what the bytes have, where they differ; after the last byte."""
        ...


class IntegrityApi(Protocol):
    """What a store knows of its objects' bytes."""

    def check(self, key: str, version: Version) -> Check:
        """Begin to check one version of an object."""
        ...


class PrefixIntegrity:
    """The checks of objects below a key prefix.

    Args:
        api: of the bucket.
        outer: the whole key of a key below the prefix.
    """

    def __init__(self, api: IntegrityApi, outer: Callable[[str], str]) -> None:
        self._api = api
        self._outer = outer

    def check(self, key: str, version: Version) -> Check:
        """See `IntegrityApi`."""
        return self._api.check(self._outer(key), version)
