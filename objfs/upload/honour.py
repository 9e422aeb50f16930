"""Which rules the store at hand cannot honour: found out before the first upload, and told."""

from __future__ import annotations

import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from objfs.errors import InvalidRequestError, NotSupportedError, ObjectStoreError, PermissionDeniedError
from objfs.store.probe import PROBE_PREFIX
from objfs.store.values import PutOptions
from objfs.upload.rules import EXPIRY_TAG

if TYPE_CHECKING:
    from collections.abc import Iterable

    from objfs.config.rules import Rule
    from objfs.store.protocol import ObjectStore
    from objfs.upload.rules import RuleSet

log = logging.getLogger(__name__)

PROBES_AT_ONCE = 4
_TAGGED = PutOptions(tags={EXPIRY_TAG: "1d"})
_REFUSALS = (InvalidRequestError, NotSupportedError, PermissionDeniedError)
PutOptionsKey = tuple[str | None, str | None, bool]
_PROBED = ("storage_class", "encryption", "tags")


def honoured(rules: RuleSet, store: ObjectStore) -> RuleSet:
    """The rules without what the store refuses; each thing that it cannot honour is a line in the log.

    Encryption stays: a file is rather not uploaded than stored in the clear. Tries each storage class,
    encryption and the tags once with an empty object below `.objfs/probe-`, which is deleted again. What
    cannot be found out now is left as it is. Blocks.
    """
    wanted = _options_of(rules.rules)
    wants_tags = store.lifecycle is not None and rules.expires
    if wants_tags:
        wanted.append(_TAGGED)
    refused = find_refused(store, wanted)
    kept: list[Rule] = []
    for number, rule in enumerate(rules.rules, start=1):
        asked = {name: _option(rule, name) for name in _PROBED}
        why = {name: str(refused[option]) for name, option in asked.items() if option in refused}
        if rule.treatment.expires and not store.capabilities.user_metadata:
            why |= dict.fromkeys(("expire_after_s", "expire_idle_s"), "it keeps no user metadata")
        for name, reason in why.items():
            log.warning(
                "the store cannot honour %s of rule %d (%s): %s; such files are %s",
                name.removesuffix("_s"),
                number,
                rule.glob,
                reason.rstrip("."),
                "not uploaded" if name == "encryption" else "stored without it",
            )
        without: dict[str, Any] = dict.fromkeys(set(why) - {"encryption"})
        kept.append(replace(rule, treatment=replace(rule.treatment, **without)) if without else rule)
    tags_expiry = wants_tags and _key(_TAGGED) not in refused
    if wants_tags and not tags_expiry:
        log.warning("the store takes no tags, so its own lifecycle rules cannot delete what expires")
    return replace(rules, rules=tuple(kept), tags_expiry=tags_expiry)


def find_refused(store: ObjectStore, wanted: Iterable[PutOptions]) -> dict[PutOptionsKey, ObjectStoreError]:
    """The options among these that the store refuses, and how. Blocks."""
    distinct = {_key(options): options for options in wanted}
    if not distinct:
        return {}
    base = f"{PROBE_PREFIX}{uuid.uuid4().hex}"

    def probe(numbered: tuple[int, PutOptions]) -> ObjectStoreError | None:
        number, options = numbered
        try:
            store.put(f"{base}-{number}", b"", options=options)
        except _REFUSALS as error:
            return error
        except ObjectStoreError:
            return None
        return None

    with ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="objfs-probe") as pool:
        answers = list(pool.map(probe, enumerate(distinct.values())))
    with suppress(ObjectStoreError):
        store.delete([f"{base}-{number}" for number in range(len(distinct))])
    return {key: error for key, error in zip(distinct, answers, strict=True) if error is not None}


def _key(options: PutOptions) -> PutOptionsKey:
    return options.storage_class, options.encryption, bool(options.tags)


def _option(rule: Rule, name: str) -> PutOptionsKey | None:
    """What one part of a rule asks of the store, by itself."""
    value = getattr(rule.treatment, name)
    return _key(PutOptions(**{name: value})) if value else None


def _options_of(rules: Iterable[Rule]) -> list[PutOptions]:
    return [
        PutOptions(**{name: getattr(rule.treatment, name)})
        for rule in rules
        for name in _PROBED
        if getattr(rule.treatment, name)
    ]
