"""Amazon S3 and what speaks like it: credentials, endpoints, regions and signatures by boto3.

URL options: `endpoint` (other than AWS), `region`, `checksum` (crc64nvme, md5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3.session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from objfs.drivers.s3api.chain import Chain
from objfs.drivers.s3api.checksums import choose_checksum
from objfs.drivers.s3api.http import UNSIGNED_PAYLOAD, Connection, Place
from objfs.drivers.s3api.store import SAFE_METADATA_BYTES, S3Store
from objfs.errors import InvalidRequestError, UsageError
from objfs.store.urls import s3_endpoint
from objfs.store.values import Capabilities

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

    from objfs.drivers.s3api.http import Answer, Call
    from objfs.store.urls import StoreOptions, StoreUrl

DEFAULT_REGION = "us-east-1"  # what S3-compatible servers expect where nothing is configured
_WRONG_REGION = frozenset({301, 307, 400})  # where S3 adds x-amz-bucket-region, it means: ask there
_AWS = Capabilities(
    put_conditions=True, complete_conditions=True, paces_bodies=True
)  # S3 user guide, "Conditional writes"
_UNKNOWN = Capabilities(
    file_over_prefix=False, paces_bodies=True, max_metadata_bytes=SAFE_METADATA_BYTES
)  # until probed


def open_driver(url: StoreUrl, options: StoreOptions) -> S3Store:
    """The bucket of an `s3` URL."""
    url.allow_options("endpoint", "region", "checksum")
    endpoint = s3_endpoint(url, options)
    # What other stores make of CRC headers nobody knows; MD5 they all verify.
    wanted = url.option("checksum") or ("md5" if endpoint else "crc64nvme")
    checksum = choose_checksum(wanted, announce=endpoint is None)
    chain = Chain(options)
    try:
        session = boto3.session.Session(botocore_session=chain.session)
        region = url.option("region") or options.region or session.region_name or DEFAULT_REGION
        place = _custom_place(endpoint, url.bucket) if endpoint else _aws_place(session, region, url.bucket)
    except BotoCoreError as error:
        raise UsageError(f"The AWS configuration is not usable: {error}") from error
    connection = S3Connection(place, options, region=region, chain=chain)
    return S3Store(
        connection,
        url.bucket,
        capabilities=_UNKNOWN if endpoint else _AWS,
        checksum=checksum,
        refuse_key=_refuse_leading_slash if endpoint else None,
    )


class S3Connection(Connection):
    """Signs with botocore; credentials refresh themselves."""

    def __init__(self, place: Place, options: StoreOptions, *, region: str, chain: Chain) -> None:
        super().__init__(place, options, chain)
        self._region = region

    def send(self, call: Call) -> Answer:
        """See `Connection`. A bucket in another region than configured is found once, and remembered."""
        answer = super().send(call)
        region = answer.header("x-amz-bucket-region")
        if answer.status not in _WRONG_REGION or region in (None, self._region):
            return answer
        self._place = move_to_region(self._place, self._region, region)
        self._region = region
        return super().send(call)

    @property
    def region(self) -> str:
        """See `Connection`."""
        return self._region

    def sign(
        self, method: str, url: str, headers: dict[str, str], keys: ReadOnlyCredentials
    ) -> dict[str, str]:
        """See `Connection`."""
        request = AWSRequest(method=method, url=url, headers=headers)
        _Signer(keys, "s3", self._region).add_auth(request)
        return dict(request.headers.items())


class _Signer(S3SigV4Auth):
    """Leaves bodies out of the signature: the signed checksum header covers them."""

    def payload(self, request: AWSRequest) -> str:
        return UNSIGNED_PAYLOAD


def move_to_region(place: Place, old: str, new: str) -> Place:
    """The same bucket at another region's endpoint; other stores than AWS don't name regions in hosts."""
    return Place(
        origin=place.origin.replace(f".{old}.amazonaws.", f".{new}.amazonaws."), base_path=place.base_path
    )


def _refuse_leading_slash(key: str) -> None:
    """Refuse `/a`, which MinIO and proxies that merge slashes take for `a`."""
    if key.startswith("/"):
        raise InvalidRequestError("The store may take this key for the one without the slash.", key=key)


def _custom_place(endpoint: str, bucket: str) -> Place:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
        raise UsageError("An S3 endpoint looks like https://host:port, without credentials.")
    return Place(origin=f"{parts.scheme}://{parts.netloc}", base_path=f"{parts.path.rstrip('/')}/{bucket}")


def _aws_place(session: boto3.session.Session, region: str, bucket: str) -> Place:
    config = Config(
        region_name=region,
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # newer than the stubs
    )
    client = session.client("s3", config=config, region_name=region)
    endpoint = urlsplit(client.meta.endpoint_url)
    client.close()
    if "." in bucket:  # a dot in the host's first label would not match the certificate
        return Place(origin=f"https://{endpoint.netloc}", base_path=f"/{bucket}")
    return Place(origin=f"https://{bucket}.{endpoint.netloc}", base_path="")
