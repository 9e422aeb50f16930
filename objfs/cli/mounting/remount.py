"""`objfs remount`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from objfs.cli.places import Place
from objfs.cli.show import show_text
from objfs.config import split_mount_options
from objfs.config.settings import check_text
from objfs.control.remount import check_changeable
from objfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def remount(mountpoint: Path, texts: Sequence[str]) -> int:
    """Change options of a mount that goes on meanwhile; they hold until it is unmounted."""
    options = split_mount_options(texts)
    check_changeable(options)
    for name, text in options.items():
        try:
            check_text(name, text)
        except ValueError as error:
            raise UsageError(f"{name.replace('_', '-')}: {error}.") from error
    with Place(mountpoint=mountpoint, inner="").connect() as client:
        changed = client.ask("remount", options=options)["changed"]
    for name, (before, after) in changed.items():
        sys.stdout.write(f"{name.replace('_', '-')}: {show_text(before)} -> {show_text(after)}\n")
    return 0
