"""Configuration files: `[defaults]`, and a section `[mounts.NAME]` for each mount.

Keys are the names of flags with `_` for `-`; `url` and `mountpoint` besides in `[mounts.NAME]`. The system's
file comes first, the user's outranks it key by key, and sections of a mount outrank `[defaults]`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any

from objfs.config.layers import Layer
from objfs.config.rules import RULE_FIELDS, build_rule
from objfs.config.settings import SETTING_NAMES, check_text
from objfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

SYSTEM_FILE = Path("/etc/objfs/config.toml")
_SECTION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # also the instance of a systemd unit
_PLACES = ("url", "mountpoint")
_NOT_IN_FILES = frozenset({"foreground"})
_RULES = "rules"
_NOT_READABLE_MODE = 0o022  # written by others: they could have mounted what they like


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """One file, checked.

    Attributes:
        defaults: `[defaults]`.
        mounts: `[mounts.NAME]`, by name, with `url` and `mountpoint` among their values.
    """

    path: Path
    defaults: Layer
    mounts: Mapping[str, Layer]


class ConfigError(UsageError):
    """A configuration file is wrong; `sentences` has one per mistake."""

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__(sentences[0])
        self.sentences = tuple(sentences)


def config_paths(environment: Mapping[str, str]) -> list[Path]:
    """The files that are read, if they are there; `OBJFS_CONFIG` names the only one instead."""
    if only := environment.get("OBJFS_CONFIG"):
        return [Path(only)]
    home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME') or '~'}/.config"
    return [SYSTEM_FILE, Path(home).expanduser() / "objfs" / "config.toml"]


def read_files(environment: Mapping[str, str]) -> list[ConfigFile]:
    """All configuration files that are there, the system's first.

    Raises:
        ConfigError: one is wrong.
    """
    return [read_file(path) for path in config_paths(environment) if os.path.lexists(path)]


def read_file(path: Path) -> ConfigFile:
    """One file.

    Raises:
        ConfigError: it cannot be read, is open to changes by others, or holds what is not known.
    """
    text = _read(path)
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: {_lower_first(str(error))}."]) from error
    lines = _Lines(path, text)
    checked = _check(value, lines)
    _check_rules(checked, lines)
    return ConfigFile(
        path=path,
        defaults=_layer(checked.get("defaults", {}), lines, ("defaults",)),
        mounts={
            name: _layer(section, lines, ("mounts", name))
            for name, section in checked.get("mounts", {}).items()
        },
    )


def defaults_layers(files: Sequence[ConfigFile]) -> list[Layer]:
    """`[defaults]` of all files."""
    return [file.defaults for file in files]


def mount_layers(files: Sequence[ConfigFile], name: str) -> list[Layer]:
    """All that the files say of one mount.

    Raises:
        UsageError: no file has it.
    """
    sections = [file.mounts[name] for file in files if name in file.mounts]
    if not sections:
        raise UsageError(_unknown_mount(files, name))
    return [*defaults_layers(files), *sections]


def mount_names(files: Sequence[ConfigFile]) -> list[str]:
    """The mounts that files describe."""
    return sorted({name for file in files for name in file.mounts})


def _unknown_mount(files: Sequence[ConfigFile], name: str) -> str:
    known = mount_names(files)
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean '{nearest[0]}'?" if nearest else ""
    places = " or ".join(str(path) for path in config_paths(os.environ))
    return (
        f"'{name}' is neither a URL nor a mount of the configuration{hint}; "
        f"write s3://bucket/prefix, or a section [mounts.{name}] in {places}."
    )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if stat.S_ISREG(facts.st_mode):
                _check_owner(path, facts)
            return file.read().decode()
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}."]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path} is no text in UTF-8."]) from error


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & _NOT_READABLE_MODE:
        raise ConfigError([f"{path} can be changed by other users, so it is not used; see 'ls -l {path}'."])


class _Lines:
    """Where keys stand in a file, as far as that can be told; for messages only."""

    _HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?")
    _ARRAY_HEADER = re.compile(r"\s*\[\[\s*([^\[\]]+?)\s*\]\]\s*(#.*)?")
    _KEY = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|[A-Za-z0-9_.-]+)\s*=")

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._places: dict[tuple[str, ...], int] = {}
        section: tuple[str, ...] = ()
        counts: dict[tuple[str, ...], int] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if header := self._ARRAY_HEADER.fullmatch(line):
                array = _split_key(header[1])
                section = (*array, str(counts.get(array, 0)))
                counts[array] = counts.get(array, 0) + 1
                self._places.setdefault(array, number)
                self._places.setdefault(section, number)
            elif header := self._HEADER.fullmatch(line):
                section = _split_key(header[1])
                for array, count in counts.items():  # a table of the last element
                    if section[: len(array)] == array:
                        section = (*array, str(count - 1), *section[len(array) :])
                self._places.setdefault(section, number)
            elif key := self._KEY.match(line):
                self._places.setdefault((*section, *_split_key(key[1])), number)

    def find(self, place: tuple[str, ...]) -> str:
        """`file, line 3`: of the key, or of what it is in."""
        while place and place not in self._places:
            place = place[:-1]
        return f"{self._path}, line {self._places[place]}" if place else str(self._path)


def _split_key(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", text))


def _check(value: Mapping[str, Any], lines: _Lines) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        model = _file_model().model_validate(value)
    except ValidationError as error:
        raise ConfigError([_explain(mistake, lines) for mistake in error.errors()]) from error
    checked: dict[str, Any] = model.model_dump(exclude_unset=True)
    for name in checked.get("mounts", {}):
        if not _SECTION_NAME.fullmatch(name):
            raise ConfigError([f"{lines.find(('mounts', name))}: '{name}' is no name for a mount."])
    return checked


def _file_model() -> type[BaseModel]:
    """What a file may hold; made on demand, since pydantic takes a while to load."""
    from pydantic import BeforeValidator, ConfigDict, create_model

    strict = ConfigDict(extra="forbid")

    def checked(name: str) -> Any:  # noqa: ANN401  # a type, as create_model wants it
        def check(value: object) -> str:
            text = _as_text(name, value)
            check_text(name, text)
            return text

        return Annotated[str, BeforeValidator(check)]

    def checked_field(name: str) -> Any:  # noqa: ANN401  # a type, as create_model wants it
        def check(value: object) -> object:
            RULE_FIELDS[name](value)
            return value

        return Annotated[object, BeforeValidator(check)]

    fields: dict[str, Any] = {name: (checked_field(name), None) for name in RULE_FIELDS}
    rule: Any = create_model("Rule", __config__=strict, **fields)
    rules: Any = GenericAlias(list, (rule,))
    names = SETTING_NAMES - _NOT_IN_FILES - {_RULES}
    settings: dict[str, Any] = {name: (checked(name), "") for name in names}
    settings[_RULES] = (rules, [])
    places: dict[str, Any] = {name: (str, "") for name in _PLACES}
    defaults: Any = create_model("Defaults", __config__=strict, **settings)
    mount: Any = create_model("Mount", __config__=strict, **settings, **places)
    mounts: Any = GenericAlias(dict, (str, mount))
    return create_model("File", __config__=strict, defaults=(defaults, defaults()), mounts=(mounts, {}))


def _check_rules(checked: Mapping[str, Any], lines: _Lines) -> None:
    """Check each rule as a whole: its fields are good by themselves."""
    sections: dict[tuple[str, ...], Any] = {("defaults",): checked.get("defaults", {})}
    sections |= {("mounts", name): section for name, section in checked.get("mounts", {}).items()}
    mistakes: list[str] = []
    for place, section in sections.items():
        for number, rule in enumerate(section.get(_RULES, [])):
            try:
                build_rule(rule)
            except ValueError as error:
                mistakes.append(f"{lines.find((*place, _RULES, str(number)))}: {error}.")
    if mistakes:
        raise ConfigError(mistakes)


def _as_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and name != "umask":
        return str(value)
    if isinstance(value, str):
        return value
    example = ', for instance "022"' if name == "umask" else ""
    raise ValueError(f"this is no value for it; write a text in quotes{example}")


def _explain(mistake: ErrorDetails, lines: _Lines) -> str:
    place = tuple(str(part) for part in mistake["loc"])
    where, key = lines.find(place), place[-1] if place else ""
    if mistake["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(key, _known_keys(place), n=1, cutoff=0.7)
        hint = f", did you mean '{nearest[0]}'?" if nearest else "."
        return f"{where}: '{key}' is not known{hint}"
    text = str(mistake.get("ctx", {}).get("error") or mistake["msg"])
    return f"{where}: {key}: {_lower_first(text).rstrip('.')}."


def _known_keys(place: tuple[str, ...]) -> list[str]:
    if len(place) == 1:
        return ["defaults", "mounts"]
    if _RULES in place[:-1]:
        return sorted(RULE_FIELDS)
    return sorted(SETTING_NAMES - _NOT_IN_FILES) + (list(_PLACES) if place[0] == "mounts" else [])


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _layer(values: Mapping[str, Any], lines: _Lines, section: tuple[str, ...]) -> Layer:
    values = {name: json.dumps(said) if name == _RULES else said for name, said in values.items()}
    return Layer(values=values, origins={name: lines.find((*section, name)) for name in values})
