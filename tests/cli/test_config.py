"""Settings: parsers, `-o` options, merging."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from objfs.cli.mounting import commands
from objfs.config import SETTING_NAMES, build_settings, parse_duration, parse_size, split_mount_options
from objfs.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64k", 64 * 1024),
        ("500M", 500 * 1024**2),
        ("500MB", 500 * 1000**2),
        ("10GiB", 10 * 1024**3),
        ("1.5G", 3 * 1024**3 // 2),
        (" 2 TiB ", 2 * 1024**4),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "G", "-1", "1X", "1e3", "1,5G", "1 2"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("1.5", 1.5), ("1d", 86400)],
)
def test_times(text: str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1s", "5 weeks"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_duration(text)


def test_mount_options_of_fstab() -> None:
    options = [
        "_netdev,nofail,x-systemd.automount,user",
        "ro,uid=5,cache-size=1G,allow_other,noexec,nosuid,noatime",
    ]
    assert split_mount_options(options) == {
        "read_only": "yes",
        "uid": "5",
        "cache_size": "1G",
        "allow_other": "yes",
        "kernel_options": "noexec nosuid",
    }


def test_last_of_ro_and_rw_counts() -> None:
    assert split_mount_options(["ro,rw"]) == {"read_only": "no"}


def test_unknown_mount_option_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'cache_sise' is not known, did you mean 'cache_size'\?"):
        split_mount_options(["cache_sise=1G"])


def test_later_layers_win() -> None:
    settings = build_settings("memory://", Path("/mnt"), [{"uid": "1", "umask": "027"}, {"uid": "2"}])
    assert (settings.uid, settings.umask) == (2, 0o027)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cache_size", "1K"),
        ("memory_limit", "1M"),
        ("write_mode", "sideways"),
        ("umask", "999"),
        ("uid", "root"),
        ("read_only", "perhaps"),
        ("endpoint_url", "https://me:secret@host"),
        ("endpoint_url", "host:9000"),
        ("log_level", "loud"),
        ("profile", ""),
    ],
)
def test_wrong_values_name_their_option(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"^--{name.replace('_', '-')}: ") as caught:
        build_settings("memory://", Path("/mnt"), [{name: text}])
    assert "secret" not in str(caught.value)


def test_caches_of_different_stores_are_different() -> None:
    one = build_settings("s3://bucket/a b", Path("/mnt"), [{"cache_dir": "/c", "log_file": "/l"}])
    other = build_settings("s3://bucket/a-b", Path("/mnt"), [{"cache_dir": "/c"}])
    assert one.cache_path != other.cache_path
    assert one.cache_path.name.startswith("s3-bucket-a-b-")
    assert one.cache_path.parent == Path("/c")
    assert one.log_path == Path("/l")


def test_every_flag_is_a_setting_and_the_other_way_round() -> None:
    flags = set(inspect.signature(commands.mount).parameters) - {"url", "mountpoint", "options"}
    assert flags - {"compress"} == SETTING_NAMES - {"nonempty", "kernel_options", "rules"}
