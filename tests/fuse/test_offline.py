"""A machine that starts again without its store: what was known and cached is there, and can be worked on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from objfs.vfs.remembering import KEEP_EVERY_S
from tests.fuse.gate import gated_mount
from tests.fuse.test_crowd import files_below

if TYPE_CHECKING:
    from tests import servers
    from tests.fuse.conftest import Bucket

TREE = {"docs/a.txt": b"a" * 5000, "docs/deep/b.txt": b"b", "other/c": b"c"}


@pytest.mark.parametrize("end", ["kill", "umount"])
def test_a_start_without_the_store(minio_bucket: Bucket, minio: servers.Server, end: str) -> None:
    for key, data in TREE.items():
        minio_bucket.store.put(key, data)
    with gated_mount(minio_bucket, minio, metadata_ttl="1s", store_timeout="5s") as (mount, gate):
        assert files_below(mount.path) == TREE
        (mount.path / "docs" / "a.txt").chmod(0o600)
        (mount.path / "ours").write_bytes(b"ours")
        (mount.path / "link").symlink_to("ours")
        mount.drain()
        if end == "kill":
            time.sleep(2 * KEEP_EVERY_S)
            mount.kill()
        else:
            mount.umount()
        gate.shut()
        mount.mount_again()
        assert files_below(mount.path) == {**TREE, "ours": b"ours", "link": b"ours"}
        assert (mount.path / "docs" / "a.txt").stat().st_mode == 0o100600
        assert not (mount.path / "docs" / "none").exists()
        (mount.path / "docs" / "a.txt").write_bytes(b"changed")
        (mount.path / "new").mkdir()
        (mount.path / "new" / "x").write_bytes(b"x")
        (mount.path / "other").rename(mount.path / "moved")
        changed = {"docs/a.txt": b"changed", "docs/deep/b.txt": b"b", "moved/c": b"c", "new/x": b"x"}
        changed |= {"ours": b"ours", "link": b"ours"}
        assert files_below(mount.path) == changed
        mount.kill()
        mount.mount_again()
        assert files_below(mount.path) == changed
        gate.open()
        minio_bucket.store.put("docs/theirs", b"theirs")
        mount.drain()
        time.sleep(8.0)
        assert files_below(mount.path) == {**changed, "docs/theirs": b"theirs"}
        mount.umount()
    objects = {key: data for key, data in minio_bucket.contents().items() if not key.endswith("/")}
    assert objects == {**changed, "docs/theirs": b"theirs"}
