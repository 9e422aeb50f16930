"""Settings as text, layer over layer, each with the place it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from objfs.config.rules import join_rules
from objfs.config.settings import settings_in_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Settings of one source.

    Attributes:
        values: text by name.
        origins: by name, where the text stands, for people; the flag's name where it is left out.
    """

    values: Mapping[str, str]
    origins: Mapping[str, str] = field(default_factory=dict)


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """What `OBJFS_…` variables say."""
    values = settings_in_environment(environment)
    return Layer(values=values, origins={name: f"OBJFS_{name.upper()}" for name in values})


def merge(layers: Iterable[Layer]) -> Layer:
    """One layer of all, later ones first in rank; rules of all layers, in this order."""
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, text in layer.values.items():
            origin = layer.origins.get(name, f"--{name.replace('_', '-')}")
            if name == "rules" and values.get(name):
                values[name] = join_rules(text, values[name])
                origins[name] = f"{origin}; {origins[name]}"
                continue
            values[name] = text
            origins[name] = origin
    return Layer(values=values, origins=origins)
