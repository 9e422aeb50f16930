"""Multipart uploads and part copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from objfs.drivers.s3api.headers import condition_headers, etag_of
from objfs.drivers.s3api.http import Call
from objfs.drivers.s3api.told import ToldEtags, multipart_etag
from objfs.drivers.s3api.xml import child_text, complete_document, parse_document, parse_uploads
from objfs.errors import CorruptError, NotFoundError
from objfs.store.protocol import DEFAULT_PUT
from objfs.store.values import ANY, MultipartLimits, Part, PendingUpload, Version, body_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from objfs.drivers.s3api.checksums import Checksum
    from objfs.drivers.s3api.store import S3Store
    from objfs.store.values import Body, ByteRange, Condition, PutOptions

_LIMITS = MultipartLimits()
_XML = {"content-type": "application/xml"}


class S3Multipart:
    """The multipart and compose faces of an `S3Store`."""

    def __init__(self, store: S3Store, checksum: Checksum) -> None:
        self._store = store
        self._checksum = checksum
        self._told = ToldEtags()

    @property
    def limits(self) -> MultipartLimits:
        """See `MultipartApi`."""
        return _LIMITS

    def create(self, key: str, *, options: PutOptions = DEFAULT_PUT) -> str:
        """See `MultipartApi`."""
        headers = {**self._store.put_headers(key, options), **self._checksum.upload_headers}
        call = Call("POST", self._store.check_key(key), query={"uploads": ""}, headers=headers)
        document = parse_document(self._store.send(call).data, "InitiateMultipartUploadResult", key=key)
        upload_id = child_text(document, "UploadId")
        if not upload_id:
            raise CorruptError("The store began an upload without telling its id.", key=key)
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: Body) -> Part:
        """See `MultipartApi`."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        headers = self._store.body_headers(body)
        answer = self._store.send(
            Call("PUT", self._store.check_key(key), query=query, headers=headers, body=body)
        )
        return Part(number=number, etag=etag_of(answer, key), size_bytes=body_length(body))

    def copy_part(
        self,
        source_key: str,
        byte_range: ByteRange,
        key: str,
        upload_id: str,
        number: int,
        *,
        source_if_match: str | None = None,
    ) -> Part:
        """See `ComposeApi`."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        headers = self._store.source_headers(source_key, source_if_match)
        headers["x-amz-copy-source-range"] = f"bytes={byte_range.start}-{byte_range.stop - 1}"
        call = Call(
            "PUT",
            self._store.check_key(key),
            query=query,
            headers=headers,
            copied_bytes=byte_range.length,
        )
        answer = self._store.send(call)
        etag = child_text(parse_document(answer.data, "CopyPartResult", key=key), "ETag").strip('"')
        return Part(number=number, etag=etag, size_bytes=byte_range.length)

    def complete(
        self, key: str, upload_id: str, parts: Sequence[Part], *, condition: Condition = ANY
    ) -> Version:
        """See `MultipartApi`."""
        call = Call(
            "POST",
            self._store.check_key(key),
            query={"uploadId": upload_id},
            headers=_XML | condition_headers(condition),
            body=complete_document(parts),
        )
        answer = self._store.send_conditional(call, condition)
        document = parse_document(answer.data, "CompleteMultipartUploadResult", key=key)
        etag = child_text(document, "ETag").strip('"')
        etag = self._told.confirmed(etag, lambda: multipart_etag(parts), lambda: self._store.etag_now(key))
        return Version(etag=etag, size_bytes=sum(part.size_bytes for part in parts))

    def abort(self, key: str, upload_id: str) -> None:
        """See `MultipartApi`."""
        try:
            self._store.send(Call("DELETE", self._store.check_key(key), query={"uploadId": upload_id}))
        except NotFoundError:
            return

    def list_uploads(self, prefix: str) -> list[PendingUpload]:
        """See `MultipartApi`. MinIO knows uploads by their whole key only: a shorter prefix finds none."""
        found: list[PendingUpload] = []
        query = {"uploads": "", "prefix": prefix, "encoding-type": "url"}
        while True:
            uploads, marker = parse_uploads(self._store.send(Call("GET", query=query)).data)
            found += uploads
            if not marker:
                return found
            query |= marker
