"""Wrong command lines, files and variables: each is one sentence on stderr, status 1 or 2, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE, FAILED = 2, 1
FULL = Path("/dev/full")

# A word that begins with "@" is a path below the test's folder.
WRONG: list[tuple[list[str], int, str]] = [
    # commands and options
    (["dismount", "/mnt"], USAGE, "no such command 'dismount'"),
    ([""], USAGE, "no such command ''"),
    (["--no-such"], USAGE, "no such option: --no-such"),
    (["pin", ""], USAGE, "an empty path names nothing"),
    (["flush", ""], USAGE, "an empty word names no mount"),
    (["status", "-q"], USAGE, "no such option: -q"),
    (["status", "a", "b"], USAGE, "unexpected extra argument"),
    (["status", "--json=3"], USAGE, "does not take a value"),
    (["cache"], USAGE, "missing command. see 'objfs cache --help'"),
    (["config", "edit"], USAGE, "no such command 'edit'. see 'objfs config --help'"),
    (["umount"], USAGE, "missing argument 'mountpoint'"),
    (["mount"], USAGE, "missing argument 'url|name'"),
    (["mount", "s3://b"], USAGE, "missing argument 'mountpoint'"),
    (["mount", "s3://b", "/mnt", "more"], USAGE, "unexpected extra argument"),
    (["mount", "s3://b", "@mnt", "--cache-size"], USAGE, "requires an argument"),
    # URLs
    (["mount", "", "@mnt"], USAGE, "''"),
    (["mount", "s3://", "@mnt"], USAGE, "s3://"),
    (["mount", "gopher://b", "@mnt"], USAGE, "gopher:// is not known"),
    (["mount", "s3:/bucket", "@mnt"], USAGE, "s3:/bucket"),
    (["mount", "s3://key:hunter2@bucket", "@mnt"], USAGE, "credentials"),
    (["mount", "minio://host:port/bucket", "@mnt"], USAGE, "port"),
    (["mount", "minio://host", "@mnt"], USAGE, "names no bucket"),
    (["mount", "file://relative", "@mnt"], USAGE, "file://"),
    (["mount", "memory://", "@mnt", "--endpoint-url", "minio.example.org"], USAGE, "--endpoint-url"),
    (["mount", "memory://", "@mnt", "--endpoint-url", "https://me:hunter2@host"], USAGE, "--endpoint-url"),
    # values
    (["mount", "memory://", "@mnt", "--cache-size", "many"], USAGE, "--cache-size: 'many' is no size"),
    (["mount", "memory://", "@mnt", "--cache-size", "-1"], USAGE, "--cache-size: '-1' is no size"),
    (["mount", "memory://", "@mnt", "--cache-size", "1K"], USAGE, "the least is 1mib"),
    (["mount", "memory://", "@mnt", "--cache-size", ""], USAGE, "--cache-size"),
    (["mount", "memory://", "@mnt", "--memory-limit", "1M"], USAGE, "the least is 16mib"),
    (["mount", "memory://", "@mnt", "--metadata-ttl", "soon"], USAGE, "'soon' is no time"),
    (["mount", "memory://", "@mnt", "--metadata-ttl", "5 parsecs"], USAGE, "is no time"),
    (["mount", "memory://", "@mnt", "--write-mode", "sideways"], USAGE, "back, through"),
    (["mount", "memory://", "@mnt", "--fsync", "never"], USAGE, "local, remote"),
    (["mount", "memory://", "@mnt", "--uid", "root"], USAGE, "--uid: 'root' is no number"),
    (["mount", "memory://", "@mnt", "--umask", "999"], USAGE, "--umask: '999' is no umask"),
    (["mount", "memory://", "@mnt", "--log-level", "loud"], USAGE, "--log-level"),
    (["mount", "memory://", "@mnt", "--credentials-file", "@none"], USAGE, "cannot be used: no such file"),
    (["mount", "memory://", "@mnt", "--credentials-file", "@open"], USAGE, "chmod 600"),
    (["mount", "memory://", "@mnt", "-o", "readonly"], USAGE, "'readonly' is not known, did you mean"),
    (["mount", "memory://", "@mnt", "-o", "cache_size"], USAGE, "is no size"),
    # places
    (["mount", "memory://", ""], USAGE, "mountpoint"),
    (["mount", "memory://", "@none"], FAILED, "does not exist; create it with mkdir"),
    (["mount", "memory://", "@file"], FAILED, "is not a directory"),
    (["mount", "memory://", "@full"], FAILED, "is not empty"),
    (["mount", "file://@", "@mnt"], USAGE, "contain one another"),
    (["umount", "@mnt"], FAILED, "is not mounted by objfs"),
    (["status", "@mnt"], FAILED, "is not mounted by objfs"),
    (["cache", "clear", "nobody"], FAILED, "no cache below"),
    (["flush", "nobody"], FAILED, "no cache below"),
    (["mount", "nobody"], USAGE, "nobody"),
    # the rest
    (["remount", "@mnt"], USAGE, "missing option '-o'"),
    (["remount", "@mnt", "-o", "nonsense"], USAGE, "'nonsense' is not known"),
    (["mount", "memory://", "@mnt", "--metrics", "nonsense"], USAGE, "no place for metrics"),
    (["mount", "memory://", "@mnt", "--limit-upload", "fast"], USAGE, "'fast' is no rate"),
    (["mount", "memory://", "@mnt", "--log-format", "xml"], USAGE, "text, json"),
    (["mount", "memory://", "@mnt", "--compress", "x"], USAGE, "glob=zstd"),
    (["top"], FAILED, "nothing is mounted"),
    (["top", "@mnt"], FAILED, "is not mounted by objfs"),
    (["trace", "--slower", "5ms"], USAGE, "possible options: --slow"),
    (["stat", "@file"], FAILED, "is not in a mount of objfs"),
    (["warm", "@none"], FAILED, "is not in a mount of objfs"),
    (["pin", "@mnt"], FAILED, "is not in a mount of objfs"),
    (["bench", "gopher://b"], USAGE, "gopher:// is not known"),
    (["conflicts", "@mnt"], FAILED, "is not in a mount of objfs"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the wrong command lines name, and a home of its own."""
    for name in ("mnt", "full", "run", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "file").touch()
    (tmp_path / "open").touch(0o644)
    monkeypatch.setenv("OBJFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("OBJFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OBJFS_LOG_FILE", str(tmp_path / "log"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("objfs.mounts.read_mounts", list)
    yield tmp_path
    assert not os.path.ismount(tmp_path / "mnt")


@pytest.mark.parametrize(("argv", "status", "text"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_is_one_sentence(
    argv: list[str], status: int, text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        f"{folder}/{word[1:]}" if word[:1] == "@" else word.replace("//@", f"//{folder}") for word in argv
    ]
    assert main(words) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("objfs: ")
    assert err.count("\n") == 1
    assert err.endswith((".\n", "?\n"))
    assert text in err.lower()
    assert "hunter2" not in err
    assert "Traceback" not in err


def test_no_command_shows_the_help_and_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == USAGE
    assert capsys.readouterr().out.startswith("Usage: objfs COMMAND")


def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which $OBJFS is the command."""
    environment = {**os.environ, "OBJFS": f"{sys.executable} -m objfs", **variables}
    return subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = run("$OBJFS mount --help | head -c 1; $OBJFS mount --help | true")
    assert done.stdout == "U"
    assert done.stderr == ""


def test_a_full_disk_is_told() -> None:
    assert FULL.exists()
    done = run(f"$OBJFS --help >{FULL}")
    assert (done.returncode, done.stderr) == (FAILED, "objfs: No space left on device.\n")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "2>&-"])
def test_closed_streams_are_no_failure(closed: str) -> None:
    done = run(f"$OBJFS --help {closed}; echo $?")
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")


def test_an_interrupt_is_130() -> None:
    program = (
        "import sys, signal, os; from objfs.cli import main; import objfs.cli.version as v\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is born deaf to it\n"
        "v.describe_versions = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main(['--version']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (130, "")
