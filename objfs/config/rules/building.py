"""Rules of tables, and treatments changed for single files."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from objfs.config.rules.fields import MAX_TAGS, RULE_FIELDS
from objfs.config.rules.matching import Rule
from objfs.config.rules.treatment import (
    DEFAULT_LEAST_SAVING,
    DEFAULT_LEAST_SIZE,
    Compression,
    Treatment,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_TREATMENT_FIELD = {
    "level": "compress",
    "compress_min_size": "compress",
    "compress_min_saving": "compress",
    "expire_after": "expire_after_s",
    "expire_idle": "expire_idle_s",
}


def build_rule(values: Mapping[str, object]) -> Rule:
    """A rule of a table.

    Raises:
        ValueError: a field is not known, or its value is wrong.
    """
    if unknown := sorted(set(values) - set(RULE_FIELDS)):
        raise ValueError(f"'{unknown[0]}' is not known in a rule")
    if "glob" not in values:
        raise ValueError('a rule needs a glob, for instance glob = "*.log"')
    read: dict[str, Any] = {}
    for name, value in values.items():
        try:
            read[name] = RULE_FIELDS[name](value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    if read.get("max_size") is not None and read["max_size"] < read.get("min_size", 0):
        raise ValueError("max_size is less than min_size, so no file could ever meet the rule")
    return Rule(
        glob=read["glob"],
        min_bytes=read.get("min_size", 0),
        max_bytes=read.get("max_size"),
        values=dict(values),
        treatment=_treatment(read),
    )


def override(treatment: Treatment, values: Mapping[str, object]) -> Treatment:
    """A treatment changed by what was set for one file; "" takes a thing back.

    Raises:
        ValueError: a value is wrong.
    """
    said = {name: value for name, value in values.items() if value != ""}
    changed = build_rule({"glob": "*", **said}).treatment
    names = {_TREATMENT_FIELD.get(name, name) for name in values}
    picked = {one.name: getattr(changed, one.name) for one in fields(Treatment) if one.name in names}
    kept = {one.name: getattr(treatment, one.name) for one in fields(Treatment) if one.name not in names}
    return Treatment(**kept, **picked)


def _treatment(read: Mapping[str, Any]) -> Treatment:
    compress = None
    if read.get("compress") is not None:
        compress = Compression(
            level=read.get("level", read["compress"]),
            least_size=read.get("compress_min_size", DEFAULT_LEAST_SIZE),
            least_saving=read.get("compress_min_saving", DEFAULT_LEAST_SAVING),
        )
    elif idle := sorted({"level", "compress_min_size", "compress_min_saving"} & set(read)):
        raise ValueError(f'{idle[0]} says nothing without compress = "zstd"')
    expires = {"expire_after", "expire_idle"} & set(read)
    if expires and len(read.get("tags", ())) >= MAX_TAGS:
        raise ValueError(f"files that expire bear a tag of objfs: at most {MAX_TAGS - 1} others have room")
    return Treatment(
        compress=compress,
        storage_class=read.get("storage_class"),
        content_type=read.get("content_type"),
        cache_control=read.get("cache_control"),
        tags=read.get("tags"),
        metadata=read.get("metadata", {}),
        encryption=read.get("encryption"),
        expire_after_s=read.get("expire_after"),
        expire_idle_s=read.get("expire_idle"),
    )
