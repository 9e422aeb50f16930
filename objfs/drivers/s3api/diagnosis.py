"""For examinations: raw requests whatever their answer, and where credentials come from. Nothing secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from botocore.exceptions import BotoCoreError, ProfileNotFound

from objfs.drivers import minio, s3
from objfs.drivers.s3api.chain import open_botocore
from objfs.drivers.s3api.errors import error_class, error_code
from objfs.drivers.s3api.http import Call, trusted
from objfs.drivers.s3api.xml import child_text
from objfs.errors import UnauthenticatedError

if TYPE_CHECKING:
    import ssl

    from objfs.drivers.s3api.http import Answer
    from objfs.errors import ObjectStoreError
    from objfs.store.urls import StoreOptions, StoreUrl

_OPENERS = {"s3": s3.open_driver, "minio": minio.open_driver}
_SOURCES = {  # botocore's names of the members of its chain (credentials.py)
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "explicit": "the command",
    "shared-credentials-file": "the credentials file",
    "config-file": "the AWS configuration file",
    "assume-role": "a role (assume-role)",
    "assume-role-with-web-identity": "a role (web identity)",
    "sso": "single sign-on",
    "login": "aws login",
    "custom-process": "credential_process",
    "container-role": "the container's role",
    "iam-role": "the instance's role",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFacts:
    """Where credentials come from, for people.

    Attributes:
        source: member of the chain.
        key_hint: the end of the key's name, which is no secret.
        expires_s: Unix time; None for those that last.
    """

    source: str
    key_hint: str
    expires_s: float | None


def speaks_s3(url: StoreUrl) -> bool:
    """Whether `Raw` can be had."""
    return url.scheme in _OPENERS


def find_credentials(options: StoreOptions) -> CredentialFacts | None:
    """What the chain gives, or None if that is nothing.

    Raises:
        UnauthenticatedError: the profile is missing, or they cannot be refreshed.
    """
    try:
        found = open_botocore(options).get_credentials()
        if found is None:
            return None
        frozen = found.get_frozen_credentials()
    except ProfileNotFound as error:
        raise UnauthenticatedError(f"there is no profile {options.profile or 'default'}") from error
    except BotoCoreError as error:
        raise UnauthenticatedError(f"they cannot be refreshed ({type(error).__name__})") from error
    expiry = getattr(found, "_expiry_time", None)  # told by no public name
    method = str(found.method)
    source = _SOURCES.get(method, method)
    if method == "shared-credentials-file":
        source += f" {options.credentials_file}" if options.credentials_file else ""
        source += f", profile {options.profile}" if options.profile else ""
    return CredentialFacts(
        source=source,
        key_hint=(frozen.access_key or "")[-4:],
        expires_s=expiry.timestamp() if isinstance(expiry, datetime) else None,
    )


class Raw:
    """Requests to one bucket, with answers of any status."""

    def __init__(self, url: StoreUrl, options: StoreOptions) -> None:
        self._store = _OPENERS[url.scheme](url, options)
        self._connection = self._store.connection
        self._prefix = url.prefix
        self._options = options

    @property
    def origin(self) -> str:
        """`https://host:port` of the bucket."""
        return self._connection.origin

    @property
    def region(self) -> str:
        """The region that requests are signed for: by now the bucket's, if the store told that."""
        return self._connection.region

    def tls_context(self) -> ssl.SSLContext | None:
        """The certificates that are trusted, None for plain http."""
        return trusted(self._options) if self.origin.startswith("https:") else None

    def list_one(self) -> Answer:
        """A listing of one key. Raises UnavailableError, UnauthenticatedError."""
        query = {"list-type": "2", "max-keys": "1", "prefix": self._prefix}
        return self._connection.send(Call("GET", query=query))

    def put(self, key: str, body: bytes, headers: dict[str, str]) -> Answer:
        """PUT with headers as they are."""
        return self._connection.send(Call("PUT", self._prefix + key, headers=headers, body=body))

    def put_tags(self, key: str, document: bytes, md5: str) -> Answer:
        """PutObjectTagging."""
        headers = {"content-type": "application/xml", "content-md5": md5}
        return self._connection.send(
            Call("PUT", self._prefix + key, query={"tagging": ""}, headers=headers, body=document)
        )

    def close(self) -> None:
        """Give back connections."""
        self._store.close()


def told_region(answer: Answer) -> str | None:
    """The region that an answer says the bucket is in."""
    region = answer.header("x-amz-bucket-region")
    if region:
        return region
    try:
        return child_text(ElementTree.fromstring(answer.data), "Region") or None  # noqa: S314  # expat limits entities
    except ElementTree.ParseError:
        return None


def code_of(answer: Answer) -> str:
    """The error code of an answer."""
    return error_code(answer.data)


def kind_of(answer: Answer) -> type[ObjectStoreError]:
    """The class of error that an answer stands for."""
    return error_class(answer.status, error_code(answer.data))
