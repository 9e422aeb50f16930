"""Which keys are paths, and which names may become keys."""

from __future__ import annotations

import errno

NAME_MAX_BYTES = 255  # limits.h
RESERVED_ROOT = ".objfs"  # our own objects live below this name of the root; it is not shown


def decode_name(name: bytes) -> str | None:
    """The name as text, or None if no key can hold it."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return None


def check_new_name(name: bytes) -> str:
    """A name that is about to be created.

    Raises:
        OSError: ENAMETOOLONG, or EILSEQ for bytes that are not UTF-8.
    """
    if len(name) > NAME_MAX_BYTES:
        raise OSError(errno.ENAMETOOLONG, "name too long")
    text = decode_name(name)
    if text is None:
        raise OSError(errno.EILSEQ, "names must be UTF-8")
    return text


def is_showable(name: str) -> bool:
    """Whether a part of a key can be a file's name."""
    if name in ("", ".", "..") or "\0" in name or "/" in name:
        return False
    try:
        return len(name.encode("utf-8")) <= NAME_MAX_BYTES
    except UnicodeEncodeError:
        return False
