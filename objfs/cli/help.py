"""What the commands and options are called and do, for `--help` and the manual page alike."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import typer
import typer.main

if TYPE_CHECKING:
    from collections.abc import Iterator

Click: TypeAlias = (
    Any  # a command or parameter; click's classes are part of some releases of typer, not of others
)
MAX_COLUMNS, MIN_COLUMNS = 100, 40
_SCREEN_LINES = 40
_NAMES_COLUMNS = 26  # at most; fits `--credentials-file FILE`, and leaves 71 columns to the sentences
_COMPLETION_HELP = {  # shorter than typer's
    "install_completion": "Teach your shell to complete commands and options.",
    "show_completion": "Print what that adds to your shell.",
}
_SELDOM = "Seldom needed"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An option, argument or command, and what it does."""

    names: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows under a title; the title of arguments is empty."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandHelp:
    """All that is told of one command.

    Attributes:
        path: for instance `objfs cache show`.
        synopsis: its arguments, for instance `URL|NAME [MOUNTPOINT]`.
        text: what it does.
        notes: what comes after the options.
    """

    path: str
    synopsis: str
    text: str
    notes: str
    sections: tuple[Section, ...]


def plain_command(app: typer.Typer) -> Click:
    """The click command of an app, with help from here for it and for all below it."""
    command: Click = typer.main.get_command(app)
    _take_over(command)
    for param in command.params:
        param.help = _COMPLETION_HELP.get(param.name, param.help)
    return command


def _take_over(command: Click) -> None:
    """Typer frames its help in boxes, which take twice the lines and break pipes."""
    command.no_args_is_help = False  # typer's way to show it says "error" besides
    command.format_help = lambda ctx, formatter: formatter.write(render(describe(command, ctx.command_path)))
    for child in getattr(command, "commands", {}).values():
        _take_over(child)


def describe(command: Click, path: str, *, everything: bool = False) -> CommandHelp:
    """A click command -> its help; seldom used (hidden) options only with `everything`."""
    arguments: list[Row] = []
    options: dict[str, list[Row]] = {}
    for param in command.params:
        hidden = getattr(param, "hidden", False)
        if hidden and not everything:
            continue
        if param.param_type_name == "argument":
            arguments.append(Row(names=_argument(param), text=_sentence(getattr(param, "help", ""))))
        else:
            panel = _SELDOM if hidden else getattr(param, "rich_help_panel", None) or "Options"
            options.setdefault(panel, []).append(Row(names=_option(param), text=_sentence(param.help)))
    commands: dict[str, list[Row]] = {}
    for name, child in _children(command):
        panel = getattr(child, "rich_help_panel", None) or "Commands"
        inner = "|".join(inner_name for inner_name, _child in _children(child))
        commands.setdefault(panel, []).append(Row(names=f"{name} {inner}".rstrip(), text=_brief(child.help)))
    options.setdefault("Options", []).append(Row(names="-h, --help", text="Show this, and exit."))
    sections = [Section(title="", rows=tuple(arguments))] if arguments else []
    sections += [Section(title=title, rows=tuple(rows)) for title, rows in commands.items()]
    ordered = sorted(options.items(), key=lambda item: item[0] == "Options")
    sections += [Section(title=title, rows=tuple(rows)) for title, rows in ordered]
    words = [row.names for row in arguments]
    words += ["COMMAND …"] if commands else ["[OPTION…]"]
    return CommandHelp(
        path=path,
        synopsis=" ".join(words),
        text=_sentence(command.help),
        notes=_sentence(command.epilog),
        sections=tuple(sections),
    )


def walk(command: Click, path: str, *, everything: bool = False) -> Iterator[CommandHelp]:
    """The help of a command and of all below it, in the order of `--help`."""
    yield describe(command, path, everything=everything)
    for name, child in _children(command):
        yield from walk(child, f"{path} {name}", everything=everything)


def render(command: CommandHelp, columns: int | None = None, *, colour: bool | None = None) -> str:
    """The help for a terminal; `columns` and `colour` are those of this one unless given."""
    width = max(MIN_COLUMNS, min(MAX_COLUMNS, columns or shutil.get_terminal_size((MAX_COLUMNS, 40)).columns))
    bold = _wants_colour() if colour is None else colour
    head = textwrap.wrap(f"Usage: {command.path} {command.synopsis}", width, subsequent_indent="  ")
    blocks = [head + textwrap.wrap(command.text, width)]
    longest = max(len(row.names) for section in command.sections for row in section.rows)
    indent = min(longest, _NAMES_COLUMNS) + 4 if width >= 2 * _NAMES_COLUMNS else 6
    for section in command.sections:
        title = [f"{_BOLD}{section.title}{_PLAIN}" if bold else section.title] if section.title else []
        blocks.append(title + [line for row in section.rows for line in _row(row, indent, width)])
    blocks += [textwrap.wrap(command.notes, width)] if command.notes else []
    airy = "\n\n".join("\n".join(block) for block in blocks)
    return airy if airy.count("\n") < _SCREEN_LINES else airy.replace("\n\n", "\n")


def _row(row: Row, indent: int, width: int) -> list[str]:
    """`  names   text`; names that are too long have a line of their own."""
    texts = textwrap.wrap(row.text, width - indent) or [""]
    head = f"  {row.names}"
    if len(head) + 1 > indent:
        return [head, *(" " * indent + text for text in texts)]
    return [f"{head:<{indent}}{texts[0]}".rstrip(), *(" " * indent + text for text in texts[1:])]


def _children(command: Click) -> list[tuple[str, Click]]:
    """Commands of a group by their panel, each panel where its first command stands."""
    shown = [(name, child) for name, child in getattr(command, "commands", {}).items() if not child.hidden]
    panels = [getattr(child, "rich_help_panel", None) for _name, child in shown]
    return sorted(shown, key=lambda pair: panels.index(getattr(pair[1], "rich_help_panel", None)))


def _argument(param: Click) -> str:
    name = str(param.metavar or param.name.upper())
    return name if param.required or name.startswith("[") else f"[{name}]"


def _option(param: Click) -> str:
    names = ", ".join(sorted((*param.opts, *param.secondary_opts), key=len))
    if param.is_flag or param.count:
        return names
    return f"{names} {param.metavar or param.name.upper()}"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _brief(text: str | None) -> str:
    """What a list of commands has room for: the sentence up to its first semicolon."""
    head, semicolon, _rest = _sentence(text).partition(";")
    return f"{head}." if semicolon else head


def _wants_colour() -> bool:
    """Bold letters are for terminals, and not where `NO_COLOR` is set (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
