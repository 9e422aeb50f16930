"""objfs under a booted systemd: boot, ready, crash, watchdog, store missing, stop, fstab, credentials."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import servers
from tests.systemd.conftest import CONFIG, UNIT, boots_machines
from tests.systemd.machine import AUTOFS, CHECKOUT

if TYPE_CHECKING:
    from tests.systemd.machine import Machine

pytestmark = boots_machines
DROP_INS = f"/etc/systemd/system/{UNIT}.service.d"


def active(machine: Machine) -> bool:
    return machine.show(UNIT, "ActiveState") == "active"


def restart(machine: Machine, more: str) -> None:
    """The same mount with other options."""
    machine.file("/etc/objfs/config.toml", CONFIG.format(more=more))
    machine.run("systemctl", "restart", UNIT)


def test_a_store_that_is_missing_at_boot(machine: Machine) -> None:
    machine.wait(lambda: "there is no such bucket or folder" in machine.journal())
    assert not active(machine)
    machine.run("mkdir", "-p", "/srv/objects")
    machine.wait(lambda: active(machine))
    machine.run("sh", "-c", "echo hello >/mnt/data/a")
    assert machine.run("findmnt", "-n", "-o", "FSTYPE", "/mnt/data").strip() == "fuse.objfs"


def test_ready_means_that_the_mount_answers(machine: Machine) -> None:
    for _ in range(3):
        machine.run("sh", "-c", f"systemctl restart {UNIT} && ls /mnt/data/a")
    assert machine.show(UNIT, "StatusText") == "everything is in the store"


def test_killed_it_comes_back_with_its_journal(machine: Machine) -> None:
    restart(machine, 'upload_delay = "1h"')
    machine.run("sh", "-c", "echo kept >/mnt/data/b")
    pid = machine.show(UNIT, "MainPID")
    machine.run("kill", "-9", pid)
    machine.wait(lambda: active(machine) and machine.show(UNIT, "MainPID") not in ("0", pid))
    assert machine.run("cat", "/mnt/data/b") == "kept\n"
    machine.run("objfs", "flush", "/mnt/data")
    assert machine.run("cat", "/srv/objects/b") == "kept\n"


def test_the_watchdog_ends_what_hangs(machine: Machine) -> None:
    machine.file(
        f"/etc/systemd/system/{UNIT}.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\nRestartSec=1\n",
    )
    machine.run("systemctl", "daemon-reload")
    restart(machine, "")
    pid = machine.show(UNIT, "MainPID")
    machine.run("kill", "-STOP", pid)
    machine.wait(lambda: active(machine) and machine.show(UNIT, "MainPID") not in ("0", pid))
    assert machine.run("cat", "/mnt/data/b") == "kept\n"
    assert machine.show(UNIT, "NRestarts") != "0"
    machine.run("rm", "-r", f"/etc/systemd/system/{UNIT}.service.d")
    machine.run("systemctl", "daemon-reload")


def test_stop_uploads_what_waits(machine: Machine) -> None:
    restart(machine, 'upload_delay = "1h"')
    machine.run("sh", "-c", "echo late >/mnt/data/late")
    machine.run("systemctl", "stop", UNIT)
    assert machine.run("cat", "/srv/objects/late") == "late\n"
    assert machine.show(UNIT, "Result") == "success"
    assert "objfs.life: all uploads are done" in machine.journal()


def test_stop_says_what_is_left(machine: Machine) -> None:
    restart(machine, 'upload_delay = "1h"\ndrain_timeout = "0s"')
    machine.run("sh", "-c", "echo rest >/mnt/data/rest")
    machine.run("systemctl", "stop", UNIT)
    assert "left in the journal for the next mount: 1 files, 5 bytes" in machine.journal()
    machine.run("objfs", "flush", "data")
    assert machine.run("cat", "/srv/objects/rest") == "rest\n"


def test_stop_takes_the_time_of_the_drain(machine: Machine) -> None:
    machine.file(f"/etc/systemd/system/{UNIT}.service.d/stop.conf", "[Service]\nTimeoutStopSec=6\n")
    machine.run("systemctl", "daemon-reload")
    restart(machine, 'upload_delay = "1h"\ndrain_timeout = "10s"')
    machine.run("sh", "-c", "echo rest >/mnt/data/slow; mv /srv/objects /srv/away; touch /srv/objects")
    before_s = time.monotonic()
    machine.run("systemctl", "stop", UNIT)
    assert time.monotonic() - before_s >= 10
    assert machine.show(UNIT, "Result") == "success", machine.journal()
    machine.run("sh", "-c", "rm /srv/objects; mv /srv/away /srv/objects")
    machine.run("objfs", "flush", "data")
    assert machine.run("cat", "/srv/objects/slow") == "rest\n"
    machine.run("rm", "-r", f"/etc/systemd/system/{UNIT}.service.d")
    machine.run("systemctl", "daemon-reload")


def test_wrong_settings_are_not_tried_again(machine: Machine) -> None:
    machine.file("/etc/objfs/config.toml", CONFIG.format(more="cache_sise = 1"))
    assert machine.try_run("systemctl", "start", UNIT).returncode != 0
    assert machine.show(UNIT, "ActiveState") == "failed"
    assert "'cache_sise' is not known, did you mean 'cache_size'?" in machine.journal()
    restart(machine, "")


def test_lines_of_fstab(machine: Machine) -> None:
    line = "file:///srv/other /mnt/other objfs _netdev,allow_other,umask=027,noauto 0 0\n"
    machine.run("mkdir", "-p", "/srv/other", "/mnt/other")
    machine.file("/etc/fstab", line)
    machine.run("systemctl", "daemon-reload")
    machine.run("mount", "/mnt/other")
    machine.file("/etc/fstab", line.replace(",noauto", ""))
    machine.run("mount", "-a")  # once more does no harm
    assert len(machine.run("findmnt", "-n", "/mnt/other").splitlines()) == 1
    machine.run("sh", "-c", "echo x >/mnt/other/x")
    machine.run("objfs", "umount", "/mnt/other")
    assert machine.run("cat", "/srv/other/x") == "x\n"
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "mnt-other.mount")
    assert machine.run("cat", "/mnt/other/x") == "x\n"
    machine.run("systemctl", "stop", "mnt-other.mount")
    wrong = machine.try_run("mount", "-t", "objfs", "-o", "sideways", "file:///srv/other", "/mnt/other")
    assert wrong.returncode in (1, 32)
    assert "mount.objfs: mount option 'sideways' is not known" in wrong.stderr


def test_automount(machine: Machine) -> None:
    if not Path(AUTOFS).exists():
        pytest.skip("this kernel has no autofs")
    machine.file("/etc/fstab", "file:///srv/other /mnt/auto objfs _netdev,noauto,x-systemd.automount 0 0\n")
    machine.run("mkdir", "-p", "/mnt/auto")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "mnt-auto.automount")
    assert machine.run("timeout", "30", "cat", "/mnt/auto/x") == "x\n"
    machine.run("systemctl", "stop", "mnt-auto.automount")


def test_credentials_passed_on_by_systemd(machine: Machine, minio: servers.Server) -> None:
    with servers.bucket_of(minio) as bucket:
        machine.file(
            "/etc/objfs/config.toml",
            f'[mounts.s3]\nurl = "s3://{bucket}"\nmountpoint = "/mnt/s3"\n'
            f'endpoint_url = "{minio.endpoint}"\n',
        )
        machine.file(
            "/etc/objfs/s3.credentials",
            f"[default]\naws_access_key_id = {servers.ACCESS_KEY}\n"
            f"aws_secret_access_key = {servers.SECRET_KEY}\n",
            0o600,
        )
        machine.file(
            "/etc/systemd/system/objfs@s3.service.d/credentials.conf",
            "[Service]\nLoadCredential=credentials:/etc/objfs/s3.credentials\n",
        )
        machine.run("mkdir", "-p", "/mnt/s3")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "objfs@s3")
        machine.run("sh", "-c", "echo x >/mnt/s3/x")
        machine.run("objfs", "flush", "/mnt/s3")
        assert machine.run("cat", "/mnt/s3/x") == "x\n"
        assert servers.SECRET_KEY not in machine.journal()
        assert servers.SECRET_KEY not in machine.run("ps", "-ef", "ww")
        machine.run("systemctl", "stop", "objfs@s3")


def test_how_exposed_it_is(machine: Machine) -> None:
    assert exposure(machine) <= 3.8


def test_as_a_user_without_other_rights(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    machine.file(f"{DROP_INS}/own-user.conf", (CHECKOUT / "systemd" / "own-user.conf").read_text())
    machine.file("/etc/fuse.conf", "user_allow_other\n")
    machine.run("systemd-sysusers")
    machine.run("chown", "-R", "objfs", "/srv/objects", "/mnt/data")
    machine.run("systemctl", "daemon-reload")
    restart(machine, 'upload_delay = "1h"')
    machine.run("sh", "-c", "echo own >/mnt/data/own")
    assert machine.run("ps", "-o", "user=", "-p", machine.show(UNIT, "MainPID")).strip() == "objfs"
    assert exposure(machine) <= 3.5
    machine.run("systemctl", "stop", UNIT)
    assert machine.run("stat", "-c", "%U %s", "/srv/objects/own").strip() == "objfs 4"
    assert machine.show(UNIT, "Result") == "success"
    assert machine.try_run("findmnt", "/mnt/data").returncode == 1
    machine.run("rm", "-r", DROP_INS)
    machine.run("chown", "-R", "root", "/srv/objects", "/mnt/data")
    machine.run("systemctl", "daemon-reload")


def exposure(machine: Machine) -> float:
    """What systemd-analyze says; the least is 0."""
    last = machine.run("systemd-analyze", "security", "--no-pager", f"{UNIT}.service").splitlines()[-1]
    return float(last.split(": ")[1].split(" ")[0])


def test_the_journal_can_be_read(machine: Machine) -> None:
    for line in machine.journal().splitlines():
        assert not line.startswith("<"), line
        assert "Traceback" not in line
        assert not re.match(r"\d{4}-\d\d-\d\dT", line), "the journal has the time already"
