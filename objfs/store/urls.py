"""URLs that name stores, and the options that go with them.

| form | meaning |
|---|---|
| `s3://bucket/prefix` | S3 at AWS, or at `?endpoint=`, `StoreOptions.endpoint_url`, `AWS_ENDPOINT_URL[_S3]` |
| `minio://host:9000/bucket/prefix` | MinIO; `?tls=0` or `?tls=1`, by default 1 except for loopback hosts |
| `file:///path` | a folder; `?fsync=0` gives speed for durability |
| `memory://` | a fresh store in this process |

Prefixes are percent-decoded, and end in `/` once parsed. Credentials have no place in a URL.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, unquote

from objfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.store.pace import Traffic

_FORM = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<netloc>[^/?]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL
)
_HOST_SCHEMES = frozenset({"minio"})  # the first part names a host, and the bucket follows
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")  # botocore's names, in its order


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How to reach a store; what a driver has no use for it ignores.

    Attributes:
        endpoint_url: S3 endpoint other than AWS.
        profile: profile of the AWS configuration files.
        credentials_file: file of credentials in AWS's format; given, the environment's do not count.
        ca_bundle: file of certificates to trust in place of the system's.
        connect_timeout_s: longest wait for a connection.
        read_timeout_s: longest silence of a connection.
        max_connections: connections kept open to the store.
        traffic: rates that bodies are kept to, by drivers whose capabilities say `paces_bodies`.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials_file: str | None = None
    ca_bundle: str | None = None
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    max_connections: int = 64
    traffic: Traffic | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """A parsed store URL.

    Attributes:
        bucket: bucket name; for `file` the folder's absolute path.
        prefix: key prefix, "" or ending in `/`.
        host: `host[:port]` where the URL names one.
        query: the options after `?`, sorted.
    """

    scheme: str
    bucket: str
    prefix: str = ""
    host: str = ""
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URL.

        Raises:
            UsageError: it is no store URL, or it carries credentials. The message never quotes those.
        """
        form = _FORM.fullmatch(text)
        if form is None:
            raise UsageError("Not a store URL: it should look like s3://bucket/prefix or file:///path.")
        scheme, netloc, path = form["scheme"], form["netloc"], unquote(form["path"])
        if "@" in netloc:
            raise UsageError(
                "A store URL must not contain credentials; use the AWS environment, profile or files."
            )
        query = tuple(sorted(parse_qsl(form["query"] or "", keep_blank_values=True)))
        if scheme == "file":
            return cls(scheme=scheme, bucket=_folder(netloc, path), query=query)
        host = ""
        if scheme in _HOST_SCHEMES:
            host, (netloc, _, path) = netloc.lower(), path.removeprefix("/").partition("/")
            if not host:
                raise UsageError(f"{scheme}:// needs a host: {scheme}://host:9000/bucket/prefix.")
        if not netloc and scheme != "memory":
            raise UsageError(f"The {scheme}:// URL names no bucket.")
        return cls(scheme=scheme, bucket=netloc, prefix=_prefix(path), host=host, query=query)

    @property
    def canonical(self) -> str:
        """The one spelling of what the URL names, without options of transport."""
        if self.scheme == "file":
            return f"file://{self.bucket}"
        return f"{self.scheme}://{self.host}{'/' if self.host else ''}{self.bucket}/{self.prefix}"

    def option(self, name: str) -> str | None:
        """The value of a query option, or None."""
        return dict(self.query).get(name)

    def flag(self, name: str, *, default: bool) -> bool:
        """A query option that is 0 or 1."""
        value = self.option(name)
        if value not in (None, "0", "1"):
            raise UsageError(f"?{name}= of a {self.scheme}:// URL must be 0 or 1.")
        return default if value is None else value == "1"

    def allow_options(self, *names: str) -> None:
        """Refuse any query option but these."""
        for name, _ in self.query:
            if name not in names:
                known = ", ".join(names) or "none"
                raise UsageError(f"A {self.scheme}:// URL has no option ?{name}= (known: {known}).")

    @property
    def tls(self) -> bool:
        """Whether to speak TLS to `host`: `?tls=`, by default yes but for loopback hosts."""
        return self.flag("tls", default=not _is_loopback(self.host))


def s3_endpoint(url: StoreUrl, options: StoreOptions, environ: Mapping[str, str] = os.environ) -> str | None:
    """The endpoint of an `s3` URL, or None for AWS; what AWS configuration files say does not count."""
    named = (url.option("endpoint"), options.endpoint_url, *map(environ.get, _ENDPOINT_VARIABLES))
    return next((endpoint.rstrip("/") for endpoint in named if endpoint), None)


def store_identity(url: StoreUrl, options: StoreOptions, environ: Mapping[str, str] = os.environ) -> str:
    """What a cache directory is bound to: equal only for the same objects at the same place."""
    endpoint = s3_endpoint(url, options, environ) if url.scheme == "s3" else None
    return url.canonical if endpoint is None else f"{url.canonical} at {endpoint.lower()}"


def _folder(netloc: str, path: str) -> str:
    if netloc not in ("", "localhost") or not path.startswith("/"):
        raise UsageError("A file:// URL needs an absolute path: file:///path.")
    return os.path.normpath("/" + path.strip("/"))


def _prefix(path: str) -> str:
    parts = path.strip("/").split("/")
    if parts == [""]:
        return ""
    if any(part in ("", ".", "..") for part in parts):
        raise UsageError("The prefix of a store URL must not have empty, . or .. parts.")
    return "/".join(parts) + "/"


def _is_loopback(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
