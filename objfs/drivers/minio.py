"""MinIO by minio-py: its endpoints and signatures, and listings that tell metadata.

Credentials come from the AWS chain (environment, profile, files). URL options: `tls`, `region`, `checksum`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from minio.credentials.credentials import Credentials
from minio.helpers import BaseURL, check_bucket_name
from minio.signer import sign_v4_s3
from minio.time import to_amz_date

from objfs.drivers.s3api.chain import Chain
from objfs.drivers.s3api.checksums import choose_checksum
from objfs.drivers.s3api.http import UNSIGNED_PAYLOAD, Connection, Place
from objfs.drivers.s3api.store import SAFE_METADATA_BYTES, S3Store
from objfs.errors import InvalidRequestError, UsageError
from objfs.store.values import Capabilities

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

    from objfs.store.urls import StoreOptions, StoreUrl

DEFAULT_REGION = "us-east-1"  # MinIO's own default
MAX_PART_BYTES = 255  # each part of a key is a file name on MinIO's disks
_MARKER_SUFFIX = "__XLDIR__"  # of the object `d/` there, whose place a file of that name would take
CAPABILITIES = Capabilities(  # conditions: unknown until probed
    listing_metadata=True, file_over_prefix=False, paces_bodies=True, max_metadata_bytes=SAFE_METADATA_BYTES
)


def open_driver(url: StoreUrl, options: StoreOptions) -> S3Store:
    """The bucket of a `minio` URL."""
    url.allow_options("tls", "region", "checksum")
    region = url.option("region") or options.region or DEFAULT_REGION
    try:
        check_bucket_name(url.bucket)
        base = BaseURL(f"{'https' if url.tls else 'http'}://{url.host}", region)
    except ValueError as error:
        raise UsageError(f"Not a MinIO URL: {error}.") from error
    target = base.build(method="GET", region=region, bucket_name=url.bucket)
    place = Place(origin=f"{target.scheme}://{target.netloc}", base_path=target.path.rstrip("/"))
    return S3Store(
        MinioConnection(place, options, region=region, chain=Chain(options)),
        url.bucket,
        capabilities=CAPABILITIES,
        checksum=choose_checksum(url.option("checksum") or "crc64nvme", announce=False),
        refuse_key=refuse_key,
    )


class MinioConnection(Connection):
    """Signs with minio-py. Its `Minio.get_object` and its kin are not used: see `s3api`."""

    def __init__(self, place: Place, options: StoreOptions, *, region: str, chain: Chain) -> None:
        super().__init__(place, options, chain)
        self._region = region

    @property
    def region(self) -> str:
        """See `Connection`."""
        return self._region

    def sign(
        self, method: str, url: str, headers: dict[str, str], keys: ReadOnlyCredentials
    ) -> dict[str, str]:
        """See `Connection`."""
        credentials = Credentials(keys.access_key or "", keys.secret_key or "", keys.token)
        date = datetime.now(UTC)
        unsigned: dict[str, str | list[str] | tuple[str]] = {**headers, "x-amz-date": to_amz_date(date)}
        if credentials.session_token:
            unsigned["x-amz-security-token"] = credentials.session_token
        signed = sign_v4_s3(
            method=method,
            url=urlsplit(url),
            region=self._region,
            headers=unsigned,
            credentials=credentials,
            content_sha256=UNSIGNED_PAYLOAD,
            date=date,
        )
        return {name: str(value) for name, value in signed.items()}


def refuse_key(key: str) -> None:
    """Refuse keys that MinIO cannot hold, before a proxy on the way makes another key of them."""
    for part in key.removesuffix("/").split("/"):
        if part in ("", ".", "..") or len(part.encode()) > MAX_PART_BYTES:
            raise InvalidRequestError("MinIO holds no keys with empty, dotted or over-long parts.", key=key)
        if part.endswith(_MARKER_SUFFIX):
            raise InvalidRequestError(f"MinIO keeps names that end in {_MARKER_SUFFIX} to itself.", key=key)
