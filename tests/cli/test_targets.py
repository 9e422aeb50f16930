"""What `flush` and `rescue` find: caches of mounts that are gone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from objfs import mounts
from objfs.cli.settings import read_settings
from objfs.cli.targets import Left, find_target
from objfs.config import RECORD_NAME, read_record, write_record
from objfs.errors import MountError, UsageError


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No mount, no configuration and no endpoint but the test's own."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "OBJFS_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OBJFS_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("OBJFS_RUNTIME_DIR", str(tmp_path / "run"))


def left(tmp_path: Path, url: str, mountpoint: str, **flags: str) -> Path:
    """A cache as a mount leaves it."""
    flags["cache_dir"] = str(tmp_path / "cache")
    settings = read_settings(url, tmp_path / mountpoint, flags, [])
    settings.cache_path.mkdir(parents=True)
    write_record(settings)
    return settings.cache_path


def find(tmp_path: Path, name: str) -> Left:
    found = find_target(name, {"cache_dir": str(tmp_path / "cache")})
    assert isinstance(found, Left)
    return found


def test_by_mountpoint_and_by_url(tmp_path: Path) -> None:
    cache_path = left(tmp_path, "s3://b/p", "mnt", profile="me", region="here")
    settings = find(tmp_path, str(tmp_path / "mnt")).settings
    assert (settings.url, settings.profile, settings.region) == ("s3://b/p", "me", "here")
    assert settings.cache_path == cache_path == find(tmp_path, "s3://b/p").settings.cache_path
    with pytest.raises(MountError, match="no cache below"):
        find(tmp_path, str(tmp_path / "other"))


def test_a_dead_mount_with_its_cache_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MountError, match="is not mounted by objfs, and no cache"):
        find(tmp_path, str(tmp_path / "mnt"))
    monkeypatch.setattr(mounts, "is_dead", lambda _path: True)
    with pytest.raises(MountError, match=r"has lost its objfs, and no cache below .* with --cache-dir"):
        find(tmp_path, str(tmp_path / "mnt"))


def test_a_power_loss_leaves_the_old_record_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is found by it: the new one is durable before it takes the name."""
    cache_path = left(tmp_path, "s3://b/p", "mnt")
    synced: list[Path] = []
    sync, replace_it = os.fsync, Path.replace

    def syncing(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    def replacing(path: Path, target: Path) -> Path:
        assert synced == [path]
        return replace_it(path, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", replacing)
    write_record(find(tmp_path, "s3://b/p").settings)
    assert synced[1:] == [cache_path]
    assert read_record(cache_path) is not None


def test_the_endpoint_of_that_time_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    left(tmp_path, "s3://b", "mnt")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert find(tmp_path, str(tmp_path / "mnt")).settings.endpoint_url == "http://127.0.0.1:1"


def test_another_store_never_gets_what_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, "s3://b", "mnt")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UsageError, match=r"belongs to s3://b/, but now s3://b/ at http://127.0.0.1:1 is"):
        find(tmp_path, str(tmp_path / "mnt"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "url": 5}'])
def test_damaged_records_are_no_records(text: str, tmp_path: Path) -> None:
    path = left(tmp_path, "s3://b", "mnt")
    record = read_record(path)
    assert record is not None
    assert replace(record, written_s=0.0).mountpoint == tmp_path / "mnt"
    (path / RECORD_NAME).write_text(text)
    assert read_record(path) is None
