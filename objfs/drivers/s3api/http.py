"""Signed requests over a pool of connections."""

from __future__ import annotations

import os
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError

from objfs.drivers.s3api.body import SteadyBody
from objfs.errors import UnavailableError, UsageError
from objfs.store.pace import receive_paced
from objfs.store.stalls import beat
from objfs.store.values import KIB, MIB, FileSlice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.credentials import ReadOnlyCredentials

    from objfs.drivers.s3api.chain import Chain
    from objfs.store.pace import Bucket, Traffic
    from objfs.store.urls import StoreOptions
    from objfs.store.values import Body

SEND_BLOCK_BYTES = 256 * KIB  # urllib3's 16 KiB costs a third of the processor time of an upload
_REFUSED = frozenset({400, 401, 403})  # also what outdated credentials get
SLOWEST_COPY_BYTES_S = 20 * MIB  # disks that read and write; the greatest copy takes 256 s then
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"  # bodies are covered by the signed checksum header instead


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the bucket, or to a key of it. Header names are lower-case.

    Attributes:
        copied_bytes: what the store has to copy by itself before it answers. MinIO is silent meanwhile, S3
            sends a space now and then.
    """

    method: str
    key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = b""
    copied_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, its body not decoded in any way."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def header(self, name: str) -> str | None:
        """A header, or None."""
        return self.headers.get(name)

    @property
    def etag(self) -> str:
        """The ETag without quotes, "" if there is none."""
        return self.headers.get("etag", "").removeprefix("W/").strip('"')


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bucket is served.

    Attributes:
        origin: scheme and host, `https://host:port`.
        base_path: what precedes a key's `/`: `/bucket`, or "" where the host names the bucket.
    """

    origin: str
    base_path: str

    def target(self, key: str, query: Mapping[str, str]) -> str:
        """Path and query of a key, encoded as signatures want it."""
        path = f"{self.base_path}/{quote(key, safe='/~')}" if key else self.base_path or "/"
        pairs = "&".join(f"{quote(name, safe='~')}={quote(query[name], safe='~')}" for name in sorted(query))
        return f"{path}?{pairs}" if pairs else path


class Connection(ABC):
    """Sends calls to one bucket. Thread-safe. Never retries, but with other credentials; never follows."""

    def __init__(self, place: Place, options: StoreOptions, chain: Chain) -> None:
        self._place = place
        self._chain = chain
        self._traffic = options.traffic
        self._read_timeout_s = options.read_timeout_s
        self._manager = urllib3.PoolManager(
            maxsize=options.max_connections,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(connect=options.connect_timeout_s, read=options.read_timeout_s),
            ssl_context=trusted(options) if place.origin.startswith("https:") else None,
            blocksize=SEND_BLOCK_BYTES,
        )

    @abstractmethod
    def sign(
        self, method: str, url: str, headers: dict[str, str], keys: ReadOnlyCredentials
    ) -> dict[str, str]:
        """All headers of a request, with the signature."""

    @property
    def origin(self) -> str:
        """Scheme and host, `https://host:port`."""
        return self._place.origin

    @property
    @abstractmethod
    def region(self) -> str:
        """The region that requests are signed for."""

    def send(self, call: Call) -> Answer:
        """Send a call and read the whole answer, whatever its status.

        Raises:
            UnavailableError: no answer, or only a piece of one.
            UnauthenticatedError: there are no credentials.
        """
        keys = self._chain.keys()
        answer = self._send(call, keys)
        if answer.status in _REFUSED and self._chain.renew(keys):
            return self._send(call, self._chain.keys())
        return answer

    def _send(self, call: Call, keys: ReadOnlyCredentials) -> Answer:
        place = self._place
        target = place.target(call.key, call.query)
        headers = {
            "host": urlsplit(place.origin).netloc,
            "x-amz-content-sha256": UNSIGNED_PAYLOAD,
            "accept-encoding": "identity",
            "user-agent": "objfs",
            **call.headers,
        }
        signed = self.sign(call.method, place.origin + target, headers, keys)
        pool = self._manager.connection_from_url(place.origin)
        try:
            read_timeout_s = self._read_timeout_s + call.copied_bytes / SLOWEST_COPY_BYTES_S
            return _exchange(pool, call, target, signed, self._traffic, read_timeout_s)
        except NameResolutionError as error:
            raise UnavailableError(
                f"The name of the store at {place.origin} cannot be resolved.", key=call.key
            ) from error
        except (HTTPError, OSError) as error:
            raise UnavailableError(
                f"The store at {place.origin} does not answer: {type(error).__name__}.", key=call.key
            ) from error

    def close(self) -> None:
        """Close idle connections."""
        self._manager.clear()


def _exchange(
    pool: urllib3.HTTPConnectionPool,
    call: Call,
    target: str,
    headers: dict[str, str],
    traffic: Traffic | None,
    read_timeout_s: float,
) -> Answer:
    """One request; a body from a file is read anew."""
    received = traffic.download if traffic is not None and traffic.download.rate_s is not None else None
    body = _beating(call.body).open() if isinstance(call.body, FileSlice) else call.body
    try:
        response = pool.urlopen(
            call.method,
            target,
            body=_paced(body, traffic),  # type: ignore[arg-type]  # urllib3 calls nothing but `read`
            headers=headers,
            timeout=urllib3.Timeout(connect=pool.timeout.connect_timeout, read=read_timeout_s),
            retries=False,
            redirect=False,
            assert_same_host=False,
            decode_content=False,
            preload_content=False,
        )
        beat()
        steady = SteadyBody(response, read_timeout_s)
        try:
            data = steady.read_all() if received is None else receive_paced(steady.read, received)
        except BaseException:
            response.close()  # what is left of the body must not be taken for the next answer
            raise
        finally:
            response.release_conn()
        return Answer(response.status, response.headers, data)
    finally:
        if not isinstance(body, bytes):
            body.close()


def _beating(body: FileSlice) -> FileSlice:
    """The same bytes; whoever looks sees the request move as the network takes them."""

    def tell(position: int) -> None:
        beat()
        if body.on_read is not None:
            body.on_read(position)

    return replace(body, on_read=tell)


def _paced(body: bytes | BinaryIO, traffic: Traffic | None) -> bytes | BinaryIO | _PacedReader:
    if traffic is None or traffic.upload.rate_s is None:
        return body
    if isinstance(body, bytes):
        traffic.upload.take(len(body))
        return body
    return _PacedReader(body, traffic.upload)


class _PacedReader:
    """A file that is read in small pieces, no faster than a bucket allows."""

    def __init__(self, file: BinaryIO, bucket: Bucket) -> None:
        self._file = file
        self._bucket = bucket

    def read(self, size: int = -1) -> bytes:
        """The next piece."""
        piece_bytes = self._bucket.piece_bytes
        data = self._file.read(piece_bytes if size < 0 else min(size, piece_bytes))
        self._bucket.take(len(data))
        return data

    def tell(self) -> int:
        """See `BinaryIO`."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `BinaryIO`."""
        return self._file.seek(offset, whence)


def trusted(options: StoreOptions) -> ssl.SSLContext:
    """The certificates that are trusted."""
    bundle = options.ca_bundle or os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise UsageError(f"The certificates in {bundle} cannot be read: {error.strerror}.") from error
