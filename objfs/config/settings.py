"""Settings of one mount: frozen, with units in their names, merged once from flags and `-o` options."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from objfs.config.metrics import check_metrics
from objfs.config.quantities import (
    parse_duration,
    parse_rate,
    parse_request_rate,
    parse_size,
    show_rate,
    show_size,
)
from objfs.config.rules import Rule, dump_rules, parse_rules
from objfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

WriteMode = Literal["back", "through"]
FsyncMode = Literal["local", "remote"]
Number = TypeVar("Number", int, float)
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"0", "no", "false", "off"})

# Options of fstab and mount(8) that say nothing to a file system of this kind, or what it does anyway.
_IGNORED_OPTIONS = frozenset(
    re.findall(
        r"\w+",
        "_netdev nofail noauto auto user nouser users owner group defaults async rw atime noatime relatime"
        " norelatime strictatime nostrictatime diratime nodiratime lazytime nolazytime",
    )
)
# Options the kernel enforces; `suid` and `dev` are only for root, as with any other file system.
_KERNEL_OPTIONS = frozenset(["exec", "noexec", "suid", "nosuid", "dev", "nodev"])


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSettings:
    """Everything `objfs mount` needs to know.

    Attributes:
        url: the store, for instance `s3://bucket/prefix`.
        store_identity: what the cache belongs to: the URL with the endpoint, however named.
        endpoint_url: base URL of the S3 service, or None for the SDK's own choice.
        credentials_file: file of credentials in AWS's format, for its owner alone; outranks the environment.
        cache_dir: folder that holds one cache folder per store; None for the user's default.
        cache_size_bytes: most bytes of clean blocks kept on the local disk.
        memory_limit_bytes: budget of all read buffers.
        write_mode: close() returns once the file is safe on local disk (`back`) or in the store (`through`).
        fsync: fsync() returns once the file survives power loss here (`local`) or is in the store (`remote`).
        uid: owner shown for objects that record none; None for the mounting user. `gid` likewise.
        umask: permission bits taken away from objects that record no mode.
        metadata_ttl_s: how long names and attributes may be answered without asking the store.
        log_format: lines of text, or one JSON object per line.
        metrics: where Prometheus metrics can be had, see `objfs.config.metrics`; None: nowhere.
        nonempty: mount over a folder that has content.
        kernel_options: `noexec`, `suid` and the like, handed to the kernel.
        drain_timeout_s: how long uploads go on after the mount was taken away.
        store_timeout_s: deadline of an operation that needs the store.
        max_requests: most requests under way at once.
        upload_delay_s: how long a closed file rests before its upload; a rename meanwhile is free.
        limit_upload_bytes_s, limit_download_bytes_s, limit_requests_s: most per second, None without a limit.
        rules: how files are stored; the first that fits decides.
        origin_metadata: objects tell the host and user that uploaded them.
        decode: compressed objects of other writers are shown decompressed, where that can be done.
        sha256: objects carry the SHA-256 of the file's bytes.
    """

    url: str
    mountpoint: Path
    store_identity: str
    foreground: bool = False
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials_file: Path | None = None
    cache_dir: Path | None = None
    cache_size_bytes: int = 10 * 1024**3
    memory_limit_bytes: int = 256 * 1024**2
    write_mode: WriteMode = "back"
    fsync: FsyncMode = "local"
    read_only: bool = False
    xattrs: bool = False
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int = 0o022
    metadata_ttl_s: float = 5.0
    log_file: Path | None = None
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    metrics: str | None = None
    nonempty: bool = False
    kernel_options: tuple[str, ...] = ()
    drain_timeout_s: float = 30.0
    store_timeout_s: float = 60.0
    max_requests: int = 32
    upload_delay_s: float = 1.0
    limit_upload_bytes_s: int | None = None
    limit_download_bytes_s: int | None = None
    limit_requests_s: int | None = None
    rules: tuple[Rule, ...] = ()
    origin_metadata: bool = False
    sha256: bool = False
    decode: bool = False

    @property
    def mount_id(self) -> str:
        """Name of this store on the local disk: readable, and different for each identity."""
        digest = hashlib.sha256(self.store_identity.encode()).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.url).strip("-")[:40].strip("-")
        return f"{readable}-{digest}"

    @property
    def cache_path(self) -> Path:
        """Folder of this store's blocks, staged files and journal."""
        return (self.cache_dir or default_cache_base()) / self.mount_id

    def text_of(self, name: str) -> str:
        """The value of a setting as people write it; "" where there is none."""
        value = getattr(self, _PARSERS[name][0])
        if isinstance(value, bool):
            return "yes" if value else "no"
        if name == "umask":
            return f"{value:03o}"
        if name.startswith("limit_"):
            return show_rate(value, is_size=name != "limit_requests")
        if _PARSERS[name][0].endswith("_bytes"):
            return show_size(value)
        if _PARSERS[name][0].endswith("_s"):
            return f"{value:g}s"
        if name == "rules":
            return dump_rules(value)
        if isinstance(value, tuple):
            return " ".join(value)
        return "" if value is None else str(value)

    @property
    def log_path(self) -> Path:
        """File the log goes to."""
        return self.log_file or _default_log_base() / f"{self.mount_id}.log"


