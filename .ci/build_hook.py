"""Makes the manual page while a wheel is built, from the same source as `--help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPage(BuildHookInterface):
    """Adds share/man/man1/objfs.1."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before files are gathered."""
        sys.path.insert(0, self.root)
        from objfs.cli.manual import manual

        page = Path(self.root) / "build" / "man" / "objfs.1"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(manual())
        build_data["shared_data"][str(page)] = "share/man/man1/objfs.1"
