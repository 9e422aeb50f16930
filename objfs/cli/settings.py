"""Settings out of files, variables, `-o` options and flags, in this order of rank."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.config import (
    Layer,
    build_settings,
    defaults_layers,
    environment_layer,
    merge,
    mount_layers,
    mount_names,
    read_files,
    split_mount_options,
)
from objfs.config.rules import compress_rules
from objfs.errors import UsageError
from objfs.store.registry import known_schemes
from objfs.store.urls import StoreOptions, StoreUrl, s3_endpoint, store_identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from objfs.config import MountSettings

SYSTEMD_CREDENTIAL = "credentials"  # its name in LoadCredential=


def read_settings(
    target: str, mountpoint: Path | None, flags: Mapping[str, str], options: Sequence[str]
) -> MountSettings:
    """The settings of a command line.

    Args:
        target: a URL, or the name of a mount of the configuration.
        mountpoint: None to take that of the configuration.
        flags: outrank everything.
        options: `-o` options, which outrank variables and files.
    """
    layer = gather(None if "://" in target else target, flags, options)
    url, place = target, mountpoint
    if "://" not in target:
        url = _needed(layer, "url", target)
        place = mountpoint or Path(_needed(layer, "mountpoint", target)).expanduser()
    if place is None:
        raise UsageError("missing argument 'MOUNTPOINT'; see 'objfs mount --help'.")
    settings = settings_for(url, mounts.resolve_mountpoint(place), layer)
    _refuse_nesting(settings, StoreUrl.parse(url))
    return settings


def find_mountpoint(text: str) -> Path:
    """The mountpoint that a path, or the name of a mount of the configuration, stands for."""
    if "/" in text or os.path.lexists(text):
        return mounts.resolve_mountpoint(Path(text))
    files = read_files(os.environ)
    named = gather(text, {}).values.get("mountpoint") if text in mount_names(files) else None
    return mounts.resolve_mountpoint(Path(named or text).expanduser())


def gather(name: str | None, flags: Mapping[str, str], options: Sequence[str] = ()) -> Layer:
    """All settings of a mount of the configuration, or those of every mount, with their origins."""
    files = read_files(os.environ)
    from_files = defaults_layers(files) if name is None else mount_layers(files, name)
    split = split_mount_options(options)
    from_options = Layer(values=split, origins=dict.fromkeys(split, "-o"))
    return merge([*from_files, environment_layer(os.environ), from_options, Layer(values=flags)])


def settings_for(url: str, mountpoint: Path, layer: Layer) -> MountSettings:
    """Checked settings, with the endpoint and the identity of the store, and its credentials' file."""
    parsed = StoreUrl.parse(url)
    if parsed.scheme not in known_schemes():
        raise UsageError(
            f"{parsed.scheme}:// is not known; use {', '.join(f'{s}://' for s in known_schemes())}."
        )
    values = {name: text for name, text in layer.values.items() if name not in ("url", "mountpoint")}
    settings = build_settings(url, mountpoint, [values], layer.origins)
    options = StoreOptions(endpoint_url=settings.endpoint_url)
    endpoint_url = s3_endpoint(parsed, options) if parsed.scheme == "s3" else settings.endpoint_url
    return replace(
        settings,
        store_identity=store_identity(parsed, options),
        endpoint_url=endpoint_url,
        credentials_file=_credentials_file(settings.credentials_file),
    )


def _credentials_file(named: Path | None) -> Path | None:
    """The file of credentials that was named, or that systemd passes on (systemd.exec(5))."""
    if named is not None:
        check_credentials_file(named)
        return named
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    passed = Path(folder) / SYSTEMD_CREDENTIAL if folder else None
    return passed if passed is not None and passed.exists() else None


def check_credentials_file(path: Path) -> None:
    """Raise UsageError unless the file is there and for its owner alone."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    try:
        facts = path.stat()
    except OSError as error:
        raise UsageError(f"the credentials file {path} cannot be used: {error.strerror}.") from error
    if folder and path.is_relative_to(folder):
        return  # systemd shows it to the service alone, by an access control list that the mode does not tell
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o077:
        raise UsageError(
            f"the credentials file {path} is open to other users; run 'chmod 600 {path}' as its owner."
        )


def rules_of_flags(compress: Sequence[str]) -> str:
    """The rules, in JSON, that `--compress` stands for."""
    try:
        return compress_rules(compress)
    except ValueError as error:
        raise UsageError(f"--compress: {error}.") from error


def _needed(layer: Layer, key: str, name: str) -> str:
    if text := layer.values.get(key):
        return text
    raise UsageError(f'[mounts.{name}] of the configuration has no {key}; add {key} = "…" there.')


def _refuse_nesting(settings: MountSettings, store: StoreUrl) -> None:
    """A mount with its own store, cache or log below it waits for itself; a store would show its cache."""
    mountpoint = settings.mountpoint  # resolved already; an earlier mount there may hang, and is not touched
    cache = ("cache", _real(settings.cache_path, mountpoint))
    pairs = [(("mountpoint", mountpoint), cache)]
    if store.scheme == "file":
        folder = ("store", _real(Path(store.bucket), mountpoint))
        pairs += [(("mountpoint", mountpoint), folder), (cache, folder)]
    for (name, path), (other_name, other_path) in pairs:
        if path.is_relative_to(other_path) or other_path.is_relative_to(path):
            raise UsageError(
                f"the {name} {path} and the {other_name} {other_path} contain one another; separate them."
            )
    if _real(settings.log_path, mountpoint).is_relative_to(mountpoint):
        raise UsageError(f"the log {settings.log_path} is below the mountpoint; keep it elsewhere.")


def _real(path: Path, mountpoint: Path) -> Path:
    return path if path.is_relative_to(mountpoint) else Path(os.path.realpath(path))