def split_mount_options(texts: Iterable[str]) -> dict[str, str]:
    """`["ro,uid=5", "_netdev"]` -> `{"read_only": "yes", "uid": "5"}`, with generic mount options sorted out.

    Raises:
        UsageError: an option is not known.
    """
    values: dict[str, str] = {}
    kernel: list[str] = []
    for option in (part.strip() for text in texts for part in text.split(",")):
        name, _, value = option.partition("=")
        key = name.replace("-", "_")
        if name == "rw":
            values["read_only"] = "no"
        elif name == "ro":
            values["read_only"] = "yes"
        elif name in _KERNEL_OPTIONS:
            kernel.append(name)
        elif key in _PARSERS and key != "rules":
            values[key] = value if "=" in option else "yes"
        elif name and name not in _IGNORED_OPTIONS and not name.startswith(("x-", "comment")):
            raise UsageError(f"mount option '{name}' is not known{_nearest(name)}; see 'objfs mount --help'.")
    if kernel:
        values["kernel_options"] = " ".join(kernel)
    return values


def settings_in_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`OBJFS_CACHE_SIZE=1G` and the like; other variables are somebody else's."""
    variables = {name: f"OBJFS_{name.upper()}" for name in _PARSERS}
    return {name: environment[variable] for name, variable in variables.items() if environment.get(variable)}


def build_settings(
    url: str,
    mountpoint: Path,
    layers: Iterable[Mapping[str, str]],
    origins: Mapping[str, str] | None = None,
) -> MountSettings:
    """Merge layers of `name -> text`, later ones first in rank, into checked settings.

    Args:
        url: the store.
        mountpoint: where it is mounted.
        layers: texts by name.
        origins: where a text stands, for errors; its flag where that is left out.

    Raises:
        UsageError: a value does not parse or is out of its range.
    """
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(layer)
    values = dict(_parse(name, text, (origins or {}).get(name)) for name, text in merged.items())
    return MountSettings(url=url, mountpoint=mountpoint, store_identity=url, **values)


def check_text(name: str, text: str) -> None:
    """Raise ValueError unless this is a value for the setting."""
    _PARSERS[name][1](text)


def _parse(name: str, text: str, origin: str | None) -> tuple[str, Any]:
    field_name, parser = _PARSERS[name]
    flag = f"--{name.replace('_', '-')}"
    try:
        return field_name, parser(text)
    except ValueError as error:
        where = flag if origin in (None, flag) else f"{origin}: {name}"
        raise UsageError(f"{where}: {error}.") from error


def _nearest(name: str) -> str:
    known = sorted({*_PARSERS, "ro", *_IGNORED_OPTIONS, *_KERNEL_OPTIONS})
    found = difflib.get_close_matches(name, known, n=1)
    return f", did you mean '{found[0]}'?" if found else ""


def _switch(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(f"'{text}' is neither yes nor no")


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("a value is needed")
    return text


def _path(text: str) -> Path:
    return Path(_text(text)).expanduser().absolute()


def _octal(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise ValueError(f"'{text}' is no umask; write for instance 022")
    return int(text, 8)


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise ValueError(f"'{text}' is no number")
    return int(text)


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", text):
        raise ValueError("write for instance https://minio.example.org:9000, without user name or password")
    return text.rstrip("/")


def _choice(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() in known:
            return text.lower()
        raise ValueError(f"'{text}' is not one of {', '.join(known)}")

    return parse


def _at_least(least: Number, parser: Callable[[str], Number], shown: str) -> Callable[[str], Number]:
    def parse(text: str) -> Number:
        value = parser(text)
        if value < least:
            raise ValueError(f"'{text}' is too little; the least is {shown}")
        return value

    return parse


def default_cache_base() -> Path:
    """Where cache folders are unless `--cache-dir` says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/cache/objfs")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "objfs"


def _default_log_base() -> Path:
    if os.geteuid() == 0:
        return Path("/var/log/objfs")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "objfs"


# Name of a flag and `-o` option (with `_` for `-`) -> the field it sets, and how its text is read.
_PARSERS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "foreground": ("foreground", _switch),
    "endpoint_url": ("endpoint_url", _endpoint),
    "region": ("region", _text),
    "profile": ("profile", _text),
    "credentials_file": ("credentials_file", _path),
    "cache_dir": ("cache_dir", _path),
    "cache_size": ("cache_size_bytes", _at_least(1024**2, parse_size, "1MiB")),
    "memory_limit": ("memory_limit_bytes", _at_least(16 * 1024**2, parse_size, "16MiB")),
    "write_mode": ("write_mode", _choice("back", "through")),
    "fsync": ("fsync", _choice("local", "remote")),
    "read_only": ("read_only", _switch),
    "xattrs": ("xattrs", _switch),
    "allow_other": ("allow_other", _switch),
    "uid": ("uid", _number),
    "gid": ("gid", _number),
    "umask": ("umask", _octal),
    "metadata_ttl": ("metadata_ttl_s", parse_duration),
    "log_file": ("log_file", _path),
    "log_level": ("log_level", _choice("debug", "info", "warning", "error")),
    "log_format": ("log_format", _choice("text", "json")),
    "metrics": ("metrics", check_metrics),
    "nonempty": ("nonempty", _switch),
    "kernel_options": ("kernel_options", lambda text: tuple(text.split())),
    "drain_timeout": ("drain_timeout_s", parse_duration),
    "store_timeout": ("store_timeout_s", _at_least(0.1, parse_duration, "100ms")),
    "max_requests": ("max_requests", _at_least(1, _number, "1")),
    "upload_delay": ("upload_delay_s", parse_duration),
    "rules": ("rules", parse_rules),
    "origin_metadata": ("origin_metadata", _switch),
    "sha256": ("sha256", _switch),
    "decode": ("decode", _switch),
    "limit_upload": ("limit_upload_bytes_s", parse_rate),
    "limit_download": ("limit_download_bytes_s", parse_rate),
    "limit_requests": ("limit_requests_s", parse_request_rate),
}
SETTING_NAMES = frozenset(_PARSERS)
