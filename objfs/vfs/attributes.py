"""Attributes of files and directories, and their form in object metadata.

Names are those of s3fs-fuse and rclone: `mode` (decimal st_mode), `uid`, `gid`, `mtime`, `ctime`, `atime`
(decimal seconds with fraction), `xattr` (url-encoded JSON of base64 values).
"""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import stat
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from objfs.codec.marks import MARKS, content_version
from objfs.store.values import ObjectInfo, PutOptions, Version
from objfs.upload.operations import TOKEN_METADATA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from objfs.vfs.values import SetAttributes

DIRECTORY_TYPE = "application/x-directory"  # as s3fs and others mark directories
OWN_NAMES = frozenset({"mode", "uid", "gid", "mtime", "ctime", "atime", "xattr", TOKEN_METADATA}) | MARKS
TIME_LIMIT_NS = 2**63  # about the years 1678 to 2262: what a signed 64-bit nanosecond field can hold
ID_LIMIT = 2**32 - 2  # uid_t, without the "no change" value
NS = 1_000_000_000
_NO_VERSION = Version(etag="", size_bytes=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What objects of other tools are shown with; `time_ns` where the store tells no time either."""

    uid: int
    gid: int
    umask: int = 0o022
    time_ns: int = 0

    @property
    def file_mode(self) -> int:
        """st_mode of a file without attributes."""
        return stat.S_IFREG | (0o666 & ~self.umask)

    @property
    def directory_mode(self) -> int:
        """st_mode of a directory without attributes."""
        return stat.S_IFDIR | (0o777 & ~self.umask)


@dataclass(slots=True, kw_only=True)
class Attributes:
    """POSIX attributes; `mode` with its type bits. `foreign` is other tools' metadata, kept as it is.

    What the store is not known to have of `cache_control`, `tags` and `encryption` is None: copies keep it.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    xattrs: dict[str, bytes] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    content_encoding: str | None = None
    storage_class: str | None = None
    cache_control: str | None = None
    tags: Mapping[str, str] | None = None
    encryption: str | None = None

    def copied(self) -> Attributes:
        """The same, to be changed by itself."""
        return replace(self, xattrs=dict(self.xattrs), foreign=dict(self.foreign))

    def touch(self, *, content: bool) -> None:
        """Now is the time of the last change: of the status and, with `content`, of the bytes."""
        self.ctime_ns = time.time_ns()
        if content:
            self.mtime_ns = self.ctime_ns

    def apply(self, wanted: SetAttributes) -> bool:
        """Put what is wanted in; returns whether anything is to be stored."""
        asked = False
        if wanted.mode is not None:
            self.mode = stat.S_IFMT(self.mode) | stat.S_IMODE(wanted.mode)
            asked = True
        for name in ("uid", "gid", "atime_ns", "mtime_ns"):
            value = getattr(wanted, name)
            if value is not None:
                setattr(self, name, nearest_time(value) if name.endswith("_ns") else value)
                asked = True
        if asked:
            self.touch(content=False)
        return asked


def nearest_time(ns: int) -> int:
    """The nearest time that can be stored: as on any file system, farther ones are not kept (inode(7))."""
    return max(1 - TIME_LIMIT_NS, min(ns, TIME_LIMIT_NS - 1))


def fresh_attributes(mode: int, uid: int, gid: int) -> Attributes:
    """Attributes of something made now."""
    now = time.time_ns()
    return Attributes(mode=mode, uid=uid, gid=gid, mtime_ns=now, ctime_ns=now, atime_ns=now)


def default_attributes(defaults: Defaults, *, directory: bool, modified_ns: int) -> Attributes:
    """Attributes of what carries none of its own."""
    mode = defaults.directory_mode if directory else defaults.file_mode
    modified_ns = modified_ns or defaults.time_ns
    return Attributes(
        mode=mode,
        uid=defaults.uid,
        gid=defaults.gid,
        mtime_ns=modified_ns,
        ctime_ns=modified_ns,
        atime_ns=modified_ns,
    )


def decode(info: ObjectInfo, defaults: Defaults, *, directory: bool) -> Attributes:
    """Attributes out of an object's facts; whatever cannot be understood falls back to the default."""
    metadata = info.metadata or {}
    plain = default_attributes(defaults, directory=directory, modified_ns=info.modified_ns)
    mtime_ns = _time(metadata.get("mtime"), plain.mtime_ns)
    return Attributes(
        mode=_mode(metadata.get("mode"), plain.mode),
        uid=_id(metadata.get("uid"), plain.uid),
        gid=_id(metadata.get("gid"), plain.gid),
        mtime_ns=mtime_ns,
        ctime_ns=_time(metadata.get("ctime"), mtime_ns),
        atime_ns=_time(metadata.get("atime"), mtime_ns),
        xattrs=_decode_xattrs(metadata.get("xattr")),
        foreign={name: value for name, value in metadata.items() if name not in OWN_NAMES},
        content_type=info.content_type,
        # What is shown decompressed is no encoded file; its form travels with the version.
        content_encoding=None if content_version(info).decoded_bytes is not None else info.content_encoding,
        storage_class=info.storage_class,
    )


def decode_options(options: PutOptions, defaults: Defaults, *, directory: bool) -> Attributes:
    """Attributes out of a journaled operation."""
    info = ObjectInfo(
        key="",
        version=_NO_VERSION,
        metadata=options.metadata,
        content_type=options.content_type,
        content_encoding=options.content_encoding,
        storage_class=options.storage_class,
    )
    return decode(info, defaults, directory=directory)


def encode(attributes: Attributes, name: str) -> PutOptions:
    """How an object with these attributes is to be stored; `name` decides the type of new files."""
    metadata = dict(attributes.foreign)
    metadata["mode"] = str(attributes.mode)
    metadata["uid"] = str(attributes.uid)
    metadata["gid"] = str(attributes.gid)
    metadata["mtime"] = _time_text(attributes.mtime_ns)
    metadata["ctime"] = _time_text(attributes.ctime_ns)
    metadata["atime"] = _time_text(attributes.atime_ns)
    if attributes.xattrs:
        metadata["xattr"] = _encode_xattrs(attributes.xattrs)
    return PutOptions(
        metadata=metadata,
        content_type=attributes.content_type or _content_type(attributes.mode, name),
        content_encoding=attributes.content_encoding,
        storage_class=attributes.storage_class,
        cache_control=attributes.cache_control,
        tags=attributes.tags,
        encryption=attributes.encryption,
    )


def forget_guessed_type(attributes: Attributes, name: str) -> None:
    """A type that was guessed by a name goes with the name."""
    if attributes.content_type == _content_type(attributes.mode, name):
        attributes.content_type = None


def metadata_bytes(options: PutOptions) -> int:
    """Bytes of names and values together, as stores count them."""
    return sum(len(name) + len(value) for name, value in options.metadata.items())


def _content_type(mode: int, name: str) -> str:
    if stat.S_ISDIR(mode):
        return DIRECTORY_TYPE
    if not stat.S_ISREG(mode):
        return "application/octet-stream"
    return mimetypes.guess_type(name, strict=False)[0] or "application/octet-stream"


def _mode(text: str | None, default: int) -> int:
    """Decimal st_mode (s3fs), octal with type (rclone), or bare permission bits; the type must fit."""
    for base in (10, 8):
        try:
            mode = int(text or "", base)
        except ValueError:
            continue
        if 0 <= mode < 0o200000 and stat.S_IFMT(mode) in _TYPES:
            same_kind = stat.S_ISDIR(mode) == stat.S_ISDIR(default)
            return mode if same_kind else default
    return default


def _id(text: str | None, default: int) -> int:
    value = int(text) if text and text.isascii() and text.isdigit() and len(text) < 11 else default
    return value if value <= ID_LIMIT else default


def _time(text: str | None, default_ns: int) -> int:
    if not text or len(text) > 40:
        return default_ns
    try:
        ns = Decimal(text) * NS
        is_near = -TIME_LIMIT_NS < ns < TIME_LIMIT_NS
    except ArithmeticError:
        return default_ns
    return int(ns) if is_near else default_ns  # of a far one, that would take minutes


def _time_text(ns: int) -> str:
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    return f"{sign}{ns // NS}.{ns % NS:09d}"


def _decode_xattrs(text: str | None) -> dict[str, bytes]:
    if not text:
        return {}
    try:
        found = json.loads(unquote(text))
        return {str(name): base64.b64decode(value, validate=True) for name, value in found.items()}
    except (ValueError, TypeError, AttributeError, binascii.Error):
        return {}


def _encode_xattrs(xattrs: Mapping[str, bytes]) -> str:
    plain = {name: base64.b64encode(value).decode() for name, value in sorted(xattrs.items())}
    return quote(json.dumps(plain, separators=(",", ":")), safe="")


_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK})
