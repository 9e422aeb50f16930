"""Why the unit has no more of systemd's hardening: each directive is tried, and breaks the mount."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.systemd.conftest import CONFIG, UNIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.systemd.machine import Machine

pytestmark = pytest.mark.skipif(not os.environ.get("OBJFS_SOAK"), reason="some minutes: make soak")
DROP_IN = f"/etc/systemd/system/{UNIT}.service.d/try.conf"
QUICK = "[Service]\nRestart=no\nTimeoutStartSec=15\nTimeoutStopSec=10\n"
NAMESPACED = [
    "ProtectSystem=yes",
    "ProtectSystem=full",
    "ProtectHome=read-only",
    "PrivateMounts=yes",
    "PrivateMounts=yes\nMountFlags=shared",
    "PrivateIPC=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectProc=invisible",
    "InaccessiblePaths=/media",
    "NoExecPaths=/srv",
    "ReadOnlyPaths=/usr",
]
REFUSED = [
    "CapabilityBoundingSet=",
    "SystemCallFilter=~@mount",
    "PrivateUsers=yes",
    "PrivateDevices=yes",
    "ProcSubset=pid",
    "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_INET6",
]
HARMLESS = ["IPAddressDeny=any\nIPAddressAllow=localhost", "MountFlags=shared"]


@pytest.fixture
def stopped(machine: Machine) -> Iterator[Machine]:
    """The machine with its mount stopped, and without the drop-in afterwards."""
    machine.file("/etc/objfs/config.toml", CONFIG.format(more=""))
    machine.run("mkdir", "-p", "/srv/objects")
    machine.run("systemctl", "stop", UNIT)
    yield machine
    machine.try_run("systemctl", "stop", UNIT)
    machine.run("rm", DROP_IN)
    machine.run("systemctl", "daemon-reload")
    machine.try_run("systemctl", "reset-failed", UNIT)


def start_with(machine: Machine, directive: str) -> bool:
    """Start with a directive more; whether that went well."""
    machine.file(DROP_IN, f"{QUICK}{directive}\n")
    machine.run("systemctl", "daemon-reload")
    return machine.try_run("systemctl", "start", UNIT).returncode == 0


def seen(machine: Machine) -> bool:
    """Whether others see the mount."""
    return machine.try_run("findmnt", "/mnt/data").returncode == 0


@pytest.mark.parametrize("directive", NAMESPACED)
def test_a_mount_namespace_hides_the_mount(stopped: Machine, directive: str) -> None:
    assert start_with(stopped, directive)
    assert not seen(stopped)


@pytest.mark.parametrize("directive", REFUSED)
def test_it_does_not_start(stopped: Machine, directive: str) -> None:
    assert not start_with(stopped, directive)
    assert not seen(stopped)


@pytest.mark.parametrize("directive", HARMLESS)
def test_it_works(stopped: Machine, directive: str) -> None:
    assert start_with(stopped, directive)
    assert seen(stopped)
