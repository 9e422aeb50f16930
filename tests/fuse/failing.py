"""Machines whose system calls fail: see `hooks/sitecustomize.py`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOOKS = Path(__file__).parent / "hooks"
HOST = "store.test"  # a name that daemons with these faults can resolve, unless it fails
RESOLVER, BLOCKS, STAGING, JOURNAL = "names", "blocks", "staging", "journal"


class Faults:
    """Faults of daemons that were started in `environment`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        paths = [str(HOOKS), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {"OBJFS_TEST_FAULTS": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
        folder.mkdir()

    @contextmanager
    def failing(self, fault: str) -> Iterator[None]:
        """It fails in here."""
        mark = self._folder / fault
        mark.touch()
        try:
            yield
        finally:
            mark.unlink()
