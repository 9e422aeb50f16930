"""How one file is to be stored."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from objfs.config.quantities import show_duration, show_size

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_LEVEL = 3  # zstd's own
DEFAULT_LEAST_SIZE = 4096  # stores and disks count in such blocks: less saves nothing
DEFAULT_LEAST_SAVING = 0.1  # the processor time of every read is worth that much


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """Compression with zstd.

    Attributes:
        level: 1 (fast) to 22 (small).
        least_size: smaller files are stored plain, in bytes.
        least_saving: part of the size (0 to 1) that must be saved, else the file is stored plain.
    """

    level: int = DEFAULT_LEVEL
    least_size: int = DEFAULT_LEAST_SIZE
    least_saving: float = DEFAULT_LEAST_SAVING


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How one file is to be stored; None and empty mappings leave a thing to the store.

    Attributes:
        compress: None stores the bytes as they are.
        content_type: None guesses by name.
        tags: of the object, by name; None sets none, and leaves those that a copied object has.
        metadata: user metadata, by lower-case name.
        encryption: `sse-s3`, `kms`, or `kms:KEY-ID`; None for the bucket's default.
        expire_after_s: seconds from the upload until the file vanishes.
        expire_idle_s: seconds from the last read until the file vanishes.
    """

    compress: Compression | None = None
    storage_class: str | None = None
    content_type: str | None = None
    cache_control: str | None = None
    tags: Mapping[str, str] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    encryption: str | None = None
    expire_after_s: float | None = None
    expire_idle_s: float | None = None

    @property
    def expires(self) -> bool:
        """Whether the file is to vanish some day."""
        return self.expire_after_s is not None or self.expire_idle_s is not None


PLAIN = Treatment()


def treatment_to_json(treatment: Treatment) -> dict[str, Any]:
    """Plain values, for a journal; only what is not the default."""
    values = {one.name: getattr(treatment, one.name) for one in fields(Treatment)}
    value: dict[str, Any] = {name: said for name, said in values.items() if said != getattr(PLAIN, name)}
    if treatment.compress is not None:
        value["compress"] = {one.name: getattr(treatment.compress, one.name) for one in fields(Compression)}
    for name in ("tags", "metadata"):
        if name in value:
            value[name] = dict(value[name])
    return value


def treatment_from_json(value: Mapping[str, Any]) -> Treatment:
    """The inverse of `treatment_to_json`."""
    plain = dict(value)
    if plain.get("compress"):
        plain["compress"] = Compression(**plain["compress"])
    return Treatment(**plain)


def describe_treatment(treatment: Treatment) -> dict[str, str]:
    """What is not left to the store, by the names of the configuration."""
    texts: dict[str, str | None] = {
        "storage_class": treatment.storage_class,
        "content_type": treatment.content_type,
        "cache_control": treatment.cache_control,
        "encryption": treatment.encryption,
    }
    if (compress := treatment.compress) is not None:
        texts["compress"] = (
            f"zstd level {compress.level}, files of {show_size(compress.least_size)} or more, "
            f"if it saves {compress.least_saving:.0%}"
        )
    for name, pairs in (("tags", treatment.tags), ("metadata", treatment.metadata)):
        texts[name] = ", ".join(f"{key}={said}" for key, said in (pairs or {}).items())
    for name, seconds in (
        ("expire_after", treatment.expire_after_s),
        ("expire_idle", treatment.expire_idle_s),
    ):
        texts[name] = None if seconds is None else show_duration(seconds)
    return {name: text for name, text in sorted(texts.items()) if text}
