"""A large upload that a kill, an unmount or an outage cuts short goes on where it was."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from tests.fuse import proxy as faults
from tests.fuse.mounting import mounted
from tests.fuse.proxy import Proxy

if TYPE_CHECKING:
    from tests.fuse.conftest import Bucket
    from tests.servers import Server

MIB = 1 << 20
PARTS = 16  # of 8 MiB
PATIENCE_S = 60.0


@pytest.mark.parametrize("cut", ["kill", "unmount", "outage"])
def test_a_large_upload_goes_on_where_it_was(minio_bucket: Bucket, minio: Server, cut: str) -> None:
    data = os.urandom(PARTS * 8 * MIB)
    with Proxy(minio.host) as proxy:
        proxy.rule("part", faults.late(0.4))
        url = minio_bucket.url.replace(minio.host, proxy.host)
        environment = minio_bucket.environment
        with mounted(
            url, environment=environment, allow_errors=True, upload_delay="0s", store_timeout="5s"
        ) as mount:
            probed = proxy.seen["create"]
            mount.path.joinpath("f").write_bytes(data)
            deadline = time.monotonic() + PATIENCE_S
            while proxy.seen["part"] < PARTS * 3 // 4:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if cut == "kill":
                time.sleep(0.5)
                mount.kill()
                mount.mount_again()
            elif cut == "unmount":
                assert mount.place.run("umount", "--no-drain", str(mount.path)).returncode == 0
                mount.mount_again()
            else:
                proxy.heal()
                proxy.rule(faults.ANY, faults.status(503, "SlowDown"))
                time.sleep(8.0)
                proxy.heal()
            before = proxy.seen["part"]
            done = mount.place.run("flush", str(mount.path))
            assert done.returncode == 0, done.stderr
            assert proxy.seen["part"] - before < PARTS * 3 // 4, proxy.seen
            assert "goes on" in mount.place.log_text()
        assert proxy.seen["create"] <= 2 * probed + 1
    assert minio_bucket.contents() == {"f": data}
