"""From this machine to a bucket that answers: network, credentials, bucket, region, clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from objfs.doctor.findings import Finding, failed, ok, skipped, warning
from objfs.doctor.network import Origin, check_clock, examine_network
from objfs.drivers.s3api.diagnosis import code_of, find_credentials, kind_of, told_region
from objfs.errors import (
    BucketNotFoundError,
    ObjectStoreError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.drivers.s3api.diagnosis import CredentialFacts, Raw
    from objfs.store.protocol import ObjectStore
    from objfs.store.urls import StoreOptions

_WRONG_REGION = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
)


def examine_way(raw: Raw, options: StoreOptions) -> Iterator[Finding]:
    """Network, credentials, bucket, region and clock of a store that speaks S3."""
    reached = True
    for finding in examine_network(Origin.parse(raw.origin), raw.tls_context()):
        yield finding
        reached = reached and finding.result != "failed"
    credentials = check_credentials(options)
    yield credentials
    if not reached or credentials.result == "failed":
        yield skipped("bucket", "not asked for, since something before failed")
        return
    yield from _examine_bucket(raw)


def check_credentials(options: StoreOptions) -> Finding:
    """Where they come from, and how long they last."""
    try:
        found = find_credentials(options)
    except UnauthenticatedError as error:
        return failed(
            "credentials", str(error), "check --profile and ~/.aws, or log in again (aws sso login)"
        )
    if found is None:
        return failed(
            "credentials",
            "there are none",
            "run 'aws configure', or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    return _judge_credentials(found)


def _judge_credentials(found: CredentialFacts) -> Finding:
    text = f"from {found.source}, key …{found.key_hint}"
    if found.expires_s is None:
        return ok("credentials", text)
    left_s = found.expires_s - time.time()
    if left_s <= 0:
        return failed("credentials", f"{text}, expired", "log in again")
    text += f", good for {left_s / 60:.0f} min, then refreshed"
    return ok("credentials", text)


def _examine_bucket(raw: Raw) -> Iterator[Finding]:
    configured = raw.region
    try:
        answer = raw.list_one()
    except (UnavailableError, UnauthenticatedError) as error:
        yield failed("bucket", str(error).rstrip("."), "see the lines above")
        return
    yield check_clock(answer.header("date"))
    code = code_of(answer)
    told = told_region(answer) or (raw.region if raw.region != configured else None)
    if answer.status < 300:
        yield ok("bucket", "is there, and can be listed")
    elif code in _WRONG_REGION:
        yield failed("bucket", f"requests for region {configured} are refused ({code})", "see the next line")
    else:
        yield _explain_bucket(kind_of(answer), answer.status, code)
    yield _check_region(configured, told, answered=answer.status < 300, wrong=code in _WRONG_REGION)


def _explain_bucket(kind: type[ObjectStoreError], status: int, code: str) -> Finding:
    told = f"{status} {code}".strip()
    if issubclass(kind, BucketNotFoundError):
        return failed(
            "bucket", "there is no such bucket", "check the name and the endpoint, or create it first"
        )
    if issubclass(kind, UnauthenticatedError):
        why = {
            "InvalidAccessKeyId": "the store does not know this key",
            "SignatureDoesNotMatch": "the secret does not belong to the key",
            "ExpiredToken": "the session has expired",
            "RequestTimeTooSkewed": "the clock is wrong",
        }.get(code, "the credentials are not accepted")
        return failed("bucket", f"{why} ({told})", "check the credentials, and that they are of this store")
    if issubclass(kind, PermissionDeniedError):
        return failed(
            "bucket",
            f"it may not be listed ({told})",
            "ask its owner for the rights s3:ListBucket and s3:GetBucketLocation",
        )
    return failed("bucket", f"the store refuses to list it ({told})", "check URL and endpoint")


def _check_region(configured: str, told: str | None, *, answered: bool, wrong: bool) -> Finding:
    if told and told != configured:
        advice = f"use --region {told}"
        if wrong or not answered:
            return failed("region", f"the bucket is in {told}, and {configured} is configured", advice)
        return warning("region", f"the bucket is in {told}, not {configured}: every start asks twice", advice)
    if wrong:
        return failed("region", f"it is not {configured}", "find out the bucket's region, and use --region")
    if not answered:
        return skipped("region", f"{configured} is configured; the answer does not tell")
    return ok("region", f"{configured} is accepted")


def check_folder_or_bucket(store: ObjectStore) -> Finding:
    """Listing, by stores that are examined without raw requests."""
    try:
        store.list("", max_keys=1)
    except BucketNotFoundError:
        return failed("bucket", "there is no such bucket or folder", "check the name, or create it first")
    except ObjectStoreError as error:
        return failed("bucket", str(error).rstrip("."), "check the URL, and your rights")
    return ok("bucket", "is there, and can be listed")
