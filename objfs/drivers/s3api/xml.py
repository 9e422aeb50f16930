"""The XML documents of S3, read and written."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from objfs.errors import CorruptError
from objfs.store.values import ListPage, ObjectInfo, PendingUpload, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from objfs.store.values import Part

_METADATA_PREFIX = "x-amz-meta-"
_NS_PER_MS = 1_000_000


def parse_document(data: bytes, name: str, *, key: str = "") -> ElementTree.Element:
    """The root of a document that must be called `name`, without namespaces.

    Raises:
        CorruptError: it is no XML, or another document.
    """
    try:
        root = ElementTree.fromstring(data)  # noqa: S314  # expat limits entity expansion
    except ElementTree.ParseError as error:
        raise CorruptError("The store's answer is no XML.", key=key) from error
    if local_name(root) != name:
        raise CorruptError(f"The store's answer is a {local_name(root)}, not a {name}.", key=key)
    return root


def local_name(element: ElementTree.Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def child_text(element: ElementTree.Element, name: str) -> str:
    """The text of a child, "" if there is none."""
    for child in element:
        if local_name(child) == name:
            return child.text or ""
    return ""


def parse_listing(data: bytes) -> ListPage:
    """A page of ListObjectsV2, with MinIO's user metadata where it is there."""
    root = parse_document(data, "ListBucketResult")
    decode = _decoder(root)
    objects: list[ObjectInfo] = []
    prefixes: list[str] = []
    next_page: str | None = None
    try:
        for child in root:
            name = local_name(child)
            if name == "Contents":
                objects.append(_object(child, decode))
            elif name == "CommonPrefixes":
                prefixes.append(decode(child_text(child, "Prefix")))
            elif name == "NextContinuationToken":
                next_page = child.text
    except (KeyError, ValueError) as error:
        raise CorruptError("The store's listing cannot be read.") from error
    if child_text(root, "IsTruncated") == "true" and not next_page:
        raise CorruptError("The store's listing breaks off without a token.")
    return ListPage(objects=tuple(objects), prefixes=tuple(prefixes), next_page=next_page or None)


def _object(element: ElementTree.Element, decode: Callable[[str], str]) -> ObjectInfo:
    fields: dict[str, str] = {}
    metadata: dict[str, str] | None = None
    for child in element:
        name = local_name(child)
        if name == "UserMetadata":
            metadata = {local_name(item).lower(): item.text or "" for item in child}
        else:
            fields[name] = child.text or ""
    told = metadata or {}
    return ObjectInfo(
        key=decode(fields["Key"]),
        version=Version(etag=fields["ETag"].strip('"'), size_bytes=int(fields["Size"])),
        modified_ns=parse_time_ns(fields["LastModified"]),
        metadata=None if metadata is None else user_metadata(metadata.items()),
        content_type=told.get("content-type"),
        content_encoding=told.get("content-encoding"),
        storage_class=fields.get("StorageClass"),
    )


def user_metadata(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The user metadata among headers."""
    skip = len(_METADATA_PREFIX)
    lower = ((name.lower(), value) for name, value in headers)
    return {name[skip:]: value for name, value in lower if name.startswith(_METADATA_PREFIX)}


def parse_time_ns(text: str) -> int:
    """An ISO time in ns since the epoch; stores tell milliseconds at most."""
    return round(datetime.fromisoformat(text).timestamp() * 1000) * _NS_PER_MS


def parse_uploads(data: bytes) -> tuple[list[PendingUpload], dict[str, str]]:
    """A page of ListMultipartUploads, and the query of the next (empty after the last)."""
    root = parse_document(data, "ListMultipartUploadsResult")
    decode = _decoder(root)
    uploads = [
        PendingUpload(
            key=decode(child_text(child, "Key")),
            upload_id=child_text(child, "UploadId"),
            initiated_ns=parse_time_ns(child_text(child, "Initiated")),
        )
        for child in root
        if local_name(child) == "Upload"
    ]
    if child_text(root, "IsTruncated") != "true" or not uploads:
        return uploads, {}
    marker = {"key-marker": decode(child_text(root, "NextKeyMarker"))}
    if upload_marker := child_text(root, "NextUploadIdMarker"):
        marker["upload-id-marker"] = upload_marker
    return uploads, marker


def parse_delete_errors(data: bytes) -> list[tuple[str, str]]:
    """(key, code) of what a batch delete failed to delete."""
    root = parse_document(data, "DeleteResult")
    return [
        (child_text(child, "Key"), child_text(child, "Code"))
        for child in root
        if local_name(child) == "Error"
    ]


def delete_document(keys: Sequence[str]) -> bytes:
    """Body of a batch delete."""
    objects = "".join(f"<Object><Key>{_escape(key)}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()


def complete_document(parts: Sequence[Part]) -> bytes:
    """Body of CompleteMultipartUpload."""
    items = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{_escape(part.etag)}&quot;</ETag></Part>"
        for part in parts
    )
    return f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()


def fits_xml(key: str) -> bool:
    """Whether XML 1.0 can hold a key; most control characters it cannot."""
    return key.isprintable() or all(
        (char >= " " and char not in "\ufffe\uffff") or char in "\t\n\r" for char in key
    )


def _escape(text: str) -> str:
    # A parser turns bare line ends into \n, so they go as references.
    return escape(text, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})


def _decoder(root: ElementTree.Element) -> Callable[[str], str]:
    return unquote_plus if child_text(root, "EncodingType") == "url" else str
