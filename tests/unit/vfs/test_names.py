"""Which names may be made, and which keys may be shown."""

from __future__ import annotations

import errno

import pytest

from objfs.vfs.names import check_new_name, decode_name, is_showable


@pytest.mark.parametrize(
    "name", ["a", " a ", "a.", "\n", "é", "e\u0301", "x" * 255, "*.conflict-x", "x_$folder$"]
)
def test_good_names(name: str) -> None:
    assert is_showable(name)
    assert check_new_name(name.encode()) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "a/b", "x" * 256, "é" * 128, "\ud800"])
def test_keys_that_are_no_names(name: str) -> None:
    assert not is_showable(name)


@pytest.mark.parametrize(
    ("name", "number"), [(b"x" * 256, errno.ENAMETOOLONG), (b"\xff", errno.EILSEQ), (b"a\xc3", errno.EILSEQ)]
)
def test_names_that_cannot_be_made(name: bytes, number: int) -> None:
    with pytest.raises(OSError, match=r"name|UTF-8") as raised:
        check_new_name(name)
    assert raised.value.errno == number
    if number == errno.EILSEQ:
        assert decode_name(name) is None
