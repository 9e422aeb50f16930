"""`objfs rules`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objfs.cli.places import locate
from objfs.cli.settings import gather, settings_for
from objfs.cli.show import print_json, show_text
from objfs.cli.stores import settings_for_target
from objfs.config.quantities import parse_size, show_size
from objfs.config.rules import describe_treatment
from objfs.errors import MountError, UsageError
from objfs.upload.rules import RuleSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from objfs.config.rules import Rule

_NO_STORE = "memory://"  # stands in where only settings are asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """A name that is tested.

    Attributes:
        path: below the mount's root.
        size_bytes: None where nobody knows it.
        own: what was set for this file alone, as people write it.
    """

    path: str
    size_bytes: int | None
    rules: RuleSet
    own: Mapping[str, str]


def test(texts: Sequence[str], *, mount: str | None, size: str | None, as_json: bool) -> int:
    """Tell which rule each name meets, and why.

    Args:
        texts: files in a mount, or names below the root of `mount`.
        mount: a mountpoint, a URL or a NAME; None: the mount that a path is in, else `[defaults]`.
        size: of the file; None: its own.
        as_json: for scripts.
    """
    try:
        size_bytes = None if size is None else parse_size(size)
    except ValueError as error:
        raise UsageError(f"--size: {error}.") from error
    answers = [_answer(_subject(text, mount, size_bytes)) for text in texts]
    if as_json:
        print_json(answers)
        return 0
    for answer in answers:
        _print(answer)
    return 0


def _subject(text: str, mount: str | None, size_bytes: int | None) -> _Subject:
    if mount is not None:
        rules = RuleSet(rules=settings_for_target(mount, {}).rules)
        return _Subject(path=text.lstrip("/"), size_bytes=size_bytes, rules=rules, own={})
    try:
        place = locate(text)
    except MountError:
        layer = gather(None, {})
        settings = settings_for(layer.values.get("url", _NO_STORE), Path("/"), layer)
        rules = RuleSet(rules=settings.rules)
        return _Subject(path=text.lstrip("/"), size_bytes=size_bytes, rules=rules, own={})
    rules = RuleSet(rules=settings_for_target(str(place.mountpoint), {}).rules)
    own: dict[str, str] = {}
    if os.path.isfile(text):
        size_bytes = os.path.getsize(text) if size_bytes is None else size_bytes
        with place.connect() as client:
            told = client.stat(place.inner).get("treatment", {})
        own = {name[4:]: value for name, value in told.items() if name.startswith("set.")}
    return _Subject(path=place.inner, size_bytes=size_bytes, rules=rules, own=own)


def _answer(subject: _Subject) -> dict[str, Any]:
    """The rules that were looked at, in their order, and what the one that fits does."""
    looked_at: list[dict[str, Any]] = []
    found: Rule | None = None
    for number, rule in enumerate(subject.rules.rules, start=1):
        # Without a size the name alone counts, and the sizes are told.
        size_bytes = rule.min_bytes if subject.size_bytes is None else subject.size_bytes
        why_not = rule.why_not(subject.path, size_bytes)
        only = _size_range(rule) if why_not is None and subject.size_bytes is None else None
        looked_at.append(
            {"rule": number, "glob": rule.glob, "fits": why_not is None, "why_not": why_not, "only_for": only}
        )
        if why_not is None:
            looked_at[-1]["does"] = describe_treatment(rule.treatment)
            found = found or rule
            if only is None:
                break
    return {
        "path": subject.path,
        "size_bytes": subject.size_bytes,
        "rule": next((one["rule"] for one in looked_at if one["fits"]), None),
        "rules": looked_at,
        "does": describe_treatment(found.treatment) if found is not None else {},
        "set": dict(subject.own),
    }


def _size_range(rule: Rule) -> str | None:
    """The sizes that a rule is about, for people; None: all."""
    parts = []
    if rule.min_bytes:
        parts.append(f"{show_size(rule.min_bytes)} or more")
    if rule.max_bytes is not None:
        parts.append(f"{show_size(rule.max_bytes)} or less")
    return " and ".join(parts) or None


def _print(answer: Mapping[str, Any]) -> None:
    size = answer["size_bytes"]
    name = show_text(answer["path"]) + (f" ({show_size(size)})" if size is not None else "")
    if not answer["rules"]:
        sys.stdout.write(f"{name}: there are no rules; stored as it is.\n")
    elif answer["rule"] is None:
        sys.stdout.write(f"{name}: meets no rule; stored as it is.\n")
    else:
        sys.stdout.write(f"{name}: meets rule {answer['rule']}.\n")
    for one in answer["rules"]:
        if not one["fits"]:
            sys.stdout.write(f"  not rule {one['rule']}: {show_text(one['why_not'])}\n")
            continue
        only = f", for files of {one['only_for']}" if one["only_for"] else ""
        sys.stdout.write(f"  rule {one['rule']}: {show_text(one['glob'])}{only}\n")
        for key, value in one["does"].items():
            sys.stdout.write(f"    {key}: {show_text(value)}\n")
        if not one["does"]:
            sys.stdout.write("    stored as it is\n")
    for key, value in answer["set"].items():
        sys.stdout.write(f"  set for this file: {key}={show_text(value)}\n")
