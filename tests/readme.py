"""The README as tests read it: its fenced blocks, and who runs them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
README = (CHECKOUT / "README.md").read_text()
_FENCE = re.compile(r"(?:^<!-- run by (\S+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block; `test` is the file that is said to run it, or ""."""

    test: str
    language: str
    text: str


def readme_blocks() -> list[Block]:
    """All fenced blocks."""
    return [Block(test=test, language=kind, text=text) for test, kind, text in _FENCE.findall(README)]


def readme_commands(test: str) -> list[tuple[bool, str]]:
    """Commands of `console` blocks that a test file is said to run: whether by root, and the line."""
    lines = [line for block in readme_blocks() if block.test == test for line in block.text.splitlines()]
    return [(line.startswith("# "), line[2:]) for line in lines]
