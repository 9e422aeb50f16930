"""The driver's methods as S3 requests."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from objfs.drivers.s3api.checksums import EtagCheck, content_md5, md5_etag
from objfs.drivers.s3api.errors import error_class, error_of, is_error_document, tells_class
from objfs.drivers.s3api.headers import (
    condition_headers,
    encryption_headers,
    encryption_of,
    etag_of,
    kept_headers,
)
from objfs.drivers.s3api.http import Call
from objfs.drivers.s3api.integrity import S3Integrity
from objfs.drivers.s3api.lifecycle import S3Lifecycle, S3Tags
from objfs.drivers.s3api.multipart import S3Multipart
from objfs.drivers.s3api.told import ToldEtags, copied_etag
from objfs.drivers.s3api.xml import (
    child_text,
    delete_document,
    fits_xml,
    parse_delete_errors,
    parse_document,
    parse_listing,
    user_metadata,
)
from objfs.errors import (
    BucketNotFoundError,
    CorruptError,
    NotFoundError,
    ObjectStoreError,
    PreconditionFailedError,
    UploadNotFoundError,
)
from objfs.store.checks import check_body, check_key, check_metadata, parse_content_range
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import (
    ANY,
    KEPT_HEADERS,
    Blob,
    Capabilities,
    DeleteFailure,
    ObjectInfo,
    Version,
    body_length,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from objfs.drivers.s3api.checksums import Checksum
    from objfs.drivers.s3api.http import Answer, Connection
    from objfs.store.values import Body, ByteRange, Condition, ListPage, PutOptions

_NS = 1_000_000_000
_USUAL_ENTRIES = 16  # more than a mount sets
# MinIO counts the `x-amz-meta-` of each name in, AWS does not.
SAFE_METADATA_BYTES = Capabilities().max_metadata_bytes - _USUAL_ENTRIES * len("x-amz-meta-")
_LAST_SUCCESS = 299
_REFUSED = frozenset({400, 403})
# MinIO changes the metadata of an object in place: who stops it then has lost the object, listings miss it
# meanwhile, and a PUT beside it gets the other's ETag. To make this checksum it writes a new object.
_WRITTEN_ANEW = {"x-amz-checksum-algorithm": "CRC64NVME"}


class S3Store:
    """A bucket behind a `Connection`.

    Conditions are sent whatever `capabilities` says, so that a probe can find out whether they are honoured;
    listings with metadata are asked for where the server says that it is MinIO, for the same reason.

    Args:
        connection: to the bucket.
        bucket: its name, for the source of copies.
        capabilities: what is known of the store.
        checksum: that the store verifies.
        refuse_key: raises InvalidRequestError for keys that this store cannot hold.
    """

    def __init__(
        self,
        connection: Connection,
        bucket: str,
        *,
        capabilities: Capabilities,
        checksum: Checksum,
        refuse_key: Callable[[str], None] | None = None,
    ) -> None:
        self._connection = connection
        self._bucket = bucket
        self._capabilities = capabilities
        self._checksum = checksum
        self._refuse_key = refuse_key
        self._etag_check = EtagCheck()
        self._told_by_put, self._told_by_copy = ToldEtags(), ToldEtags()
        self._is_minio = capabilities.listing_metadata  # or as soon as an answer says so: proxies may hide it
        self._multipart = S3Multipart(self, checksum)

    @property
    def capabilities(self) -> Capabilities:
        """See `ObjectStore`."""
        return self._capabilities

    @property
    def multipart(self) -> S3Multipart:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def compose(self) -> S3Multipart:
        """See `ObjectStore`."""
        return self._multipart

    @property
    def lifecycle(self) -> S3Lifecycle:
        """See `ObjectStore`."""
        return S3Lifecycle(self)

    @property
    def integrity(self) -> S3Integrity:
        """See `ObjectStore`."""
        return S3Integrity(self)

    @property
    def tags(self) -> S3Tags:
        """See `ObjectStore`."""
        return S3Tags(self)

    @property
    def connection(self) -> Connection:
        """To the bucket."""
        return self._connection

    def head(self, key: str) -> ObjectInfo:
        """See `ObjectStore`."""
        answer = self.send(Call("HEAD", self.check_key(key)))
        return _info(key, answer, _content_length(answer, key))

    def get(self, key: str, *, byte_range: ByteRange | None = None, if_match: str | None = None) -> Blob:
        """See `ObjectStore`."""
        headers: dict[str, str] = {}
        if byte_range is not None:
            headers["range"] = f"bytes={byte_range.start}-{byte_range.stop - 1}"
        if if_match is not None:
            headers["if-match"] = f'"{if_match}"'
        answer = self.send(Call("GET", self.check_key(key), headers=headers))
        content_range = answer.header("content-range")
        if byte_range is not None and content_range is not None:
            object_bytes = parse_content_range(content_range, key=key)[2]
        else:
            object_bytes = _content_length(answer, key)
        check_body(
            key=key,
            byte_range=byte_range,
            status=answer.status,
            content_range=content_range,
            object_bytes=object_bytes,
            body_bytes=len(answer.data),
        )
        if if_match not in (None, answer.etag):
            raise CorruptError("The store answered with another version.", key=key)
        is_whole = len(answer.data) == object_bytes
        if is_whole and not is_opaque(answer) and not self._etag_check.is_good(answer.etag, answer.data):
            raise CorruptError("The body is not what its ETag stands for.", key=key)
        return Blob(info=_info(key, answer, object_bytes), data=answer.data)

    def put(
        self, key: str, body: Body, *, options: PutOptions = DEFAULT_PUT, condition: Condition = ANY
    ) -> Version:
        """See `ObjectStore`."""
        headers = self.put_headers(key, options) | condition_headers(condition)
        headers |= self.body_headers(body)
        answer = self.send_conditional(
            Call("PUT", self.check_key(key), headers=headers, body=body), condition
        )
        etag = etag_of(answer, key)
        if not is_opaque(answer):
            sent_md5 = headers.get("content-md5")
            etag = self._told_by_put.confirmed(
                etag, lambda: md5_etag(body, sent_md5), lambda: self.etag_now(key)
            )
        return Version(etag=etag, size_bytes=body_length(body))

    def delete(self, keys: Sequence[str]) -> list[DeleteFailure]:
        """See `ObjectStore`."""
        batch = [key for key in keys if fits_xml(key)]
        single = [key for key in keys if not fits_xml(key)]
        if len(batch) == 1:
            single, batch = [*single, *batch], []
        failures = self._delete_batch(batch) if batch else []
        return [*failures, *self._delete_each(single)]

    def list(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        start_after: str = "",
        page: str | None = None,
        max_keys: int = 1000,
        with_metadata: bool = False,
    ) -> ListPage:
        """See `ObjectStore`."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(max_keys), "prefix": prefix}
        if delimiter:
            # MinIO leaves keys out after a page that is one common prefix and no more.
            query |= {"delimiter": delimiter, "max-keys": str(max(2, max_keys))}
        if start_after and page is None:
            query["start-after"] = start_after
        if page is not None:
            query["continuation-token"] = page
        if with_metadata and self._is_minio:
            query["metadata"] = "true"
        return parse_listing(self.send(Call("GET", query=query)).data)

    def copy(
        self,
        source_key: str,
        key: str,
        *,
        source_if_match: str | None = None,
        options: PutOptions | None = None,
        condition: Condition = ANY,
    ) -> Version:
        """See `ObjectStore`. One HEAD more, since the answer does not tell the size."""
        found = self.send(Call("HEAD", self.check_key(source_key)))
        source = _info(source_key, found, _content_length(found, source_key))
        if source_if_match not in (None, source.version.etag):
            raise PreconditionFailedError("The source is another version.", key=source_key)
        headers = self.source_headers(source_key, source.version.etag) | condition_headers(condition)
        headers |= kept_headers(found, options)
        if options is not None:
            headers |= self.put_headers(key, options) | {"x-amz-metadata-directive": "REPLACE"}
            headers |= {"x-amz-tagging-directive": "REPLACE"} if options.tags is not None else {}
        if self._is_minio and source_key == key:
            headers |= _WRITTEN_ANEW
        size_bytes = source.version.size_bytes
        answer = self.send(Call("PUT", self.check_key(key), headers=headers, copied_bytes=size_bytes))
        etag = child_text(parse_document(answer.data, "CopyObjectResult", key=key), "ETag").strip('"')
        if not is_opaque(answer) and not is_opaque(found):
            etag = self._told_by_copy.confirmed(
                etag, lambda: copied_etag(source.version.etag), lambda: self.etag_now(key)
            )
        return Version(etag=etag, size_bytes=size_bytes)

    def close(self) -> None:
        """See `ObjectStore`."""
        self._connection.close()

    # What the multipart face builds on.

    def send_unchecked(self, call: Call) -> Answer:
        """Send a call; the caller looks at the status."""
        return self._connection.send(call)

    def send(self, call: Call) -> Answer:
        """Send a call; an answer that is no success is an error, a success with an error inside too."""
        answer = self._connection.send(call)
        self._is_minio = self._is_minio or (answer.header("server") or "").startswith("MinIO")
        if answer.status > _LAST_SUCCESS:
            raise error_of(self._with_reason(call, answer), key=call.key)
        if call.method != "GET" and is_error_document(answer.data):
            raise error_of(answer, key=call.key)
        return answer

    def etag_now(self, key: str) -> str | None:
        """The ETag that a HEAD tells, None if it tells none."""
        try:
            return self.head(key).version.etag
        except ObjectStoreError:
            return None

    def send_conditional(self, call: Call, condition: Condition) -> Answer:
        """Send a write, or a completion; S3 says NoSuchKey where `if_match` meets no object."""
        try:
            return self.send(call)
        except NotFoundError as error:
            if condition.if_match is None or isinstance(error, UploadNotFoundError):
                raise
            raise PreconditionFailedError("The object is gone.", key=call.key) from error

    def _with_reason(self, call: Call, answer: Answer) -> Answer:
        """An answer that says why: that to a HEAD has no body for it."""
        if call.method != "HEAD" or answer.status not in _REFUSED:
            return answer
        told = self._connection.send(Call("GET", call.key, headers={**call.headers, "range": "bytes=0-0"}))
        return told if told.status == answer.status else answer

    def check_key(self, key: str) -> str:
        """The key, if the store can hold it."""
        check_key(key, self._capabilities.max_key_bytes)
        if self._refuse_key is not None:
            self._refuse_key(key)
        return key

    def put_headers(self, key: str, options: PutOptions) -> dict[str, str]:
        """Headers of an object to be."""
        check_metadata(options.metadata, self._capabilities.max_metadata_bytes, key=key)
        headers = {f"x-amz-meta-{name}": value for name, value in options.metadata.items()}
        headers |= encryption_headers(options.encryption)
        headers |= options.headers
        if options.tags:
            headers["x-amz-tagging"] = urlencode(options.tags, quote_via=quote)
        named = {
            "content-type": options.content_type,
            "content-encoding": options.content_encoding,
            "cache-control": options.cache_control,
            "x-amz-storage-class": options.storage_class,
        }
        return headers | {name: value for name, value in named.items() if value is not None}

    def body_headers(self, body: Body) -> dict[str, str]:
        """Length and checksum of a body."""
        name, value = self._checksum.header(body)
        return {"content-length": str(body_length(body)), name: value}

    def source_headers(self, source_key: str, if_match: str | None) -> dict[str, str]:
        """Headers that name the source of a copy."""
        source = quote(f"/{self._bucket}/{self.check_key(source_key)}", safe="/~")
        match = {} if if_match is None else {"x-amz-copy-source-if-match": f'"{if_match}"'}
        return {"x-amz-copy-source": source, **match}

    def _delete_batch(self, keys: Sequence[str]) -> Sequence[DeleteFailure]:
        document = delete_document(keys)
        headers = {"content-md5": content_md5(document), "content-type": "application/xml"}
        answer = self.send(Call("POST", query={"delete": ""}, headers=headers, body=document))
        failures: list[DeleteFailure] = []
        unclear: list[str] = []
        for key, code in parse_delete_errors(answer.data):
            kind = error_class(0, code)
            if not tells_class(code):
                unclear.append(key)  # the status of a DELETE of its own tells
            elif kind is not NotFoundError:
                error = kind(f"The store did not delete the object: {code}.", key=key)
                failures.append(DeleteFailure(key=key, error=error))
        return [*failures, *self._delete_each(unclear)]

    def _delete_each(self, keys: Iterable[str]) -> Sequence[DeleteFailure]:
        failures: list[DeleteFailure] = []
        for key in keys:
            try:
                self.send(Call("DELETE", self.check_key(key)))
            except NotFoundError:
                continue
            except BucketNotFoundError:
                raise
            except ObjectStoreError as error:
                failures.append(DeleteFailure(key=key, error=error))
        return failures


