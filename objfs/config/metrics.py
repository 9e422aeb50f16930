"""Where the metrics of a mount can be had, as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

_PORT = re.compile(r"(?:(?P<host>[^\[\]:]+)|\[(?P<host6>[^\[\]]+)\]):(?P<port>[0-9]{1,5})")
_EXAMPLES = (
    "write for instance 127.0.0.1:9400, unix:/run/objfs/photos.metrics or textfile:/var/lib/…/photos.prom"
)


class MetricsKind(StrEnum):
    """The ways to have metrics."""

    HTTP = "http"
    UNIX = "unix"
    TEXTFILE = "textfile"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPlace:
    """A host and port, or a path."""

    kind: MetricsKind
    host: str = ""
    port: int = 0
    path: str = ""


def parse_metrics(text: str) -> MetricsPlace:
    """`127.0.0.1:9400`, `[::1]:9400`, `unix:/path`, `textfile:/path.prom`; ValueError for anything else."""
    kind, _, path = text.partition(":")
    if kind in (MetricsKind.UNIX, MetricsKind.TEXTFILE):
        if not path.startswith("/") or not path.isprintable() or path.endswith("/"):
            raise ValueError(f"'{path}' is no absolute path of a file; {_EXAMPLES}")
        if kind == MetricsKind.TEXTFILE and Path(path).suffix != ".prom":
            raise ValueError(f"'{path}' does not end in .prom, and node_exporter reads nothing else")
        return MetricsPlace(kind=MetricsKind(kind), path=path)
    match = _PORT.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ValueError(f"'{text}' is no place for metrics; {_EXAMPLES}")
    host = (match["host"] or match["host6"]).replace("localhost", "127.0.0.1")
    if not _is_loopback(host):
        raise ValueError(
            f"'{host}' is not an address of this machine alone, and metrics ask nobody for a password; "
            "use 127.0.0.1, and an agent or proxy that does"
        )
    return MetricsPlace(kind=MetricsKind.HTTP, host=host, port=int(match["port"]))


def check_metrics(text: str) -> str:
    """The text, if it names a place."""
    parse_metrics(text)
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
