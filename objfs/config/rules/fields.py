"""The fields of a rule, as people write them -> checked values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from objfs.config.quantities import parse_duration, parse_size, show_duration
from objfs.config.rules.matching import ABOUT, compile_glob
from objfs.config.rules.treatment import DEFAULT_LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_LEVEL = 22  # zstd(1), --ultra included
LEAST_EXPIRY_S = 1.0  # times are kept in whole seconds
MAX_TAGS = 10  # S3 (user guide, "Categorizing your storage using tags")
_TAG_NAME_CHARS, _TAG_VALUE_CHARS = 128, 256  # same page
_TAG_TEXT = re.compile(r"[\w +\-=._:/@]*")  # same page: letters, digits, spaces and + - = . _ : / @
_METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_OWN_METADATA = frozenset({"mode", "uid", "gid", "mtime", "ctime", "atime", "xattr"})


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
SETTABLE = frozenset(RULE_FIELDS) - ABOUT - {"metadata"}
"""What may be set for one file."""
