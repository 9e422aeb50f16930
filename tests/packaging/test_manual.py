"""The manual page says what `--help` says, and is well-formed; completions are those of the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from objfs.cli.commands import app
from objfs.cli.help import plain_command, walk
from objfs.cli.manual import manual

COMPLETIONS = Path(__file__).parents[2] / "objfs" / "share" / "completions"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("man") / "objfs.1"
    path.write_text(manual())
    return path


def test_mandoc_finds_nothing(page: Path) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "all", str(page)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_it_names_every_command_and_option(page: Path) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=200", str(page)], capture_output=True, text=True, check=True
    )
    shown = "".join(
        char for index, char in enumerate(done.stdout) if done.stdout[index + 1 : index + 2] != "\b"
    )
    text = shown.replace("\b", "")
    for command in walk(plain_command(app), "objfs", everything=True):
        assert command.path in text
        if "COMMAND" in command.synopsis:
            continue
        for section in command.sections:
            for row in section.rows:
                assert row.names in text, f"{command.path} {row.names}"
    for heading in ("EXIT STATUS", "ENVIRONMENT", "FILES", "CONFIGURATION", "EXAMPLES"):
        assert f"\n{heading}\n" in text


def test_it_can_be_made_twice_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert manual() == manual()
    assert '"2023-11-14"' in manual()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_files_are_what_the_command_would_install(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "objfs"],
        env={**os.environ, "_OBJFS_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (COMPLETIONS / f"objfs.{shell}").read_text().split() == done.stdout.split()


def test_bash_completes() -> None:
    script = (
        f"source {COMPLETIONS}/objfs.bash; objfs() {{ {sys.executable} -m objfs; }}; "
        f"COMP_WORDS=(objfs um); COMP_CWORD=1; _objfs_completion {Path(sys.executable).parent}/objfs; "
        "echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "umount\n"
