"""Configuration files: what they say, where it stands, and what is wrong with them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from objfs.cli import main
from objfs.cli.settings import check_credentials_file, read_settings
from objfs.config import ConfigError, config_paths, read_file
from objfs.errors import UsageError

GOOD = """
[defaults]
cache_size = "20GiB"   # a comment
umask = "027"
read_only = false

[mounts.photos]
url = "memory://"
mountpoint = "/mnt/photos"
max_requests = 8
metadata_ttl = 2.5
read_only = true

[mounts."with.dot"]
url = "memory://"
mountpoint = "/mnt/dot"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    monkeypatch.setenv("OBJFS_CONFIG", str(path))
    return path


def test_files_in_order() -> None:
    assert config_paths({"HOME": "/home/me"}) == [
        Path("/etc/objfs/config.toml"),
        Path("/home/me/.config/objfs/config.toml"),
    ]
    assert config_paths({"XDG_CONFIG_HOME": "/x"})[1] == Path("/x/objfs/config.toml")
    assert config_paths({"OBJFS_CONFIG": "/y"}) == [Path("/y")]


@pytest.mark.usefixtures("config")
def test_a_mount_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJFS_MAX_REQUESTS", "9")
    settings = read_settings("photos", None, {"umask": "077"}, ["metadata_ttl=7s"])
    assert (settings.url, settings.mountpoint) == ("memory://", Path("/mnt/photos"))
    assert (settings.cache_size_bytes, settings.max_requests) == (20 * 1024**3, 9)
    assert (settings.umask, settings.metadata_ttl_s, settings.read_only) == (0o077, 7.0, True)


@pytest.mark.usefixtures("config")
def test_defaults_hold_for_urls_too() -> None:
    settings = read_settings("memory://", Path("/mnt/x"), {}, [])
    assert (settings.cache_size_bytes, settings.umask, settings.read_only) == (20 * 1024**3, 0o027, False)


def test_the_users_file_outranks_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, user = tmp_path / "system.toml", tmp_path / "objfs" / "config.toml"
    user.parent.mkdir()
    system.write_text('[defaults]\nuid = 1\n[mounts.a]\nurl = "memory://"\nmountpoint = "/a"\ngid = 5\n')
    user.write_text("[defaults]\nuid = 2\ngid = 6\n[mounts.a]\nmax_requests = 3\n")
    monkeypatch.delenv("OBJFS_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("objfs.config.files.SYSTEM_FILE", system)
    settings = read_settings("a", None, {}, [])
    assert (settings.uid, settings.gid, settings.max_requests) == (2, 5, 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[defaults]\ncache_sise = "1G"\n', "line 2: 'cache_sise' is not known, did you mean 'cache_size'?"),
        ("[default]\n", "line 1: 'default' is not known, did you mean 'defaults'?"),
        ("[mounts.a]\n\nmount_point = 1\n", "line 3: 'mount_point' is not known, did you mean 'mountpoint'?"),
        ("[mounts.a]\nzzzzz = 1\n", "line 2: 'zzzzz' is not known."),
        ("[defaults]\nforeground = true\n", "line 2: 'foreground' is not known."),
        ('[mounts.a]\ncache_size = "1X"\n', "line 2: cache_size: '1X' is no size"),
        ("[defaults]\numask = 22\n", "line 2: umask: this is no value for it; write a text in quotes"),
        ("[defaults]\nuid = [1]\n", "line 2: uid: this is no value for it"),
        ("defaults = 5\n", "line 1: defaults: input should be"),
        ("[defaults]\nuid = = 1\n", "invalid value (at line 2, column 7)."),
        ('[mounts."../x"]\nuid = 1\n', "line 1: '../x' is no name for a mount."),
    ],
)
def test_mistakes_name_file_and_line(text: str, sentence: str, config: Path) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_file(config)
    assert str(caught.value).startswith(str(config))
    assert sentence in str(caught.value)


def test_files_that_others_may_change_are_refused(config: Path) -> None:
    config.chmod(0o666)
    with pytest.raises(ConfigError, match="can be changed by other users"):
        read_file(config)


def test_unknown_mounts_name_the_nearest(config: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'photos'\?; write s3://bucket/prefix, or a section"):
        read_settings("photo", None, {}, [])
    config.write_text('[mounts.a]\nurl = "memory://"\n')
    with pytest.raises(UsageError, match=r"\[mounts\.a\] of the configuration has no mountpoint"):
        read_settings("a", None, {}, [])


def test_wrong_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJFS_CACHE_SIZE", "lots")
    with pytest.raises(UsageError, match=r"^OBJFS_CACHE_SIZE: cache_size: 'lots' is no size"):
        read_settings("memory://", Path("/mnt/x"), {}, [])


def test_show_tells_origins(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBJFS_UID", "7")
    assert main(["config", "show", "photos", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["cache_size"] == {"value": "20GiB", "origin": f"{config}, line 3"}
    assert value["read_only"] == {"value": "yes", "origin": f"{config}, line 12"}
    assert value["uid"] == {"value": "7", "origin": "OBJFS_UID"}
    assert value["write_mode"] == {"value": "back", "origin": "default"}
    assert main(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "umask            = 027  (" in out
    assert "Mounts: photos, with.dot;" in out
    assert "store_timeout    = 60s  (default)" in out


def test_check_tells_every_mistake(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == f"{config}: 2 mounts.\n"
    config.write_text('[defaults]\na = 1\nb = 2\n[mounts.x]\nurl = "memory://"\n')
    assert main(["config", "check"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    config.write_text('[mounts.x]\nurl = "gopher://x"\n')
    assert main(["config", "check"]) == 2
    err = capsys.readouterr().err
    assert "[mounts.x]: it has no mountpoint." in err
    assert "[mounts.x]: gopher:// is not known" in err


def test_credentials_files_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    file = tmp_path / "credentials"
    with pytest.raises(UsageError, match=r"cannot be used: No such file"):
        check_credentials_file(file)
    file.touch(0o644)
    with pytest.raises(UsageError, match=r"is open to other users; run 'chmod 600 "):
        read_settings("memory://", Path("/mnt/x"), {"credentials_file": str(file)}, [])
    file.chmod(0o600)
    assert (
        read_settings("memory://", Path("/mnt/x"), {"credentials_file": str(file)}, []).credentials_file
        == file
    )


def test_credentials_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_settings("memory://", Path("/mnt/x"), {}, []).credentials_file is None
    (tmp_path / "credentials").touch(0o440)
    assert read_settings("memory://", Path("/mnt/x"), {}, []).credentials_file == tmp_path / "credentials"


def test_the_readmes_example_is_good(config: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    config.write_text(text.split("```toml\n")[1].split("```")[0])
    assert set(read_file(config).mounts) == {"photos"}
    assert os.environ["OBJFS_CONFIG"] == str(config)
