"""URLs of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from objfs.errors import BucketNotFoundError, UsageError
from objfs.store.registry import known_schemes, open_store
from objfs.store.urls import StoreOptions, StoreUrl, s3_endpoint, store_identity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/a/b%20c/", "s3://bucket/a/b c/"),
        ("s3://bucket/a#b?region=x", "s3://bucket/a#b/"),
        ("minio://Host:9000/bucket/p?tls=0", "minio://host:9000/bucket/p/"),
        ("file:///a/../b/", "file:///b"),
        ("memory://", "memory:///"),
    ],
)
def test_canonical(text: str, canonical: str) -> None:
    assert StoreUrl.parse(text).canonical == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bucket",
        "s3://",
        "s3:///x",
        "s3://b/a//c",
        "s3://b/../c",
        "minio://host:9000",
        "file://host/x",
        "file:x",
    ],
)
def test_what_is_no_store(text: str) -> None:
    with pytest.raises(UsageError):
        StoreUrl.parse(text)


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        StoreUrl.parse("minio://KEYID:SECRETWORD@host:9000/bucket")
    assert "SECRETWORD" not in str(caught.value)
    assert "KEYID" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "tls"),
    [
        ("example.org:9000", True),
        ("localhost:9000", False),
        ("127.0.0.1:9000", False),
        ("[::1]:9000", False),
        ("10.0.0.1:9000", True),
    ],
)
def test_tls_is_left_out_on_loopback_only(host: str, tls: bool) -> None:
    assert StoreUrl.parse(f"minio://{host}/bucket").tls is tls
    assert StoreUrl.parse(f"minio://{host}/bucket?tls=1").tls
    assert not StoreUrl.parse(f"minio://{host}/bucket?tls=0").tls


def test_the_endpoint_is_part_of_the_identity() -> None:
    url, options = StoreUrl.parse("s3://bucket/p"), StoreOptions()
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000/"}
    assert s3_endpoint(url, options, {}) is None
    assert s3_endpoint(url, options, environ) == "http://127.0.0.1:9000"
    identities = {
        store_identity(url, options, {}),
        store_identity(url, options, environ),
        store_identity(url, StoreOptions(endpoint_url="https://other"), environ),
    }
    assert len(identities) == 3


def test_drivers_are_found() -> None:
    assert {"file", "memory", "minio", "s3"} <= set(known_schemes())
    with pytest.raises(UsageError, match=r"known: .*s3://"):
        open_store("gopher://x/y")
    with pytest.raises(UsageError, match="tsl"):
        open_store("minio://host:9000/bucket?tsl=0")


def test_a_missing_folder(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/missing")
    for send in (
        lambda: store.head("a"),
        lambda: store.list(""),
        lambda: store.put("a", b""),
        lambda: store.put("a/b", b""),
        lambda: store.delete(["a"]),
    ):
        with pytest.raises(BucketNotFoundError):
            send()
    assert not (tmp_path / "missing").exists()