def is_opaque(answer: Answer) -> bool:
    """Whether the ETag stands for encrypted bytes (S3 API, "Common response headers")."""
    kind = answer.header("x-amz-server-side-encryption") or ""
    customer = answer.header("x-amz-server-side-encryption-customer-algorithm")
    return kind.startswith("aws:kms") or customer is not None


def _content_length(answer: Answer, key: str) -> int:
    value = answer.header("content-length") or ""
    if not value.isdecimal():
        raise CorruptError("The store's answer has no Content-Length.", key=key)
    return int(value)


def _info(key: str, answer: Answer, size_bytes: int) -> ObjectInfo:
    headers: Mapping[str, str] = answer.headers
    tag_count = headers.get("x-amz-tagging-count", "")
    return ObjectInfo(
        key=key,
        version=Version(etag=etag_of(answer, key), size_bytes=size_bytes),
        modified_ns=_http_time_ns(headers.get("last-modified")),
        metadata=user_metadata(headers.items()),
        content_type=headers.get("content-type"),
        content_encoding=headers.get("content-encoding"),
        storage_class=headers.get("x-amz-storage-class"),
        cache_control=headers.get("cache-control"),
        encryption=encryption_of(headers),
        headers={name: headers[name] for name in KEPT_HEADERS if name in headers},
        tag_count=int(tag_count) if tag_count.isdecimal() else 0,
    )


def _http_time_ns(value: str | None) -> int:
    try:
        return int(parsedate_to_datetime(value or "").timestamp()) * _NS
    except ValueError:
        return 0
