"""A mount by its name in a configuration file, with credentials out of a file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests import servers
from tests.fuse.mounting import a_place

if TYPE_CHECKING:
    import pytest

    from tests.fuse.conftest import Bucket

SECTION = """
[mounts.here]
url = "{url}"
mountpoint = "{mountpoint}"
credentials_file = "{credentials}"
upload_delay = "1h"
"""


def check(bucket: Bucket) -> None:
    """Mount by name, with credentials of the file alone; the environment's are wrong."""
    with a_place(environment={**bucket.environment, "AWS_ACCESS_KEY_ID": "nobody"}) as place:
        credentials = place.folder / "credentials"
        credentials.touch(0o600)
        credentials.write_text(
            f"[default]\naws_access_key_id = {servers.ACCESS_KEY}\n"
            f"aws_secret_access_key = {servers.SECRET_KEY}\n"
        )
        config = place.folder / "config.toml"
        config.write_text(
            SECTION.format(url=bucket.url, mountpoint=place.mountpoint, credentials=credentials)
        )
        place = replace(place, environment={**place.environment, "OBJFS_CONFIG": str(config)})
        folders = ["--cache-dir", str(place.cache), "--log-file", str(place.log)]
        done = place.run("mount", "here", *folders)
        assert (done.returncode, done.stderr) == (0, "")
        (place.mountpoint / "a").write_text("a")
        done = place.run("flush", "here", *folders[:2])
        assert (done.returncode, done.stdout) == (0, f"{place.mountpoint}: everything is in the store.\n")
        assert bucket.contents() == {"a": b"a"}
        assert place.run("status", "here").returncode == 0
        assert place.run("umount", "here").returncode == 0
        assert servers.SECRET_KEY not in place.log_text()


def test_mount_by_name_s3(s3_bucket: Bucket) -> None:
    check(s3_bucket)


def test_mount_by_name_minio(minio_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    check(minio_bucket)
