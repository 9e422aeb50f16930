"""What the tests of uploads have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from objfs_cache.staging import open_staging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from objfs_cache.staging import Staging


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    """Staged files, as many and as large as one likes."""
    (tmp_path / "staging").mkdir()
    with open_staging(tmp_path / "staging", budget_bytes=2**40, floor_fraction=0.0, referenced=()) as opened:
        yield opened
