"""The commands that are about how files are stored; each imports its work when it is run."""

# No annotations as text: typer makes options of them.

from functools import partial
from typing import Annotated

import typer

from objfs.cli.options import FINDING_A_MOUNT, Flags, JsonOption, StoreArgument, with_flags

_PANEL = "How files are stored"


def register(app: typer.Typer) -> None:
    """Add the commands of this group to `objfs`."""
    command = partial(app.command, rich_help_panel=_PANEL)
    command("set")(set_files)
    command()(expire)
    command()(verify)
    rules = typer.Typer(help="Look at upload rules.", no_args_is_help=True)
    rules.command("test")(rules_test)
    app.add_typer(rules, name="rules", rich_help_panel=_PANEL)
    lifecycle = typer.Typer(help="Have the store itself delete what expires.", no_args_is_help=True)
    lifecycle.command("show")(lifecycle_show)
    lifecycle.command("apply")(lifecycle_apply)
    app.add_typer(lifecycle, name="lifecycle", rich_help_panel=_PANEL)


def set_files(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH… NAME=VALUE…",
            help="Files in a mount. storage_class, content_type, cache_control, tags, encryption, compress, "
            "expire_after, expire_idle; NAME= takes it back.",
        ),
    ],
) -> int:
    """Have single files stored in another way than the rules say."""
    from objfs.cli.storing.set import set_files as run

    return run(arguments)


@with_flags(*FINDING_A_MOUNT)
def expire(
    target: StoreArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be deleted.")] = False,
    as_json: JsonOption = False,
    *,
    flags: Flags,
) -> int:
    """Delete files that have expired, a thousand at a time."""
    from objfs.cli.storing.expire import expire as run

    return run(target, flags, dry_run=dry_run, as_json=as_json)


@with_flags(*FINDING_A_MOUNT)
def verify(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH|URL…", help="Files and directories in a mount, or a store.")
    ],
    as_json: JsonOption = False,
    *,
    flags: Flags,
) -> int:
    """Read files back from the store, and compare them with their checksums."""
    from objfs.cli.storing.verify import verify as run

    return run(paths, flags, as_json=as_json)


def rules_test(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH…", help="Files in a mount, or names below its root.")
    ],
    mount_name: Annotated[
        str | None,
        typer.Option(
            "--mount", metavar="NAME", help="A mount of the configuration, or where it is (default: of PATH)."
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="SIZE", help="Of the file (default: its own).")] = None,
    as_json: JsonOption = False,
) -> int:
    """Tell which rule a name meets, and why."""
    from objfs.cli.storing.rules import test

    return test(paths, mount=mount_name, size=size, as_json=as_json)


@with_flags(*FINDING_A_MOUNT)
def lifecycle_show(target: StoreArgument, as_json: JsonOption = False, *, flags: Flags) -> int:
    """List the store's lifecycle rules."""
    from objfs.cli.storing.lifecycle import show

    return show(target, flags, as_json=as_json)


@with_flags(*FINDING_A_MOUNT)
def lifecycle_apply(target: StoreArgument, as_json: JsonOption = False, *, flags: Flags) -> int:
    """Install the lifecycle rules that the upload rules ask for; those of others stay."""
    from objfs.cli.storing.lifecycle import apply

    return apply(target, flags, as_json=as_json)
