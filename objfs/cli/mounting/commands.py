"""The commands that make, show, change and end mounts; each imports its work when it is run."""

# No annotations as text: typer makes options of them.

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from objfs.cli.mounting.flags import MOUNT_FLAGS
from objfs.cli.options import Flags, JsonOption, MountArgument, with_flags

_PANEL = "Mounts"
_MOUNT_NOTES = (
    "Sizes: 64K, 500M, 10GiB (K, M, G are powers of 1024; KB, MB, GB of 1000). Times: 500ms, 30s, 5m."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this group to `objfs`."""
    command = partial(app.command, rich_help_panel=_PANEL)
    command(epilog=_MOUNT_NOTES)(mount)
    command()(umount)
    command()(status)
    command()(remount)


@with_flags(*MOUNT_FLAGS)
def mount(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL|NAME",
            help="s3://bucket/prefix, minio://host:9000/bucket, file:///folder, memory://, "
            "or a mount of the configuration.",
        ),
    ],
    mountpoint: Annotated[
        str | None, typer.Argument(metavar="[MOUNTPOINT]", help="An empty folder; a NAME has its own.")
    ] = None,
    *,
    flags: Flags,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "-o",
            metavar="OPT[,OPT=VAL…]",
            help="Any option above with _ or -, and ro, nonempty, noexec, … as in fstab.",
            rich_help_panel="Daemon",
        ),
    ] = None,
    compress: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB=zstd[:N]",
            help="Store such files compressed; the configuration has more rules.",
            rich_help_panel="Files",
        ),
    ] = None,
) -> int:
    """Mount a bucket, and return once it can be used."""
    from objfs.cli.mounting.mount import mount as run
    from objfs.cli.settings import rules_of_flags

    if compress:
        flags["rules"] = rules_of_flags(compress)
    return run(url, Path(mountpoint) if mountpoint else None, flags, options or [])


def umount(
    mountpoint: MountArgument,
    drain: Annotated[
        bool,
        typer.Option("--drain/--no-drain", help="Upload everything first, or leave it to the next mount."),
    ] = True,
) -> int:
    """Upload what waits, with a progress bar, then unmount."""
    from objfs.cli.mounting.umount import umount as run
    from objfs.cli.settings import find_mountpoint

    return run(find_mountpoint(mountpoint), drain=drain)


def status(
    mountpoint: Annotated[
        str | None, typer.Argument(metavar="[MOUNTPOINT]", help="One mount; default: all of yours.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Show mounts: store, uploads, cache, conflicts, parked changes."""
    from objfs.cli.mounting.status import status as run
    from objfs.cli.settings import find_mountpoint

    return run(find_mountpoint(mountpoint) if mountpoint else None, as_json=as_json)


def remount(
    mountpoint: MountArgument,
    options: Annotated[
        list[str],
        typer.Option("-o", metavar="OPT=VAL[,OPT=VAL…]", help="cache_size, limit_upload, log_level, …"),
    ],
) -> int:
    """Change options of a running mount, until it is unmounted."""
    from objfs.cli.mounting.remount import remount as run
    from objfs.cli.settings import find_mountpoint

    return run(find_mountpoint(mountpoint), options)
