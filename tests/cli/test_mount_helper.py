"""`mount.objfs`, as mount(8) calls it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from objfs import mounts
from objfs.cli import mount_helper
from objfs.cli.mounting import checks
from objfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["s3://b", "/mnt", "-o", "rw,uid=5"], ("s3://b", "/mnt", ["rw,uid=5"], False)),
        (["s3://b", "/mnt", "-sv", "-o", "a", "-o", "b"], ("s3://b", "/mnt", ["a", "b"], False)),
        (["s3://b", "/mnt", "-f"], ("s3://b", "/mnt", [], True)),
        (["-t", "objfs", "s3://b", "/mnt", "-n", "-r"], ("s3://b", "/mnt", ["ro"], False)),
    ],
)
def test_arguments(argv: list[str], expected: tuple[object, ...]) -> None:
    assert mount_helper.parse(argv) == expected


@pytest.mark.parametrize("argv", [[], ["a"], ["a", "b", "c"], ["a", "b", "-o"], ["a", "b", "-x"]])
def test_wrong_arguments(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError):
        mount_helper.parse(argv)
    assert mount_helper.main(argv) == 1
    assert capsys.readouterr().err.startswith("mount.objfs: ")


def test_exit_statuses_are_those_of_mount(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answers = [0, 1, 2, 0]

    def mount(_target: str, _place: Path, _flags: Mapping[str, str], _options: Sequence[str]) -> int:
        return answers.pop(0)

    assert mount_helper.main(["memory://", str(tmp_path), "-o", "sideways"]) == 1
    assert mount_helper.main(["memory://", str(tmp_path / "none")]) == 32
    assert capsys.readouterr().err.count("\n") == 2
    monkeypatch.setattr("objfs.cli.mounting.mount.mount", mount)
    for expected in (0, 32, 1):
        assert mount_helper.main(["memory://", "/mnt"]) == expected
    assert mount_helper.main(["memory://", "/mnt", "-f"]) == 0


def test_an_automount_is_not_looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = mounts.MountEntry(
        mountpoint=tmp_path / "none", device="0:40", fs_type="autofs", source="systemd-1"
    )
    monkeypatch.setattr(mounts, "find_mount", lambda _path: entry)
    checks.check_mountpoint(tmp_path / "none", nonempty=False)
