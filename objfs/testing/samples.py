"""Keys and bodies that stores get wrong."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from objfs.store.values import FileSlice

if TYPE_CHECKING:
    from pathlib import Path

    from objfs.store.protocol import ObjectStore

PLAIN_KEYS = (
    "a b",
    "a+b",
    "a%20b",
    "a%2Fb",
    "a&b<c>\"d'",
    "a?b#c",
    "a\\b",
    "a=b;c,d:e@f$g!h*i(j)",
    "~",
    "trailing.",
    "trailing ",
    "é",
    "e\u0301",
    "日本語/ファイル",
    "😀",
    "\u00a0\u2028",
    "{x}[y]|^`",
    ".hidden/.objfs",
    "dir/",
    "deep/" * 20 + "x",
)
"""Every store must hold these."""

HARD_KEYS = (
    "/leading",
    "//",
    "a//b",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/./b",
    "a/..",
    "tab\there",
    "line\nbreak",
    "return\rhere",
    "\x01",
    "\x7f",
    "nul\0here",
    "p" * 300,
    "dir//",
)
"""A store may refuse these with InvalidRequestError, but must not take one for another."""

BAD_KEYS = ("", "\ud800")
"""No store can hold these."""


def random_bytes(length: int, *, seed: int = 0) -> bytes:
    """The same bytes for the same arguments."""
    return random.Random(seed).randbytes(length)  # noqa: S311  # repeatable, not secret


def slice_of(folder: Path, data: bytes) -> FileSlice:
    """The data as a piece in the middle of a file."""
    path = folder / "slice"
    path.write_bytes(b"before" + data + b"after")
    return FileSlice(path=path, start=len(b"before"), length=len(data))


def all_keys(store: ObjectStore, prefix: str = "", *, delimiter: str = "", max_keys: int = 1000) -> list[str]:
    """Keys and common prefixes of all pages, in the order they were told."""
    found: list[str] = []
    page: str | None = None
    while True:
        answer = store.list(prefix, delimiter=delimiter, page=page, max_keys=max_keys)
        found += sorted([*(info.key for info in answer.objects), *answer.prefixes])
        if answer.next_page is None:
            return found
        page = answer.next_page
