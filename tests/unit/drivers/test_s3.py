"""Parts of the s3 and minio drivers that no server shows."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING

import pytest

from objfs.drivers.s3 import S3Connection, move_to_region
from objfs.drivers.s3api.chain import Chain
from objfs.drivers.s3api.checksums import Md5
from objfs.drivers.s3api.errors import error_class, error_of
from objfs.drivers.s3api.http import Answer, Call, Connection, Place
from objfs.drivers.s3api.store import S3Store
from objfs.drivers.s3api.told import ToldEtags, copied_etag, multipart_etag
from objfs.drivers.s3api.xml import parse_listing
from objfs.errors import (
    CorruptError,
    InvalidRequestError,
    NotFoundError,
    ObjectStoreError,
    PermissionDeniedError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
)
from objfs.store.registry import open_store
from objfs.store.urls import StoreOptions
from objfs.store.values import MIB, Capabilities, Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from botocore.credentials import ReadOnlyCredentials

AWS = Place(origin="https://b.s3.us-east-1.amazonaws.com", base_path="")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", ThrottledError),
        (429, "", ThrottledError),
        (500, "", UnavailableError),
        (502, "", UnavailableError),
        (403, "", PermissionDeniedError),
        (403, "ExpiredToken", UnauthenticatedError),
        (404, "", NotFoundError),
        (400, "", InvalidRequestError),
        (400, "BadDigest", CorruptError),
        (409, "ConditionalRequestConflict", UnavailableError),
        (200, "InternalError", UnavailableError),
    ],
)
def test_errors(status: int, code: str, kind: type[ObjectStoreError]) -> None:
    assert error_class(status, code) is kind


def test_a_batch_delete_tells_of_each_key() -> None:
    """Errors come first in its answer, the code of one may be known by its status only."""

    def answer(call: Call) -> Answer:
        if call.method == "DELETE":
            return Answer(418 if call.key == "odd" else 503, {}, b"")
        codes = {"away": "SlowDownWrite", "refused": "AccessDenied", "odd": "Teapot", "busy": "Brewing"}
        errors = "".join(f"<Error><Key>{key}</Key><Code>{codes[key]}</Code></Error>" for key in codes)
        return Answer(200, {}, f"<?xml version='1.0'?>\n<DeleteResult>{errors}</DeleteResult>".encode())

    store = S3Store(_Scripted(answer), "b", capabilities=Capabilities(), checksum=Md5())
    failures = store.delete(["gone", "away", "refused", "odd", "busy"])
    assert {failure.key: type(failure.error) for failure in failures} == {
        "away": UnavailableError,
        "refused": PermissionDeniedError,
        "odd": InvalidRequestError,
        "busy": UnavailableError,
    }


@pytest.mark.parametrize("before", ["", "<?xml version='1.0' encoding='UTF-8'?>\n", "   \n"])
def test_an_error_within_a_success(before: str) -> None:
    data = f"{before}<Error><Code>InternalError</Code></Error>".encode()
    store = S3Store(
        _Scripted(lambda _: Answer(200, {}, data)), "b", capabilities=Capabilities(), checksum=Md5()
    )
    with pytest.raises(UnavailableError):
        store.delete(["a", "b"])


class _Scripted(Connection):
    """Answers as it is told to."""

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        super().__init__(AWS, StoreOptions(), Chain(StoreOptions()))
        self._answer = answer

    @property
    def region(self) -> str:
        return "us-east-1"

    def sign(
        self, method: str, url: str, headers: dict[str, str], keys: ReadOnlyCredentials
    ) -> dict[str, str]:
        raise NotImplementedError

    def send(self, call: Call) -> Answer:
        return self._answer(call)


def test_an_error_that_is_no_xml() -> None:
    error = error_of(Answer(503, {"retry-after": "3"}, b"<html>busy"), key="a")
    assert isinstance(error, UnavailableError)
    assert (error.key, error.retry_after_s) == ("a", 3.0)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"<Other/>", b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"],
)
def test_a_listing_that_is_none(data: bytes) -> None:
    with pytest.raises(CorruptError):
        parse_listing(data)


def test_a_bucket_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def send(self: S3Connection, _call: Call) -> Answer:
        asked.append(self._place.origin)
        return Answer(301 if len(asked) == 1 else 200, {"x-amz-bucket-region": "eu-west-1"}, b"")

    monkeypatch.setattr(Connection, "send", send)
    connection = S3Connection(AWS, StoreOptions(), region="us-east-1", chain=Chain(StoreOptions()))
    assert connection.send(Call("GET")).status == 200
    assert connection.send(Call("GET")).status == 200
    assert asked == [AWS.origin, *["https://b.s3.eu-west-1.amazonaws.com"] * 2]


def test_other_hosts_stay() -> None:
    place = Place(origin="http://host.us-east-1.lan:9000", base_path="/b")
    assert move_to_region(place, "us-east-1", "x") == place


@pytest.mark.parametrize("url", ["s3://bucket?endpoint=http://127.0.0.1:1", "minio://127.0.0.1:1/bucket"])
def test_without_credentials(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = str(tmp_path_factory.mktemp("aws") / "none")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
    monkeypatch.setenv("AWS_CONFIG_FILE", nowhere)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UnauthenticatedError, match="credentials"):
        open_store(url).head("a")


@pytest.mark.parametrize("url", ["s3://bucket?endpoint=http://127.0.0.1:1", "minio://127.0.0.1:1/bucket"])
def test_a_server_that_is_down(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(UnavailableError) as caught:
        open_store(url).head("a")
    assert caught.value.retryable


def test_a_store_that_copies_much_may_be_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with ThreadingHTTPServer(("127.0.0.1", 0), _SlowCopies) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"s3://bucket?endpoint=http://127.0.0.1:{server.server_port}"
        store = open_store(url, StoreOptions(read_timeout_s=0.2))
        with pytest.raises(UnavailableError):
            store.copy("small", "b")
        assert store.copy("large", "b").etag == MD5
        store.close()
        server.shutdown()


class _SlowCopies(BaseHTTPRequestHandler):
    """A store that takes a second for each copy."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{MD5}"')
        self.send_header("Content-Length", str(100 * MIB if self.path.endswith("large") else 1))
        self.end_headers()

    def do_PUT(self) -> None:
        sleep(1)
        body = f"<CopyObjectResult><ETag>{MD5}</ETag></CopyObjectResult>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # who asked has gone
            self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@pytest.mark.parametrize("key", ["a//b", "a/./b", "..", "x" * 256, "a__XLDIR__", "d__XLDIR__/a"])
