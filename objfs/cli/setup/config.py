"""`objfs config`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from objfs.cli.settings import gather, settings_for
from objfs.cli.show import print_json, show_count, show_text
from objfs.config import SETTING_NAMES, ConfigError, config_paths, mount_names, read_file, read_files
from objfs.errors import ObjfsError

_NO_STORE = "memory://"  # stands in where only settings are asked for


def show(name: str | None, *, as_json: bool) -> int:
    """Print each setting with the place it comes from, for one mount or for all."""
    layer = gather(name, {})
    url = layer.values.get("url", _NO_STORE)
    settings = settings_for(url, Path(layer.values.get("mountpoint", "/")), layer)
    places = [(key, layer.values[key]) for key in ("url", "mountpoint") if key in layer.values]
    texts = places + [(key, settings.text_of(key)) for key in sorted(SETTING_NAMES)]
    rows = [(key, text, layer.origins.get(key, "default")) for key, text in texts]
    if as_json:
        value = {key: {"value": text, "origin": origin} for key, text, origin in rows}
        print_json(value)
        return 0
    width = max(len(key) for key, _, _ in rows)
    for key, text, origin in rows:
        sys.stdout.write(f"{key:<{width}} = {show_text(text) or '-'}  ({origin})\n")
    if name is None and (names := mount_names(read_files(os.environ))):
        sys.stdout.write(f"Mounts: {', '.join(names)}; 'objfs config show NAME' shows one of them.\n")
    return 0


def check() -> int:
    """Check all configuration files, and each mount they describe; every mistake is one line."""
    mistakes: list[str] = []
    for path in config_paths(os.environ):
        if not os.path.lexists(path):
            sys.stdout.write(f"{path}: not there.\n")
            continue
        try:
            count = len(read_file(path).mounts)
            sys.stdout.write(f"{path}: {show_count(count, 'mount')}.\n")
        except ConfigError as error:
            mistakes += error.sentences
    mistakes += [] if mistakes else _check_mounts()
    for sentence in mistakes:
        sys.stderr.write(f"objfs: {show_text(sentence)}\n")
    return 2 if mistakes else 0


def _check_mounts() -> list[str]:
    mistakes = []
    for name in mount_names(read_files(os.environ)):
        layer = gather(name, {})
        try:
            absent = [key for key in ("url", "mountpoint") if not layer.values.get(key)]
            mistakes += [f"[mounts.{name}]: it has no {key}." for key in absent]
            settings_for(layer.values.get("url") or _NO_STORE, Path("/"), layer)
        except ObjfsError as error:
            mistakes.append(f"[mounts.{name}]: {error}")
    return mistakes
