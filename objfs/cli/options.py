"""Arguments and options that several commands have, and flags that are settings.

Mountpoints are plain text everywhere: typer would stat a Path, and hang with a mount that hangs.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

MountArgument = Annotated[
    str, typer.Argument(metavar="MOUNTPOINT", help="Where it is, or its name in the configuration.")
]
OnlyMountArgument = Annotated[
    str | None, typer.Argument(metavar="[MOUNTPOINT]", help="May be left out if there is only one.")
]
StoreArgument = Annotated[str, typer.Argument(metavar="MOUNTPOINT|URL|NAME", help="A mount, or its store.")]
PathsArgument = Annotated[
    list[str], typer.Argument(metavar="PATH…", help="Files and directories in a mount.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For scripts.")]

Flags = dict[str, str]
"""Settings of the command line as texts, by name; only those that were given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option that is a setting.

    Attributes:
        name: of the setting; the option has - for _.
        annotation: for typer.
        default: if it is not given: None of a text, False of a switch.
    """

    name: str
    annotation: object
    default: bool | None


def text_flag(
    name: str, metavar: str | None, what: str, panel: str | None = None, *, hidden: bool = False
) -> Flag:
    """A setting with a value, for instance `--region NAME`; its help is `what`."""
    option = typer.Option(metavar=metavar, help=what, rich_help_panel=panel, hidden=hidden)
    return Flag(name=name, annotation=Annotated[str | None, option], default=None)


def switch(name: str, what: str, panel: str | None = None, *letters: str, hidden: bool = False) -> Flag:
    """A setting that is `yes` if the option is given, which has no inverse."""
    spelling = f"--{name.replace('_', '-')}"
    option = typer.Option(spelling, *letters, help=what, rich_help_panel=panel, hidden=hidden)
    return Flag(name=name, annotation=Annotated[bool, option], default=False)


ENDPOINT_URL = text_flag("endpoint_url", "URL", "S3 service other than AWS.", "Store")
REGION = text_flag("region", "NAME", "Region of the bucket.", "Store")
PROFILE = text_flag("profile", "NAME", "Profile of the AWS configuration files.", "Store")
CACHE_DIR = text_flag(
    "cache_dir",
    "DIR",
    "Where the mount had its cache (default: ~/.cache/objfs; root: /var/cache/objfs).",
    "Store",
)
REACHING_A_STORE = (ENDPOINT_URL, REGION, PROFILE)
FINDING_A_MOUNT = (*REACHING_A_STORE, CACHE_DIR)


def with_flags(*flags: Flag) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The command's parameter `flags: Flags` becomes these options for typer."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @wraps(command)
        def run(**values: Any) -> int:  # noqa: ANN401  # whatever typer parsed
            given = {flag.name: _text(values.pop(flag.name)) for flag in flags}
            return command(**values, flags={name: text for name, text in given.items() if text is not None})

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            parameters += map(_parameter, flags) if parameter.name == "flags" else [parameter]
        shown: Any = run  # typer asks both
        shown.__signature__ = inspect.Signature(
            [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        )
        shown.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _parameter(flag: Flag) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(flag.name, kind, default=flag.default, annotation=flag.annotation)


def _text(value: str | bool | None) -> str | None:
    """A value as it would be in a file of settings, or None if it was not given."""
    if isinstance(value, bool):
        return "yes" if value else None
    return value
