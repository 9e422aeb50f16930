"""What `flush` and `rescue` act on: a mount that answers, or the cache that a mount left behind."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.cli.settings import gather, settings_for
from objfs.config import Layer, default_cache_base, merge, mount_names, read_files, read_record
from objfs.control import protocol
from objfs.control.client import NoAnswerError, connect, sockets_in
from objfs.control.leftovers import find_by_mountpoint, find_leftovers
from objfs.errors import MountError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.config import MountRecord, MountSettings
    from objfs.control.values import MountStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A mount that answers at a control socket."""

    socket: Path
    mountpoint: Path
    cache_path: Path

    @property
    def name(self) -> str:
        """For people."""
        return str(self.mountpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A cache without a mount."""

    settings: MountSettings

    @property
    def name(self) -> str:
        """For people."""
        return self.settings.url


Target = Mounted | Left


def find_target(text: str, flags: Mapping[str, str]) -> Target:
    """The mount or cache that a URL, a mountpoint, or the name of a configured mount stands for.

    Raises:
        MountError: there is neither.
        UsageError: the URL or a flag is wrong.
    """
    if not text:
        raise UsageError("An empty word names no mount; is a variable unset?")
    section = text if "/" not in text and text in mount_names(read_files(os.environ)) else None
    if section or "://" in text:
        layer = gather(section, flags)
        settings = settings_for(layer.values.get("url", text), Path("/"), layer)
        record = read_record(settings.cache_path)
        mounted = _mounted_at(record.mountpoint) if record is not None else None
        if mounted is not None and mounted.cache_path == settings.cache_path:
            return mounted
        return Left(settings=settings)
    mountpoint = mounts.resolve_mountpoint(Path(text))
    mounted = _mounted_at(mountpoint)
    if mounted is not None:
        return mounted
    base = cache_base(flags)
    record = find_by_mountpoint(base, mountpoint)
    if record is None:
        what = "has lost its objfs" if mounts.is_dead(mountpoint) else "is not mounted by objfs"
        raise MountError(
            f"{mountpoint} {what}, and no cache below {base} was mounted there last; "
            "name the store by its URL, or the cache with --cache-dir."
        )
    return Left(settings=_settings_of(record, flags))


def settings_of(target: Target, flags: Mapping[str, str]) -> MountSettings:
    """The settings that reach the store of a target, and its cache.

    Raises:
        MountError: the record of the mount is gone.
    """
    if isinstance(target, Left):
        return target.settings
    record = read_record(target.cache_path)
    if record is None:
        raise MountError(f"the cache {target.cache_path} does not tell how it is mounted.")
    return _settings_of(record, flags)


def find_all(flags: Mapping[str, str]) -> list[Target]:
    """All mounts of this user, and all caches of the others in which something waits."""
    mounted: list[Target] = []
    in_use: set[Path] = set()
    for socket in sockets_in(protocol.socket_folder()):
        with suppress(NoAnswerError), connect(socket) as client:
            found = _as_target(socket, client.status())
            mounted.append(found)
            in_use.add(found.cache_path)
    left = [record for record in find_leftovers(cache_base(flags)) if record.cache_path not in in_use]
    return [*mounted, *(Left(settings=_settings_of(record, flags)) for record in left)]


def _mounted_at(mountpoint: Path) -> Mounted | None:
    socket = protocol.socket_of(mountpoint)
    with suppress(NoAnswerError), connect(socket) as client:
        return _as_target(socket, client.status())
    return None


def _as_target(socket: Path, status: MountStatus) -> Mounted:
    return Mounted(socket=socket, mountpoint=Path(status.mountpoint), cache_path=Path(status.cache.path))


def cache_base(flags: Mapping[str, str]) -> Path:
    """The folder of cache folders."""
    named = gather(None, flags).values.get("cache_dir")
    return Path(named).expanduser().absolute() if named else default_cache_base()


def _settings_of(record: MountRecord, flags: Mapping[str, str]) -> MountSettings:
    """The settings that reach the same store and the same cache again.

    Raises:
        UsageError: flags, variables or files name another endpoint by now.
    """
    general = gather(None, {})
    values = {name: text for name, text in general.values.items() if name != "rules"}  # the record has them
    layers = [replace(general, values=values), Layer(values=record.options), Layer(values=flags)]
    settings = settings_for(record.url, record.mountpoint, merge(layers))
    if settings.store_identity != record.store_identity:
        raise UsageError(
            f"the cache {record.cache_path} belongs to {record.store_identity}, but now "
            f"{settings.store_identity} is named; give the --endpoint-url that it was mounted with."
        )
    return replace(settings, cache_dir=record.cache_path.parent)
