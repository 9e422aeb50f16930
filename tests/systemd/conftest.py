"""One booted machine for the tests of a module: some leave it with a mount that cannot start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.systemd.machine import Machine, a_machine, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT = "objfs@data"
CONFIG = """
[mounts.data]
url = "file:///srv/objects"
mountpoint = "/mnt/data"
{more}
"""

boots_machines = pytest.mark.skipif(
    not (os.environ.get("OBJFS_TEST_SYSTEMD") or os.environ.get("OBJFS_SOAK")),
    reason="boots containers, about a minute: make test-systemd",
)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine that boots with an enabled mount whose store is not there yet."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    with a_machine() as machine:
        machine.file("/etc/objfs/config.toml", CONFIG.format(more=""))
        (machine.root / "mnt" / "data").mkdir()
        wants = machine.root / "etc" / "systemd" / "system" / "multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / f"{UNIT}.service").symlink_to("/etc/systemd/system/objfs@.service")
        machine.boot()
        yield machine
