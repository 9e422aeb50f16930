"""The commands that are about local caches and the configuration; each imports its work when it is run."""

# No annotations as text: typer makes options of them.

from functools import partial
from typing import Annotated

import typer

from objfs.cli.options import CACHE_DIR, ENDPOINT_URL, Flags, JsonOption, PathsArgument, with_flags

_PANEL = "Settings and caches"


def register(app: typer.Typer) -> None:
    """Add the commands of this group to `objfs`."""
    command = partial(app.command, rich_help_panel=_PANEL)
    command()(warm)
    command()(pin)
    command()(unpin)
    config = typer.Typer(help="Show and check configuration files.", no_args_is_help=True)
    config.command("show")(config_show)
    config.command("check")(config_check)
    app.add_typer(config, name="config", rich_help_panel=_PANEL)
    cache = typer.Typer(help="Show and clear local caches.", no_args_is_help=True)
    cache.command("show")(cache_show)
    cache.command("clear")(cache_clear)
    cache.command("verify")(cache_verify)
    app.add_typer(cache, name="cache", rich_help_panel=_PANEL)


def warm(paths: PathsArgument, as_json: JsonOption = False) -> int:
    """Fetch files into the cache ahead of need; programs that read come first."""
    from objfs.cli.setup.warm import warm as run

    return run(paths, as_json=as_json)


def pin(paths: PathsArgument, as_json: JsonOption = False) -> int:
    """Fetch files, and keep them in the cache, version after version; 'objfs cache show' lists pins."""
    from objfs.cli.setup.pin import pin as run

    return run(paths, as_json=as_json)


def unpin(paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="As they were pinned.")]) -> int:
    """Let pinned files leave the cache again when room is needed."""
    from objfs.cli.setup.pin import unpin as run

    return run(paths)


def config_show(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A mount; default: what holds for all.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Print each setting, merged, with the file and line, variable or default it comes from."""
    from objfs.cli.setup.config import show

    return show(name, as_json=as_json)


def config_check() -> int:
    """Check the configuration files; every mistake is one line, with file and line number."""
    from objfs.cli.setup.config import check

    return check()


@with_flags(CACHE_DIR)
def cache_show(as_json: JsonOption = False, *, flags: Flags) -> int:
    """List the caches of all stores: where, how large, what waits in them, and whether they are in use."""
    from objfs.cli.setup.caches import show

    return show(flags, as_json=as_json)


@with_flags(ENDPOINT_URL, CACHE_DIR)
def cache_clear(
    target: Annotated[
        str, typer.Argument(metavar="MOUNTPOINT|URL|NAME", help="Of a store that is not mounted.")
    ],
    *,
    flags: Flags,
) -> int:
    """Delete the cached blocks of a store; what waits for its upload is kept."""
    from objfs.cli.setup.caches import clear

    return clear(target, flags)


@with_flags(ENDPOINT_URL, CACHE_DIR)
def cache_verify(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[MOUNTPOINT|URL|NAME]", help="Mounted or not; default: all caches."),
    ] = None,
    as_json: JsonOption = False,
    *,
    flags: Flags,
) -> int:
    """Read back all cached blocks and staged files; bad blocks are dropped, damaged changes are told."""
    from objfs.cli.setup.caches import verify

    return verify(target, flags, as_json=as_json)
