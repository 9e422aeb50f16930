"""How a file is to be stored: rules of the mount, and what was set for the file itself.

The decision is made when the upload starts, with the name and the size of then, and kept in the journal: an
upload that is repeated stores the same.
"""

from __future__ import annotations

import getpass
import json
import math
import socket
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from objfs.config.rules import (
    PLAIN,
    SETTABLE,
    Rule,
    Treatment,
    override,
    treatment_from_json,
    treatment_to_json,
)
from objfs.upload.expiry import RENEW_EVERY_S, expiry_metadata, without_expiry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from objfs.store.values import PutOptions

ORIGIN_METADATA = "objfs-origin"  # host/user
_EXPIRY_AND_DIGEST_BYTES = 200  # three names and times, a SHA-256 in hex
EXPIRY_TAG = "objfs-expire"  # days, for instance `7d`
_DAY_S = 86_400
SET_METADATA = "objfs-set"  # what was set for this file alone, as url-encoded JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided for one upload, and when.

    Attributes:
        decided_ns: Unix time in ns; `expire_after` counts from here.
        origin: host and user, where objects are to tell it.
        sha256: the object is to tell the SHA-256 of the file's bytes.
    """

    treatment: Treatment = PLAIN
    decided_ns: int = 0
    origin: str | None = None
    sha256: bool = False

    def apply(self, options: PutOptions) -> PutOptions:
        """The options of an object that is stored as decided; compression and digest are the sender's.

        What was set for the file meanwhile, as its metadata tell, outranks the decision.
        """
        overrides = overrides_of(options.metadata)
        treatment = override(self.treatment, overrides) if overrides else self.treatment
        metadata = without_expiry(options.metadata)
        metadata.pop(ORIGIN_METADATA, None)  # of the upload before
        metadata |= treatment.metadata
        metadata |= expiry_metadata(treatment, self.decided_ns)
        if self.origin is not None:
            metadata[ORIGIN_METADATA] = self.origin
        return replace(
            options,
            metadata=metadata,
            content_type=treatment.content_type or options.content_type,
            cache_control=treatment.cache_control or options.cache_control,
            storage_class=treatment.storage_class or options.storage_class,
            tags=treatment.tags if treatment.tags is not None else options.tags,
            encryption=treatment.encryption or options.encryption,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for the journal."""
        value = {
            "treatment": treatment_to_json(self.treatment),
            "decided_ns": self.decided_ns,
            "origin": self.origin,
            "sha256": self.sha256,
        }
        return {name: said for name, said in value.items() if said}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Decision:
        """The inverse of `to_json`."""
        return cls(**{**value, "treatment": treatment_from_json(value.get("treatment", {}))})


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules of a mount.

    Attributes:
        rules: the first that fits a file decides.
        origin: what objects are to tell of where they come from, or None.
        sha256: objects are to tell the SHA-256 of the file's bytes.
        tags_expiry: objects that expire bear a tag that the store's own lifecycle rules can act on.
    """

    rules: tuple[Rule, ...] = ()
    origin: str | None = None
    sha256: bool = False
    tags_expiry: bool = False

    @property
    def expires(self) -> bool:
        """Whether any file may expire by these rules."""
        return any(rule.treatment.expires for rule in self.rules)

    @property
    def metadata_bytes(self) -> int:
        """The most that rules may add to an object's metadata, as stores count it."""
        if not (self.rules or self.origin or self.sha256):
            return 0
        most = max((_pairs_bytes(rule.treatment.metadata) for rule in self.rules), default=0)
        origin = len(ORIGIN_METADATA) + len(self.origin) if self.origin else 0
        return most + origin + _EXPIRY_AND_DIGEST_BYTES

    def treat(self, path: str, size_bytes: int, overrides: Mapping[str, object] | None = None) -> Treatment:
        """How a file is to be stored."""
        fitting = (rule.treatment for rule in self.rules if rule.fits(path, size_bytes))
        treatment = next(fitting, PLAIN)
        treatment = override(treatment, overrides) if overrides else treatment
        days = expiry_days(treatment)
        if not self.tags_expiry or days is None:
            return treatment
        return replace(treatment, tags={**(treatment.tags or {}), EXPIRY_TAG: f"{days}d"})

    def decide(self, path: str, size_bytes: int, options: PutOptions, now_ns: int) -> Decision:
        """What an upload that starts now is to do; other things than plain files are stored as they are."""
        mode = options.metadata.get("mode", "")
        if mode.isdecimal() and not stat.S_ISREG(int(mode)):
            return Decision()
        treatment = self.treat(path, size_bytes, overrides_of(options.metadata))
        if treatment == PLAIN and not self.origin and not self.sha256:
            return Decision()
        return Decision(treatment=treatment, decided_ns=now_ns, origin=self.origin, sha256=self.sha256)

    def least_expiry_s(self, path: str) -> float | None:
        """The shortest time after which a file of this name may expire by the rules; None: it never does."""
        times = [
            seconds
            for rule in self.rules
            for seconds in (rule.treatment.expire_after_s, rule.treatment.expire_idle_s)
            if seconds is not None and rule.pattern.fullmatch(path)
        ]
        return min(times, default=None)


def expiry_days(treatment: Treatment) -> int | None:
    """Whole days after its upload, or last noted read, when a file has surely expired; None: never."""
    times = [treatment.expire_after_s]
    if treatment.expire_idle_s is not None:
        times.append(treatment.expire_idle_s + RENEW_EVERY_S)
    known = [math.ceil(seconds / _DAY_S) for seconds in times if seconds is not None]
    return min(known, default=None)


def _pairs_bytes(pairs: Mapping[str, str]) -> int:
    return sum(len(name) + len(text) for name, text in pairs.items())


def this_origin() -> str:
    """Host and user, as `objfs-origin` has them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "?"
    return quote(f"{socket.gethostname()[:64]}/{user[:32]}", safe="/")


def overrides_of(metadata: Mapping[str, str]) -> dict[str, object]:
    """What was set for one file; whatever cannot be understood does not count."""
    try:
        found = json.loads(unquote(metadata.get(SET_METADATA, "{}")))
        said = {name: value for name, value in found.items() if name in SETTABLE}
        override(PLAIN, said)
    except (ValueError, AttributeError):
        return {}
    return said


def overrides_text(overrides: Mapping[str, object]) -> str:
    """The value of `objfs-set`."""
    return quote(json.dumps(dict(sorted(overrides.items())), separators=(",", ":")), safe="")


def build_rule_set(rules: Sequence[Rule], *, origin: bool, sha256: bool) -> RuleSet:
    """The rules of a mount's settings."""
    return RuleSet(rules=tuple(rules), origin=this_origin() if origin else None, sha256=sha256)
