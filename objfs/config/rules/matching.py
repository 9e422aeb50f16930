"""Which files a rule is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from objfs.config.quantities import show_size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.config.rules.treatment import Treatment

ABOUT = frozenset({"glob", "min_size", "max_size"})
"""Fields that say which files a rule is about; the others say how these are stored."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        glob: names, or paths below the mount's root where it has a `/`; `**` spans directories.
        min_bytes: least size of the file.
        max_bytes: greatest size of the file, or None.
        values: what the rule says, as written; `treatment` is made of it.
    """

    glob: str
    min_bytes: int = 0
    max_bytes: int | None = None
    values: Mapping[str, object]
    treatment: Treatment

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The glob as a regular expression of whole paths without a leading slash."""
        return compile_glob(self.glob)

    def fits(self, path: str, size_bytes: int) -> bool:
        """Whether the rule is about a file."""
        return self.why_not(path, size_bytes) is None

    def why_not(self, path: str, size_bytes: int) -> str | None:
        """What keeps the rule from being about a file, or None."""
        if not self.pattern.fullmatch(path):
            return f"the name does not match {self.glob}"
        if size_bytes < self.min_bytes:
            return f"the file is smaller than {show_size(self.min_bytes)}"
        if self.max_bytes is not None and size_bytes > self.max_bytes:
            return f"the file is larger than {show_size(self.max_bytes)}"
        return None

    def describe(self) -> str:
        """What the rule does, in the words of the configuration."""
        said = [f"{name}={show_value(value)}" for name, value in self.values.items() if name not in ABOUT]
        return ", ".join(said) or "nothing (stored plain)"


def compile_glob(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression.

    Raises:
        ValueError: it is none.
    """
    from wcmatch import glob as wcglob

    flags = wcglob.GLOBSTAR | wcglob.BRACE | wcglob.DOTGLOB | wcglob.CASE | wcglob.FORCEUNIX
    if "/" not in glob:
        flags |= wcglob.MATCHBASE
    try:
        included, _ = wcglob.translate(glob.removeprefix("/"), flags=flags, limit=256)
        return re.compile("|".join(included))
    except Exception as error:  # wcmatch's own class of errors has no public name
        raise ValueError(f"'{glob}' is no glob, or stands for too many") from error


def show_value(value: object) -> str:
    """A value of a rule for people."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={said}" for name, said in value.items()) + "}"
    return "off" if value is False else str(value)
