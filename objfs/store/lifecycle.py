"""Lifecycle rules: what a store deletes by itself after a number of days."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleRule:
    """Objects below a prefix that bear all the tags are deleted so many days after they were written.

    Attributes:
        document: the rule as the store has it, for those that are not understood here; kept as it is.
    """

    rule_id: str
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    expire_days: int | None = None
    enabled: bool = True
    document: str | None = None


class LifecycleApi(Protocol):
    """The lifecycle rules of a bucket."""

    def read(self) -> list[LifecycleRule]:
        """All rules; none if the bucket has no lifecycle."""
        ...

    def write(self, rules: Sequence[LifecycleRule]) -> None:
        """Replace all rules; none takes the lifecycle away."""
        ...


class TagsApi(Protocol):
    """The tags of objects."""

    def read(self, key: str) -> dict[str, str]:
        """The tags of one object."""
        ...


class PrefixLifecycle:
    """The rules of a bucket as seen below a key prefix; the others are left alone.

    Args:
        api: of the bucket.
        prefix: of the keys.
    """

    def __init__(self, api: LifecycleApi, prefix: str) -> None:
        self._api = api
        self._prefix = prefix

    def read(self) -> list[LifecycleRule]:
        """See `LifecycleApi`: the rules about objects below the prefix alone."""
        found = [rule for rule in self._api.read() if self._is_below(rule)]
        return [replace(rule, prefix=rule.prefix.removeprefix(self._prefix)) for rule in found]

    def write(self, rules: Sequence[LifecycleRule]) -> None:
        """See `LifecycleApi`: replaces the rules about objects below the prefix alone."""
        others = [rule for rule in self._api.read() if not self._is_below(rule)]
        ours = [replace(rule, prefix=self._prefix + rule.prefix) for rule in rules]
        self._api.write([*others, *ours])

    def _is_below(self, rule: LifecycleRule) -> bool:
        return rule.prefix.startswith(self._prefix)


class PrefixTags:
    """The tags of objects below a key prefix.

    Args:
        api: of the bucket.
        outer: the whole key of a key below the prefix.
    """

    def __init__(self, api: TagsApi, outer: Callable[[str], str]) -> None:
        self._api = api
        self._outer = outer

    def read(self, key: str) -> dict[str, str]:
        """See `TagsApi`."""
        return self._api.read(self._outer(key))
