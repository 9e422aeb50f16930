"""What the command line looks like: `objfs`, and its groups of commands in the order of `objfs --help`."""

# No annotations as text: typer makes options of them.
from typing import Annotated

import typer

from objfs.cli.looking import commands as looking
from objfs.cli.mounting import commands as mounting
from objfs.cli.pending import commands as pending
from objfs.cli.setup import commands as setup
from objfs.cli.storing import commands as storing

app = typer.Typer(
    name="objfs",
    help="Mount object-store buckets as directories.",
    no_args_is_help=True,
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage. More: objfs COMMAND --help, man objfs.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        from objfs.cli.version import describe_versions

        typer.echo(describe_versions())
        raise typer.Exit


@app.callback()
def objfs(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the versions of objfs, FUSE and libraries, and exit.",
        ),
    ] = False,
) -> None:
    """Mount object-store buckets as directories."""


for group in (mounting, looking, pending, setup, storing):
    group.register(app)
