"""The command line without a mount: help, usage errors, sentences."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from objfs import __version__
from objfs.cli import main
from objfs.cli.commands import app
from objfs.cli.failure import describe_failure
from objfs.cli.help import CommandHelp, plain_command, render, walk
from objfs.cli.kernel_fuse import kernel_fuse_version
from objfs.cli.show import show_bytes, show_files, show_seconds, show_text
from objfs.errors import MountError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["mount"], "missing argument"),
        (["mount", "s3://b"], "missing argument"),
        (["mount", "s3://b", "/mnt", "--no-such"], "no such option"),
        (["mount", "s3://b", "/mnt", "--cache-size"], "requires an argument"),
        (["mount", "s3://b", "/mnt", "--cache-size", "many"], "--cache-size: 'many' is no size"),
        (["mount", "s3://b", "/mnt", "-o", "readonly"], "mount option 'readonly' is not known"),
        (["mount", "gopher://b", "/mnt"], "gopher"),
        (["mount", "bucket", "/mnt"], "s3://bucket/prefix"),
        (["mount", "s3://key:secret@b", "/mnt"], "credentials"),
        (["dismount", "/mnt"], "no such command"),
        (["status", "a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    argv: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OBJFS_RUNTIME_DIR", str(tmp_path))
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("objfs: ")
    assert err.count("\n") == 1
    assert text in err.lower()
    assert "secret" not in err


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) in (0, 2)
    assert "mount" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["mount", "--help"],
        ["umount", "--help"],
        ["status", "-h"],
        ["flush", "-h"],
        ["config", "-h"],
    ],
)
def test_help_of_everything(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert "Usage" in capsys.readouterr().out


def every_command() -> list[CommandHelp]:
    return list(walk(plain_command(app), "objfs"))


def test_commands_are_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for group in ("Mounts", "Changes on their way", "Settings and caches"):
        assert f"\n{group}\n" in out
    assert "Exit status: 0 done, 1 failed, 2 wrong usage." in out


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.path)
def test_help_fits_a_screen(command: CommandHelp) -> None:
    lines = render(command, 100, colour=False).splitlines()
    assert len(lines) <= 40, f"{len(lines)} lines"
    assert max(map(len, lines)) <= 100
    assert all(len(line) <= 60 or " " not in line.strip() for line in render(command, 60).splitlines())
    for section in command.sections:
        for row in section.rows:
            assert row.text, f"{command.path}: {row.names} says nothing"


def test_help_on_a_terminal_is_bold_unless_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    command = every_command()[0]
    assert "\x1b" not in render(command)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1mMounts" in render(command)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in render(command)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in render(command)


@pytest.mark.parametrize(
    "argv", [["status"], ["config", "show"], ["cache", "show"], ["--version"], ["--help"]]
)
def test_no_escape_sequences_without_a_terminal(argv: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "OBJFS_RUNTIME_DIR": str(tmp_path), "OBJFS_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "objfs", *argv], env=environment, capture_output=True, text=True, check=True
    )
    assert "\x1b" not in done.stdout + done.stderr


def test_shells_complete_commands() -> None:
    variables = {"_OBJFS_COMPLETE": "complete_bash", "COMP_WORDS": "objfs fl", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "objfs"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["flush"]


def test_version_by_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "objfs", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"objfs {__version__}\nPython 3.")
    assert re.search(r"FUSE protocol of the kernel 7\.\d+, libfuse 3\.\d+", done.stdout)
    for name in ("pyfuse3", "trio", "boto3", "botocore", "minio"):
        assert f"{name} {metadata.version(name)}" in done.stdout


def test_version_without_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objfs.cli.kernel_fuse._DEVICE", "/dev/null")
    assert kernel_fuse_version() is None


def test_help_does_not_load_the_sdks() -> None:
    program = (
        "import sys; from objfs.cli import main; main(['status', '--help']); "
        "sys.exit(bool({'boto3', 'trio', 'minio', 'pyfuse3'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_status_of_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OBJFS_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("objfs.mounts.read_mounts", lambda: [])
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "Nothing is mounted.\n"
    assert main(["status", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize("command", ["umount", "status"])
def test_what_is_not_mounted(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OBJFS_RUNTIME_DIR", str(tmp_path / "none"))
    assert main([command, str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"objfs: {tmp_path} is not mounted by objfs.\n"


def test_failures_become_sentences() -> None:
    group = ExceptionGroup(
        "several", [ValueError("inner"), ExceptionGroup("deep", [MountError("no\nroom.")])]
    )
    assert describe_failure(group) == (1, "no room.")
    assert describe_failure(UsageError("wrong.")) == (2, "wrong.")
    assert describe_failure(FileNotFoundError(2, "No such file", "/x")) == (1, "/x: No such file.")
    assert describe_failure(ZeroDivisionError("oops"))[1].startswith(
        "internal error (ZeroDivisionError: oops)"
    )


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert describe_failure(MountError("key \x1b[2J\u2028 is bad."))[1] == r"key \x1b[2J is bad."
    assert show_text("ünï ✓\x1b]0;title\x07") == r"ünï ✓\x1b]0;title\x07"


def test_quantities_for_people() -> None:
    assert [show_bytes(count) for count in (0, 1023, 1536, 5 * 1024**3)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]
    assert [show_seconds(s) for s in (-1, 59, 90, 7200, 200_000)] == [
        "0 s",
        "59 s",
        "2 min",
        "2.0 h",
        "2.3 d",
    ]
    assert [show_files(count) for count in (0, 1, 1234)] == ["0 files", "1 file", "1,234 files"]
