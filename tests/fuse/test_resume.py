"""A large upload that a kill, an unmount or an outage cuts short goes on where it was."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from objfs.upload.uploads import SAVE_EVERY_PARTS
from tests.fuse import proxy as faults
from tests.fuse.mounting import mounted
from tests.fuse.proxy import Proxy

if TYPE_CHECKING:
    from tests.fuse.conftest import Bucket
    from tests.fuse.proxy import Forward, Reply, Request
    from tests.servers import Server

MIB = 1 << 20
PARTS = 16  # of 8 MiB
ENOUGH = PARTS * 3 // 4  # that are sent before something happens
REFUSED_AFTER_S = 1.0
IN_FLIGHT = 4  # parts at once: their answers may be on the way
PATIENCE_S = 60.0


class Parts:
    """Parts of the file, as the proxy sees them come and their answers go; all but `most` have to wait."""

    def __init__(self, most: int) -> None:
        self.begun: set[int] = set()
        self.answered: set[int] = set()
        self._most = most
        self._lock = threading.Lock()

    def take(self, proxy: Proxy, request: Request, forward: Forward) -> Reply:
        """What becomes of a part."""
        number = int(parse_qs(urlsplit(request.target).query)["partNumber"][0])
        with self._lock:
            if number not in self.begun and len(self.begun) == self._most:
                number = 0
            else:
                self.begun.add(number)
        if not number:
            proxy.closing.wait(REFUSED_AFTER_S)
            return faults.status(503, "SlowDown")(proxy, request, forward)
        reply = forward(request)
        self.answered.add(number)
        return reply


@pytest.mark.parametrize("cut", ["kill", "unmount", "outage"])
def test_a_large_upload_goes_on_where_it_was(minio_bucket: Bucket, minio: Server, cut: str) -> None:
    data = os.urandom(PARTS * 8 * MIB)
    before, after = Parts(ENOUGH), Parts(PARTS)
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        environment = minio_bucket.environment
        with mounted(
            url, environment=environment, allow_errors=True, upload_delay="0s", store_timeout="5s"
        ) as mount:
            probed = proxy.seen["create"]
            proxy.rule("part", before.take, part="/f$")
            mount.path.joinpath("f").write_bytes(data)
            deadline = time.monotonic() + PATIENCE_S
            while len(before.answered) < ENOUGH:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            if cut == "kill":
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
            proxy.rule("part", after.take, part="/f$")
            done = mount.place.run("flush", str(mount.path))
            assert done.returncode == 0, done.stderr
            known = [int(count) for count in re.findall(r"goes on; (\d+) parts", mount.place.log_text())]
            assert known
            assert min(known) >= ENOUGH - IN_FLIGHT - SAVE_EVERY_PARTS
            assert len(after.begun) <= PARTS - min(known)
        assert proxy.seen["create"] <= 2 * probed + 1
    assert minio_bucket.contents() == {"f": data}
