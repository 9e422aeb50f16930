"""How an object says that it is compressed, and what it holds: Content-Encoding and metadata."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from objfs.codec.values import ENCODING, MAX_FRAME_BYTES, MAX_FRAMES, SHA256_METADATA, SIZE_METADATA

if TYPE_CHECKING:
    from objfs.store.values import ObjectInfo, PutOptions, Version

MARKS = frozenset({SIZE_METADATA, SHA256_METADATA})
MAX_CONTENT_BYTES = MAX_FRAMES * MAX_FRAME_BYTES  # more no table can hold that is read
_DECIMAL = re.compile(r"[0-9]{1,19}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def content_version(info: ObjectInfo) -> Version:
    """The version of an object with what its metadata tell of its content, as far as they make sense."""
    if info.metadata is None:
        return info.version
    size = info.metadata.get(SIZE_METADATA, "") if info.content_encoding == ENCODING else ""
    decoded = int(size) if _DECIMAL.fullmatch(size) and int(size) <= MAX_CONTENT_BYTES else None
    digest = info.metadata.get(SHA256_METADATA, "")
    sha256 = digest if _SHA256.fullmatch(digest) else None
    if decoded is None and sha256 is None:
        return info.version
    return replace(info.version, decoded_bytes=decoded, sha256=sha256)


def marked(options: PutOptions, version: Version | None) -> PutOptions:
    """Options of an object that holds a version's content in the same form; without its marks if None."""
    metadata = {name: value for name, value in options.metadata.items() if name not in MARKS}
    encoding = options.content_encoding
    if version is not None and version.decoded_bytes is not None:
        metadata[SIZE_METADATA] = str(version.decoded_bytes)
        encoding = ENCODING
    if version is not None and version.sha256 is not None:
        metadata[SHA256_METADATA] = version.sha256
    return replace(options, metadata=metadata, content_encoding=encoding)
