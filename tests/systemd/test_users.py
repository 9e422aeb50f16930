"""Ordinary users: mounts by fusermount3, who may look in and take away, services of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.systemd.conftest import boots_machines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.systemd.machine import Machine

pytestmark = boots_machines
ANN, BOB = "ann", "bob"
FUSE_CONF = "/etc/fuse.conf"


@pytest.fixture(scope="module")
def users(machine: Machine) -> Machine:
    """The machine with two users, the first of whom has a folder as store, and a mountpoint."""
    machine.file(FUSE_CONF, "#user_allow_other\n")
    for user in (ANN, BOB):
        machine.add_user(user)
    machine.run("chmod", "755", "/home/ann")
    machine.run_as(ANN, "mkdir", "objects", "mnt")
    return machine


@pytest.fixture
def mounted(users: Machine) -> Iterator[Machine]:
    """Ann's mount, made by her."""
    assert users.run_as(ANN, "objfs", "mount", "file:///home/ann/objects", "mnt") == ""
    yield users
    if users.try_run("findmnt", "/home/ann/mnt").returncode == 0:
        users.run_as(ANN, "objfs", "umount", "mnt")


def test_a_user_mounts_and_unmounts(users: Machine) -> None:
    assert users.run_as(ANN, "stat", "-c", "%a %U", "/dev/fuse").strip() == "666 root"
    assert "u" in users.run("stat", "-c", "%A", "/usr/bin/fusermount3")[:4].replace("s", "u")
    users.run_as(ANN, "objfs", "mount", "file:///home/ann/objects", "mnt")
    users.run_as(ANN, "sh", "-c", "echo hi >mnt/a")
    assert users.run_as(ANN, "stat", "-c", "%U %G %a", "mnt/a").strip() == "ann ann 644"
    options = users.run("findmnt", "-n", "-o", "OPTIONS", "/home/ann/mnt")
    assert {"nosuid", "nodev", "default_permissions"} <= set(options.strip().split(","))
    assert "allow_other" not in options
    users.run_as(ANN, "objfs", "umount", "mnt")
    assert users.run_as(ANN, "cat", "objects/a") == "hi\n"
    assert users.try_run("findmnt", "/home/ann/mnt").returncode == 1


def test_nobody_else_looks_in(mounted: Machine) -> None:
    mounted.run_as(ANN, "sh", "-c", "echo mine >mnt/mine")
    for stranger in (mounted.try_as(BOB, "ls", "/home/ann/mnt"), mounted.try_run("ls", "/home/ann/mnt")):
        assert stranger.returncode != 0
        assert "Permission denied" in stranger.stderr


def test_nobody_else_takes_it_away_or_asks_it(mounted: Machine) -> None:
    for argv in (["fusermount3", "-u", "/home/ann/mnt"], ["objfs", "umount", "/home/ann/mnt"]):
        refused = mounted.try_as(BOB, *argv)
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
    assert "/home/ann/mnt" not in mounted.run_as(BOB, "objfs", "status")
    assert mounted.run_as(ANN, "ls", "mnt") != ""


def test_fusermount_uploads_what_waits(mounted: Machine) -> None:
    mounted.run_as(ANN, "sh", "-c", "echo late >mnt/late; fusermount3 -u mnt")
    mounted.wait(lambda: mounted.try_run("cat", "/home/ann/objects/late").stdout == "late\n")


def test_killed_it_is_mounted_again_by_the_same_command(mounted: Machine) -> None:
    mounted.run_as(ANN, "sh", "-c", "echo kept >mnt/kept")
    (status,) = json.loads(mounted.run_as(ANN, "objfs", "status", "--json"))
    mounted.run_as(ANN, "kill", "-9", str(status["pid"]))
    mounted.wait(lambda: "not connected" in mounted.try_as(ANN, "ls", "mnt").stderr)
    mounted.run_as(ANN, "objfs", "mount", "file:///home/ann/objects", "mnt")
    assert mounted.run_as(ANN, "cat", "mnt/kept") == "kept\n"


def test_allow_other_is_for_the_administrator_to_allow(users: Machine) -> None:
    refused = users.try_as(ANN, "objfs", "mount", "file:///home/ann/objects", "mnt", "--allow-other")
    assert refused.returncode == 1
    assert "needs the line 'user_allow_other' in /etc/fuse.conf" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_allow_other_lets_others_in_as_the_permissions_say(users: Machine) -> None:
    users.file(FUSE_CONF, "user_allow_other\n")
    users.run_as(ANN, "objfs", "mount", "file:///home/ann/objects", "mnt", "--allow-other")
    users.run_as(
        ANN, "sh", "-c", "echo all >mnt/all; echo own >mnt/own; chmod 600 mnt/own; mkdir -m 777 mnt/inbox"
    )
    assert users.run_as(BOB, "cat", "/home/ann/mnt/all") == "all\n"
    assert "Permission denied" in users.try_as(BOB, "cat", "/home/ann/mnt/own").stderr
    assert "Permission denied" in users.try_as(BOB, "sh", "-c", "echo x >/home/ann/mnt/all").stderr
    users.run_as(BOB, "sh", "-c", "echo hello >/home/ann/mnt/inbox/b")
    assert users.run_as(ANN, "stat", "-c", "%U", "mnt/inbox/b").strip() == BOB
    users.run_as(ANN, "objfs", "umount", "mnt")
    users.file(FUSE_CONF, "#user_allow_other\n")


def test_a_service_of_a_user(users: Machine) -> None:
    users.run_as(ANN, "mkdir", "-p", ".config/objfs", "service")
    users.file(
        "/home/ann/.config/objfs/config.toml",
        '[mounts.mine]\nurl = "file:///home/ann/objects"\nmountpoint = "~/service"\nupload_delay = "1h"\n',
    )
    users.run_as(ANN, "systemctl", "--user", "enable", "--now", "objfs@mine")
    users.run_as(ANN, "sh", "-c", "echo served >service/served")
    state = users.run_as(
        ANN, "systemctl", "--user", "show", "objfs@mine", "-p", "ActiveState,StatusText,Type"
    )
    assert "ActiveState=active" in state
    assert "Type=notify" in state
    pid = users.run_as(ANN, "systemctl", "--user", "show", "objfs@mine", "-p", "MainPID", "--value").strip()
    users.run("kill", "-9", pid)
    users.wait(lambda: users.try_as(ANN, "cat", "service/served").stdout == "served\n")
    users.run_as(ANN, "systemctl", "--user", "stop", "objfs@mine")
    assert users.run_as(ANN, "cat", "objects/served") == "served\n"
    result = users.run_as(ANN, "systemctl", "--user", "show", "objfs@mine", "-p", "Result", "--value").strip()
    assert result == "success"
    assert users.try_run("findmnt", "/home/ann/service").returncode == 1


def test_a_user_sees_the_versions(users: Machine) -> None:
    assert "FUSE protocol of the kernel 7." in users.run_as(ANN, "objfs", "--version")
