"""The commands that look at mounts and stores; each imports its work when it is run."""

# No annotations as text: typer makes options of them.

from functools import partial
from typing import Annotated

import typer

from objfs.cli.options import (
    FINDING_A_MOUNT,
    REACHING_A_STORE,
    Flags,
    JsonOption,
    OnlyMountArgument,
    PathsArgument,
    with_flags,
)

_PANEL = "See what it does"


def register(app: typer.Typer) -> None:
    """Add the commands of this group to `objfs`."""
    command = partial(app.command, rich_help_panel=_PANEL)
    command()(top)
    command()(trace)
    command()(stat)
    command()(doctor)
    command()(bench)


def top(
    mountpoint: OnlyMountArgument = None,
    once: Annotated[bool, typer.Option("--once", help="Show one second, and end.")] = False,
    prices: Annotated[
        str | None,
        typer.Option(
            metavar="write=P,read=P,out=P",
            help="Of 1,000 requests, and of 1 GB received (default: S3 Standard, 0.005, 0.0004, 0).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line for each second.")] = False,
) -> int:
    """Watch a mount: operations and latency, bytes, requests and cost, uploads."""
    from objfs.cli.looking.top import top as run

    return run(mountpoint, once=once, as_json=as_json, prices=prices)


def trace(
    mountpoint: OnlyMountArgument = None,
    path: Annotated[
        str | None,
        typer.Option(metavar="PATH|GLOB", help="Only this file, what is below it, or names like '*.jpg'."),
    ] = None,
    operations: Annotated[
        list[str] | None, typer.Option("--op", metavar="NAME,…", help="Only these: read, write, lookup, …")
    ] = None,
    slow: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what took at least so long: 50ms.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="An object for each line.")] = False,
) -> int:
    """Print what programs ask of a mount, live: who, what, how long."""
    from objfs.cli.looking.trace import trace as run

    return run(mountpoint, path=path, operations=operations or [], slow=slow, as_json=as_json)


def stat(paths: PathsArgument, as_json: JsonOption = False) -> int:
    """Tell of a file what is uploaded, cached, or waits; its version and key."""
    from objfs.cli.looking.stat import stat as run

    return run(paths, as_json=as_json)


@with_flags(*FINDING_A_MOUNT)
def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL|MOUNTPOINT|NAME]", help="A store or a mount; default: this machine and its mounts."
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing, not even for a moment.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Abort what objfs left unfinished more than a day ago.")
    ] = False,
    keys: Annotated[
        int, typer.Option(metavar="COUNT", min=0, help="Most keys to look at, 0 for all (default: 10000).")
    ] = 10_000,
    as_json: JsonOption = False,
    *,
    flags: Flags,
) -> int:
    """Find out what is wrong, with advice; the status is 1 if something is."""
    from objfs.cli.looking.doctor import doctor as run

    return run(target, flags, read_only=read_only, clean=clean, keys=keys or None, as_json=as_json)


@with_flags(*REACHING_A_STORE)
def bench(
    url: Annotated[str, typer.Argument(metavar="URL|NAME", help="A store that you may write to.")],
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the requests and bytes.")] = False,
    as_json: JsonOption = False,
    *,
    flags: Flags,
) -> int:
    """Measure a store: small and large objects, one and many at a time; leaves nothing behind."""
    from objfs.cli.looking.bench import bench as run

    return run(url, flags, quick=quick, as_json=as_json)
