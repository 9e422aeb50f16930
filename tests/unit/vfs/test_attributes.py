"""Attributes in metadata: ours, s3fs', rclone's, and garbage."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objfs.store.values import ObjectInfo, Version
from objfs.vfs.attributes import (
    ID_LIMIT,
    TIME_LIMIT_NS,
    Attributes,
    Defaults,
    decode,
    decode_options,
    encode,
    metadata_bytes,
)

DEFAULTS = Defaults(uid=1, gid=2)
MODIFIED_NS = 1_600_000_000 * 10**9


def read(metadata: dict[str, str], *, directory: bool = False) -> Attributes:
    version = Version(etag="e", size_bytes=0)
    info = ObjectInfo(key="k", version=version, modified_ns=MODIFIED_NS, metadata=metadata)
    return decode(info, DEFAULTS, directory=directory)


times = st.integers(-TIME_LIMIT_NS + 1, TIME_LIMIT_NS - 1)
kinds = st.sampled_from([stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK])


@given(
    st.builds(
        Attributes,
        mode=st.builds(lambda kind, bits: kind | bits, kinds, st.integers(0, 0o7777)),
        uid=st.integers(0, ID_LIMIT),
        gid=st.integers(0, ID_LIMIT),
        mtime_ns=times,
        ctime_ns=times,
        atime_ns=times,
        xattrs=st.dictionaries(st.text(min_size=1, max_size=9), st.binary(max_size=20), max_size=3),
        foreign=st.dictionaries(st.sampled_from(["color", "md5chksum"]), st.text("abc", max_size=5)),
    )
)
def test_what_is_stored_is_what_is_read(attributes: Attributes) -> None:
    options = encode(attributes, "name.txt")
    again = decode_options(options, DEFAULTS, directory=False)
    attributes.content_type = options.content_type
    assert again == attributes
    assert metadata_bytes(options) > 0
    assert all(value.isascii() for value in options.metadata.values())


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("33188", 0o100644),  # s3fs: decimal with type
        ("100644", 0o100644),  # rclone: octal with type
        ("0100755", 0o100755),
        ("41471", stat.S_IFLNK | 0o777),
        ("0", 0o100644),
        ("-1", 0o100644),
        ("garbage", 0o100644),
        ("16877", 0o100644),  # a directory's, on a file
        ("99999999999999999999", 0o100644),
        ("24576", 0o100644),  # a block device
    ],
)
def test_modes(text: str, mode: int) -> None:
    assert read({"mode": text}).mode == mode


def test_a_directory_stays_one() -> None:
    assert read({"mode": "33188"}, directory=True).mode == 0o40755
    assert read({"mode": "16832"}, directory=True).mode == 0o40700


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "nan",
        "snan",
        "inf",
        "-inf",
        "1e400",
        "9" * 50,
        "253402300800",
        "-62135596800",
        "9e999999",
        "1e990000",
    ],
)
def test_times_nobody_can_show_fall_back(text: str) -> None:
    assert read({"mtime": text}).mtime_ns == MODIFIED_NS


@pytest.mark.parametrize(
    ("text", "ns"), [("1.5", 1_500_000_000), ("-1.25", -1_250_000_000), ("1700000000", 1_700_000_000 * 10**9)]
)
def test_times(text: str, ns: int) -> None:
    assert read({"mtime": text}).mtime_ns == ns


@pytest.mark.parametrize("text", ["-1", "4294967295", "1e3", "٣", "99999999999", "root"])
def test_strange_owners_fall_back(text: str) -> None:
    assert (read({"uid": text}).uid, read({"gid": text}).gid) == (1, 2)


@given(st.text(max_size=60))
def test_garbage_xattrs_are_none(text: str) -> None:
    assert isinstance(read({"xattr": text}).xattrs, dict)


def test_metadata_of_others_is_kept() -> None:
    attributes = read({"mode": "33188", "color": "blue", "objfs-upload": "t"})
    assert attributes.foreign == {"color": "blue"}
    assert encode(attributes, "f").metadata["color"] == "blue"
