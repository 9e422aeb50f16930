"""The README's commands for services, run as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.readme import readme_commands
from tests.systemd.conftest import boots_machines

if TYPE_CHECKING:
    from tests.systemd.machine import Machine

pytestmark = boots_machines
USER = "reader"


def test_services_as_the_readme_tells(machine: Machine) -> None:
    machine.add_user(USER)
    machine.run("mkdir", "-p", "/srv/photos", "/mnt/photos")
    machine.file(
        "/etc/objfs/config.toml",
        '[mounts.photos]\nurl = "file:///srv/photos"\nmountpoint = "/mnt/photos"\n',
    )
    machine.run_as(USER, "mkdir", "-p", ".config/objfs", "mine", "objects")
    machine.file(
        f"/home/{USER}/.config/objfs/config.toml",
        f'[mounts.mine]\nurl = "file:///home/{USER}/objects"\nmountpoint = "~/mine"\n',
    )
    commands = readme_commands("tests/systemd/test_the_readme.py")
    assert len(commands) == 5
    for is_root, command in commands:
        if is_root:
            machine.run("sh", "-c", command)
        else:
            machine.run_as(USER, "sh", "-c", command)
    assert machine.run("findmnt", "-n", "-o", "FSTYPE", "/mnt/photos").strip() == "fuse.objfs"
    machine.run("systemctl", "disable", "--now", "objfs@photos")
