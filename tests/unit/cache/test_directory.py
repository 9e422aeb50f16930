"""The cache directory: one owner, one process, one format."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from objfs_cache.directory import (
    FORMAT_VERSION,
    CacheBusyError,
    CacheError,
    CacheFormatError,
    CacheUnsafeError,
    open_cache_directory,
    peek_cache_directory,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_made_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    with open_cache_directory(tmp_path / "cache") as directory:
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        assert directory.staging_path.is_dir()
        assert directory.journal_path.parent.is_dir()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        open_cache_directory(tmp_path / "cache"),
        pytest.raises(CacheBusyError, match="in use"),
        open_cache_directory(tmp_path / "cache"),
    ):
        pass
    with open_cache_directory(tmp_path / "cache"):
        pass


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with open_cache_directory(tmp_path / "cache"):
        pass
    (tmp_path / "cache" / "format").write_text(f"{FORMAT_VERSION + 1}\n")
    with pytest.raises(CacheFormatError, match="newer objfs"), open_cache_directory(tmp_path / "cache"):
        pass


def test_no_symlinks_and_no_files(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(CacheUnsafeError), open_cache_directory(tmp_path / name):
            pass


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache" / "lock").mkdir(parents=True)
    refused = pytest.raises(CacheError, match=r"cannot be used: Is a directory\.$")
    with refused, open_cache_directory(tmp_path / "cache"):
        pass


def test_read_without_a_change(tmp_path: Path) -> None:
    """As on a disk that is full or read-only."""
    with open_cache_directory(tmp_path):
        pass
    (tmp_path / "staging").rmdir()
    before = sorted(tmp_path.rglob("*"))
    with peek_cache_directory(tmp_path) as directory:
        assert directory.path == tmp_path
        with pytest.raises(CacheBusyError), open_cache_directory(tmp_path):
            pass
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "format").write_text(f"{FORMAT_VERSION + 1}\n")
    with pytest.raises(CacheFormatError), peek_cache_directory(tmp_path):
        pass
