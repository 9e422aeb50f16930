"""Lists of rules as JSON text, which is how settings carry them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from objfs.config.rules.building import build_rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from objfs.config.rules.matching import Rule


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Rules of JSON text: a list of tables.

    Raises:
        ValueError: what is wrong with the first one that is.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError("rules are a list of tables in JSON") from error
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError("rules are a list of tables in JSON")
    return tuple(build_rule(one) for one in value)


def dump_rules(rules: Sequence[Rule]) -> str:
    """The inverse of `parse_rules`; "" for none."""
    return json.dumps([dict(rule.values) for rule in rules]) if rules else ""


def join_rules(first: str, then: str) -> str:
    """Two lists of rules as one, in JSON; "" is none."""
    return json.dumps([*json.loads(first or "[]"), *json.loads(then or "[]")])


def compress_rules(texts: Sequence[str]) -> str:
    """Rules in JSON of `--compress GLOB=zstd[:LEVEL]`.

    Raises:
        ValueError: one is no such text.
    """
    rules = []
    for text in texts:
        glob, equals, what = text.rpartition("=")
        if not (equals and glob and what):
            raise ValueError(f"'{text}' is no GLOB=zstd[:LEVEL]; write for instance '*.log=zstd:9'")
        rule = {"glob": glob, "compress": what}
        build_rule(rule)
        rules.append(rule)
    return json.dumps(rules)
