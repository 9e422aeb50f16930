"""`objfs lifecycle`: the store itself deletes what expires."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from zlib import crc32

from objfs.cli.show import print_json, show_count, show_text
from objfs.cli.stores import open_target
from objfs.errors import MountError
from objfs.store.lifecycle import LifecycleRule
from objfs.upload.rules import EXPIRY_TAG, expiry_days

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from objfs.cli.stores import OpenedStore
    from objfs.config.rules import Rule
    from objfs.store.lifecycle import LifecycleApi

OURS = "objfs-expire-"


def show(target: str, flags: Mapping[str, str], *, as_json: bool) -> int:
    """List the store's lifecycle rules."""
    with open_target(target, flags) as opened:
        rules = _api(opened).read()
    if as_json:
        _print_json(rules)
        return 0
    if not rules:
        sys.stdout.write(
            "The store has no lifecycle rules; 'objfs lifecycle apply' installs those of objfs.\n"
        )
    for rule in rules:
        sys.stdout.write(f"{describe(rule)}\n")
    return 0


def apply(target: str, flags: Mapping[str, str], *, as_json: bool) -> int:
    """Install the lifecycle rules that the upload rules ask for; those of others stay."""
    with open_target(target, flags) as opened:
        api = _api(opened)
        before = api.read()
        wanted = rules_for(opened.settings.rules, opened.settings.url)
        others = [rule for rule in before if not rule.rule_id.startswith(OURS)]
        ours = [rule for rule in before if rule.rule_id.startswith(OURS)]
        if sorted(ours, key=_by_id) != sorted(wanted, key=_by_id):
            api.write([*others, *wanted])
            if sorted(api.read(), key=_by_id) != sorted([*others, *wanted], key=_by_id):
                raise MountError("the store took the lifecycle rules, but tells others.")
    if as_json:
        _print_json(wanted)
    elif wanted:
        for rule in wanted:
            sys.stdout.write(f"{describe(rule)}\n")
    else:
        sys.stdout.write("No upload rule lets files expire; the store has no lifecycle rule of objfs.\n")
    return 0


def rules_for(rules: Sequence[Rule], url: str) -> list[LifecycleRule]:
    """One lifecycle rule for each number of days in which files expire by the upload rules."""
    days = {expiry_days(rule.treatment) for rule in rules} - {None}
    place = f"{crc32(url.encode()):08x}"  # two mounts of one bucket each have their own
    return [
        LifecycleRule(rule_id=f"{OURS}{count}d-{place}", tags={EXPIRY_TAG: f"{count}d"}, expire_days=count)
        for count in sorted(count for count in days if count is not None)
    ]


def describe(rule: LifecycleRule) -> str:
    """One line for people."""
    about = [f"below {rule.prefix}"] if rule.prefix else []
    about += [f"tagged {name}={value}" for name, value in rule.tags.items()]
    days = rule.expire_days
    then = f"deleted after {show_count(days, 'day')}" if days else "see the store's own tools"
    what = "all objects" if not about else f"objects {' and '.join(about)}"
    return show_text(f"{rule.rule_id}: {what}: {then}{'' if rule.enabled else ' (disabled)'}")


def _api(opened: OpenedStore) -> LifecycleApi:
    api = opened.store.lifecycle
    if api is None:
        raise MountError(
            f"{opened.settings.url} has no lifecycle rules; run 'objfs expire' every now and then instead."
        )
    return api


def _by_id(rule: LifecycleRule) -> str:
    return rule.rule_id


def _print_json(rules: Sequence[LifecycleRule]) -> None:
    value = [
        {
            "id": rule.rule_id,
            "prefix": rule.prefix,
            "tags": dict(rule.tags),
            "expire_days": rule.expire_days,
            "enabled": rule.enabled,
            "ours": rule.rule_id.startswith(OURS),
        }
        for rule in rules
    ]
    print_json(value)
