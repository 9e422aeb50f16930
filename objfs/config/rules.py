"""Upload rules: what a mount's configuration says about how files are stored.

A rule is a table of texts and numbers (`[[mounts.photos.rules]]`), checked field by field. The first rule
whose glob and sizes fit a file decides; what it leaves out is off.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from objfs.config.quantities import parse_duration, parse_size, show_duration, show_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEFAULT_LEVEL = 3  # zstd's own
MAX_LEVEL = 22  # zstd(1), --ultra included
DEFAULT_LEAST_SIZE = 4096  # stores and disks count in such blocks: less saves nothing
DEFAULT_LEAST_SAVING = 0.1  # the processor time of every read is worth that much
LEAST_EXPIRY_S = 1.0  # times are kept in whole seconds
MAX_TAGS = 10  # S3 (user guide, "Categorizing your storage using tags")
_TAG_NAME_CHARS, _TAG_VALUE_CHARS = 128, 256  # same page
_TAG_TEXT = re.compile(r"[\w +\-=._:/@]*")  # same page: letters, digits, spaces and + - = . _ : / @
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_OWN_METADATA = frozenset({"mode", "uid", "gid", "mtime", "ctime", "atime", "xattr"})


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
        said = [f"{name}={show_value(value)}" for name, value in self.values.items() if name not in _ABOUT]
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


def show_value(value: object) -> str:
    """A value of a rule for people."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={said}" for name, said in value.items()) + "}"
    return "off" if value is False else str(value)


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


# -- fields ------------------------------------------------------------------------------------------


def _glob(value: object) -> str:
    text = _line(value)
    compile_glob(text)
    return text


def _line(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("write a text in quotes")
    if not value.isascii() and not value.isprintable():
        raise ValueError("this has characters that cannot be printed")
    return value


def _header(value: object) -> str:
    text = _line(value)
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError(
            f"'{text}' is no value that a header can carry: printable ASCII without outer spaces"
        )
    return text


def _storage_class(value: object) -> str:
    text = _header(value).upper()
    if not re.fullmatch(r"[A-Z0-9_]+", text):
        raise ValueError(f"'{value}' is no storage class; write for instance STANDARD_IA")
    return text


def _content_type(value: object) -> str:
    text = _header(value)
    if not re.fullmatch(r"[^/\s;]+/[^/\s;]+(\s*;.*)?", text):
        raise ValueError(f"'{text}' is no content type; write for instance text/plain")
    return text


def _size(value: object) -> int:
    return parse_size(_quantity(value))


def _duration(value: object) -> float:
    seconds = parse_duration(_quantity(value))
    if seconds < LEAST_EXPIRY_S:
        raise ValueError(f"'{value}' is too little; the least is {show_duration(LEAST_EXPIRY_S)}")
    return seconds


def _quantity(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("write a number, or a text in quotes")
    return str(value)


def _compress(value: object) -> int | None:
    """The level, or None for off."""
    if value is False or value == "off":
        return None
    kind, colon, level = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind != "zstd":
        raise ValueError(f"'{value}' is not one of off, zstd, zstd:LEVEL")
    return _level(level) if colon else DEFAULT_LEVEL


def _level(value: object) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_LEVEL:
        raise ValueError(f"'{value}' is no level; write 1 (fast) to {MAX_LEVEL} (small)")
    return value


def _part(value: object) -> float:
    match = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]+)?)\s*%", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"'{value}' is no part of the size; write for instance \"10%\"")
    return float(match[1]) / 100


def _encryption(value: object) -> str:
    text = _header(value)
    if text in ("sse-s3", "kms") or re.fullmatch(r"kms:[A-Za-z0-9:/_.-]+", text):
        return text
    raise ValueError(f"'{text}' is not one of sse-s3, kms, kms:KEY-ID")


def _pairs(value: object, what: str) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair):
        return value
    raise ValueError(f'write a table of texts, for instance {{ {what} = "x" }}')


def _tags(value: object) -> Mapping[str, str]:
    tags = _pairs(value, "team")
    if len(tags) > MAX_TAGS:
        raise ValueError(f"an object has at most {MAX_TAGS} tags")
    for name, text in tags.items():
        fits = 0 < len(name) <= _TAG_NAME_CHARS and len(text) <= _TAG_VALUE_CHARS
        if not fits or not _TAG_TEXT.fullmatch(name) or not _TAG_TEXT.fullmatch(text):
            raise ValueError(f"'{name}={text}' is no tag: letters, digits, spaces and + - = . _ : / @ only")
    return dict(tags)


def _metadata(value: object) -> Mapping[str, str]:
    pairs = _pairs(value, "project")
    for name, text in pairs.items():
        if not _METADATA_NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no metadata name: lower-case letters, digits, - _ .")
        if name in _OWN_METADATA or name.startswith("objfs-"):
            raise ValueError(f"'{name}' is used by objfs itself")
        _header(text)
    return dict(pairs)


RULE_FIELDS: Mapping[str, Callable[[object], object]] = {
    "glob": _glob,
    "min_size": _size,
    "max_size": _size,
    "compress": _compress,
    "level": _level,
    "compress_min_size": _size,
    "compress_min_saving": _part,
    "storage_class": _storage_class,
    "content_type": _content_type,
    "cache_control": _header,
    "tags": _tags,
    "metadata": _metadata,
    "encryption": _encryption,
    "expire_after": _duration,
    "expire_idle": _duration,
}
SETTABLE = frozenset(RULE_FIELDS) - {"glob", "min_size", "max_size", "metadata"}
"""What may be set for one file."""
_ABOUT = frozenset({"glob", "min_size", "max_size"})
_TREATMENT_FIELD = {
    "level": "compress",
    "compress_min_size": "compress",
    "compress_min_saving": "compress",
    "expire_after": "expire_after_s",
    "expire_idle": "expire_idle_s",
}
