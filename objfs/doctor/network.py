"""The way to a store: name, connection, certificate, and the store's clock."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from objfs.doctor.findings import Finding, failed, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT_S = 5.0
SKEW_REFUSED_S = 900.0  # S3 refuses requests that are further off (S3 API, "RequestTimeTooSkewed")
SKEW_DOUBTFUL_S = 30.0
CERTIFICATE_SOON_S = 14 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Scheme, host and port of a store."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Of `https://host:port`."""
        parts = urlsplit(text)
        usual = 443 if parts.scheme == "https" else 80
        return cls(scheme=parts.scheme, host=parts.hostname or "", port=parts.port or usual)

    @property
    def is_local(self) -> bool:
        """Whether nobody can listen on the way."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def examine_network(origin: Origin, context: ssl.SSLContext | None) -> Iterator[Finding]:
    """Name, connection and certificate; nothing follows what failed.

    Args:
        origin: of the store.
        context: with the certificates that objfs trusts; None for plain http.
    """
    finding = check_dns(origin)
    yield finding
    if finding.result == "failed":
        return
    finding = check_connection(origin)
    yield finding
    if finding.result == "failed":
        return
    yield check_plain(origin) if context is None else check_tls(origin, context)


def check_dns(origin: Origin) -> Finding:
    """The host has an address."""
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError as error:
        return failed(
            "dns",
            f"{origin.host} has no address ({error.strerror or error})",
            "check the spelling of the host in URL or --endpoint-url, and /etc/resolv.conf",
        )
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if addresses == [origin.host]:
        return ok("dns", f"{origin.host} is an address")
    return ok(
        "dns",
        f"{origin.host} is {addresses[0]}" + (f" and {len(addresses) - 1} more" if addresses[1:] else ""),
    )


def check_connection(origin: Origin) -> Finding:
    """Somebody listens."""
    started_s = time.monotonic()
    where = f"{origin.host}:{origin.port}"
    try:
        socket.create_connection((origin.host, origin.port), timeout=CONNECT_TIMEOUT_S).close()
    except TimeoutError:
        return failed(
            "connection",
            f"{where} does not answer within {CONNECT_TIMEOUT_S:.0f} s",
            "check network and firewall; objfs connects directly, without a proxy",
        )
    except OSError as error:
        return failed(
            "connection",
            f"{where} cannot be reached ({error.strerror or error})",
            "check host and port in URL or --endpoint-url, and whether the server runs",
        )
    return ok("connection", f"{where} answers in {(time.monotonic() - started_s) * 1000:.0f} ms")


def check_plain(origin: Origin) -> Finding:
    """No TLS: fine on this machine only."""
    if origin.is_local:
        return ok("tls", "plain http, within this machine")
    return warning(
        "tls",
        "plain http: names and data can be read and changed on the way",
        "use https, if the store speaks it",
    )


def check_tls(origin: Origin, context: ssl.SSLContext) -> Finding:
    """A certificate for this host, that is trusted and good for a while."""
    try:
        with (
            socket.create_connection((origin.host, origin.port), timeout=CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=origin.host) as secure,
        ):
            certificate: dict[str, Any] = secure.getpeercert() or {}
            version = secure.version()
    except ssl.SSLCertVerificationError as error:
        return failed(
            "tls",
            f"the certificate of {origin.host} is not trusted ({error.verify_message})",
            "name the file of its authority in AWS_CA_BUNDLE, or give the server a certificate for this host",
        )
    except (ssl.SSLError, OSError) as error:
        return failed(
            "tls",
            f"no secure connection to {origin.host}:{origin.port} ({_reason(error)})",
            "check whether the server speaks https there; plain http is http:// in --endpoint-url, ?tls=0 in minio://",
        )
    left_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time() if certificate else 0.0
    if 0 < left_s < CERTIFICATE_SOON_S:
        return warning("tls", f"the certificate ends in {left_s / 86400:.0f} days", "have it renewed")
    return ok("tls", f"{version}, certificate good for {left_s / 86400:.0f} days")


def check_clock(date: str | None) -> Finding:
    """The store's clock beside ours, by the Date header of an answer that has just come."""
    try:
        told_s = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return skipped("clock", "the store does not tell its time")
    skew_s = time.time() - told_s
    side = "ahead of" if skew_s > 0 else "behind"
    text = f"this machine is {abs(skew_s):.0f} s {side} the store"
    advice = "set the clock, for instance with systemd-timesyncd or chrony"
    if abs(skew_s) >= SKEW_REFUSED_S:
        return failed("clock", f"{text}: requests are refused", advice)
    if abs(skew_s) >= SKEW_DOUBTFUL_S:
        return warning("clock", text, advice)
    return ok("clock", "the store's is the same, within a few seconds")


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
