"""How files are stored, as their nodes know it: what an upload decided, what was set for one file, expiry."""

from __future__ import annotations

import errno
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.config.rules import SETTABLE, describe_treatment
from objfs.errors import InvalidRequestError, NotSupportedError, ObjectStoreError
from objfs.store.probe import PROBE_PREFIX
from objfs.store.values import PutOptions
from objfs.upload.expiry import (
    EXPIRES_METADATA,
    IDLE_METADATA,
    expiry_metadata,
    read_expiry,
    time_text,
    without_expiry,
)
from objfs.upload.rules import SET_METADATA, overrides_of, overrides_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.protocol import AsyncObjectStore
    from objfs.upload.expiry import Expiry
    from objfs.upload.rules import Decision, RuleSet
    from objfs.vfs.attributes import Attributes
    from objfs.vfs.nodes import FileNode

XATTR_PREFIX = "user.objfs."
NS = 1_000_000_000


def adopt(attributes: Attributes, decision: Decision) -> None:
    """The object was stored as decided: later changes of its attributes keep that."""
    stored = decision.apply(
        PutOptions(
            metadata=attributes.foreign,
            content_type=attributes.content_type,
            storage_class=attributes.storage_class,
        )
    )
    attributes.foreign = dict(stored.metadata)
    attributes.content_type = stored.content_type
    attributes.storage_class = stored.storage_class


def expiry_of(attributes: Attributes) -> Expiry | None:
    """When a file vanishes, if ever."""
    return read_expiry(attributes.foreign) if EXPIRES_METADATA in attributes.foreign else None


def has_expired(node: FileNode, now_s: float) -> bool:
    """Whether a file is gone by now; one that a program changes is not: its upload counts anew."""
    if node.dirty or node.writers or node.layers or not node.proven:
        return False
    expiry = expiry_of(node.attributes)
    return expiry is not None and expiry.has_passed(now_s) and not node.pending()


def renew(attributes: Attributes, now_s: float) -> bool:
    """A file is read: put off its expiry, if reads count; returns whether that is to be stored."""
    if IDLE_METADATA not in attributes.foreign:
        return False
    expiry = expiry_of(attributes)
    renewed = expiry.renewed(now_s) if expiry is not None else None
    if renewed is None:
        return False
    attributes.foreign = without_expiry(attributes.foreign) | renewed.to_metadata()
    return True


def wanted_attributes(
    node: FileNode, values: Mapping[str, object], rules: RuleSet, now_ns: int
) -> Attributes:
    """A file's attributes with the rules overridden; "" takes an override back. Times count from now.

    Raises:
        OSError: EINVAL: a name is not known, or a value is wrong.
    """
    attributes = replace(node.attributes)
    if unknown := sorted(set(values) - SETTABLE):
        raise OSError(errno.EINVAL, f"'{unknown[0]}' cannot be set for a file")
    overrides = {**overrides_of(attributes.foreign), **values}
    overrides = {name: value for name, value in overrides.items() if value != ""}
    try:
        treatment = rules.treat(node.path, node.size_bytes, overrides)
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    foreign = {name: value for name, value in attributes.foreign.items() if name != SET_METADATA}
    if overrides:
        foreign[SET_METADATA] = overrides_text(overrides)
    if {"expire_after", "expire_idle"} & set(values):
        foreign = without_expiry(foreign) | expiry_metadata(treatment, now_ns)
    attributes.foreign = foreign
    if "content_type" in values:
        attributes.content_type = treatment.content_type
    if "storage_class" in values:
        attributes.storage_class = treatment.storage_class or "STANDARD"
    if "cache_control" in values:
        attributes.cache_control = treatment.cache_control
    if "tags" in values:
        attributes.tags = treatment.tags or {}
    if "encryption" in values:
        attributes.encryption = treatment.encryption
    return attributes


async def check_honoured(store: AsyncObjectStore, attributes: Attributes) -> None:
    """Try a storage class and an encryption with an empty object that is deleted again.

    Raises:
        OSError: ENOTSUP: the store refuses them.
    """
    options = PutOptions(storage_class=attributes.storage_class, encryption=attributes.encryption)
    key = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    try:
        await store.put(key, b"", options=options)
    except (InvalidRequestError, NotSupportedError) as error:
        raise OSError(errno.ENOTSUP, f"the store refuses that ({str(error).rstrip('.')})") from error
    with suppress(ObjectStoreError):
        await store.delete([key])


def describe(node: FileNode, rules: RuleSet) -> dict[str, str]:
    """What the next upload of a file would do, what was set for it (`set.`), and when it expires."""
    told = describe_treatment(rules.treat(node.path, node.size_bytes, overrides_of(node.attributes.foreign)))
    told |= {f"set.{name}": show(value) for name, value in overrides_of(node.attributes.foreign).items()}
    expiry = expiry_of(node.attributes)
    if expiry is not None:
        told["expires"] = time_text(expiry.at_s)
    return told


def xattr_value(node: FileNode, name: str) -> bytes | None:
    """The value of `user.objfs.NAME`: what was set for the file; None if nothing was."""
    key = name.removeprefix(XATTR_PREFIX)
    if key == "expires":
        expiry = expiry_of(node.attributes)
        return None if expiry is None else time_text(expiry.at_s).encode()
    value = overrides_of(node.attributes.foreign).get(key)
    return None if value is None else show(value).encode()


def parse_value(name: str, text: str) -> object:
    """A value as people write it: tags as `team=a,env=b`.

    Raises:
        ValueError: it cannot be understood.
    """
    if name != "tags" or not text:
        return text
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals and key for key, equals, _ in pairs):
        raise ValueError(f"'{text}' are no tags; write for instance team=a,env=b")
    return {key.strip(): value.strip() for key, _, value in pairs}


def show(value: object) -> str:
    """The inverse of `parse_value`."""
    if isinstance(value, dict):
        return ",".join(f"{key}={text}" for key, text in value.items())
    return str(value)