def test_keys_that_minio_cannot_hold(key: str) -> None:
    with pytest.raises(InvalidRequestError, match="MinIO"):
        open_store("minio://127.0.0.1:1/bucket").put(key, b"")


def test_files_of_credentials_are_read_again_once_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"

    def write(user: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {user}\naws_secret_access_key = secret\n")

    write("first")
    chain = Chain(StoreOptions(credentials_file=str(file)))
    first = chain.keys()
    assert first.access_key == "first"
    assert not chain.renew(first), "nothing has changed"
    file.write_text("[default]\naws_access_key")
    assert not chain.renew(first), "it is being written"
    assert chain.keys() == first
    write("second")
    assert chain.renew(first)
    assert chain.keys().access_key == "second"
    assert chain.renew(first), "others were refused before they saw it"
    assert not chain.renew(chain.keys())


MD5 = "0123456789abcdef0123456789abcdef"


def test_a_told_etag_is_looked_at_only_where_it_is_another_than_expected() -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append("")
        return MD5

    told = ToldEtags()
    assert told.confirmed(MD5, lambda: MD5, ask) == MD5
    assert told.confirmed("unknown", lambda: None, ask) == "unknown"
    assert not asked
    assert told.confirmed("wrong", lambda: MD5, ask) == MD5
    assert told.confirmed("theirs", lambda: "ours", ask) == "theirs", "somebody has replaced it since"
    assert told.confirmed("wrong", lambda: MD5, lambda: None) == "wrong"
    assert len(asked) == 2


def test_etags_of_another_kind_are_found_out_once() -> None:
    told = ToldEtags()
    assert told.confirmed("kind", lambda: MD5, lambda: "kind") == "kind"
    assert told.confirmed("other", lambda: MD5, pytest.fail) == "other"


def test_etags_of_parts_and_copies() -> None:
    parts = [Part(number=number, etag=MD5, size_bytes=1) for number in (1, 2)]
    assert multipart_etag(parts) == f"{hashlib.md5(bytes.fromhex(MD5) * 2).hexdigest()}-2"  # noqa: S324
    assert multipart_etag([Part(number=1, etag="opaque", size_bytes=1)]) is None
    assert (copied_etag(MD5), copied_etag(f"{MD5}-2")) == (MD5, None)
