"""The commands that are about changes that wait, or lost; each imports its work when it is run."""

# No annotations as text: typer makes options of them.

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from objfs.cli.options import FINDING_A_MOUNT, Flags, JsonOption, with_flags

_PANEL = "Changes on their way"


def register(app: typer.Typer) -> None:
    """Add the commands of this group to `objfs`."""
    command = partial(app.command, rich_help_panel=_PANEL)
    command()(flush)
    command()(rescue)
    command()(conflicts)


@with_flags(*FINDING_A_MOUNT)
def flush(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MOUNTPOINT|URL]", help="Default: all mounts of yours, and what earlier ones left."
        ),
    ] = None,
    retry_parked: Annotated[
        bool, typer.Option("--retry-parked", help="Try again what the store refused.")
    ] = False,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Show how far it is (default: yes).")
    ] = None,
    *,
    flags: Flags,
) -> int:
    """Upload everything that waits, also after the mount has gone; return when it is in the store."""
    from objfs.cli.pending.flush import flush as run

    return run(target, flags, retry_parked=retry_parked, progress=progress)


@with_flags(*FINDING_A_MOUNT)
def rescue(
    target: Annotated[
        str,
        typer.Argument(metavar="[MOUNTPOINT|URL]", help="May be left out if there is only one with changes."),
    ],
    folder: Annotated[
        str | None, typer.Argument(metavar="DIR", help="A new or empty folder for the copies.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what only waits, and was not refused.")
    ] = False,
    *,
    flags: Flags,
) -> int:
    """Copy files that the store refused into a plain folder, with a list; nothing is taken away."""
    from objfs.cli.pending.rescue import rescue as run

    if folder is None:
        return run(None, Path(target), flags, everything=everything)
    return run(target, Path(folder), flags, everything=everything)


def conflicts(
    path: Annotated[
        str | None, typer.Argument(metavar="[PATH]", help="In a mount; default: all mounts.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """List files that lost against another writer, kept beside the winner."""
    from objfs.cli.pending.conflicts import conflicts as run

    return run(path, as_json=as_json)
