"""Rules in configuration files and on the command line, and the commands about them, without a mount."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from objfs.cli import main
from objfs.cli.settings import read_settings, rules_of_flags
from objfs.cli.storing.set import split
from objfs.config import ConfigError, MountSettings, build_settings, read_file, read_record, write_record
from objfs.config.rules import Compression
from objfs.errors import UsageError
from objfs.store.registry import open_store
from objfs.store.values import PutOptions

GOOD = """
[defaults]
sha256 = true
[[defaults.rules]]
glob = "*.tmp"
expire_after = "7d"

[mounts.photos]
url = "memory://"
mountpoint = "/mnt/photos"
[[mounts.photos.rules]]
glob = "*.log"
min_size = "64KiB"
compress = "zstd"
level = 9
[mounts.photos.rules.tags]
team = "a"
[[mounts.photos.rules]]   # the second
glob = "*.{jpg,png}"
storage_class = "standard_ia"
tags = { a = "b" }
"""
PAST = {"objfs-expires": "2020-01-01T00:00:00Z"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    monkeypatch.setenv("OBJFS_CONFIG", str(path))
    monkeypatch.setenv("OBJFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return path


def globs(settings: MountSettings) -> list[str]:
    return [rule.glob for rule in settings.rules]


@pytest.mark.usefixtures("config")
def test_rules_of_all_places_in_order() -> None:
    flags = {"rules": rules_of_flags(["*.csv=zstd:5"])}
    settings = read_settings("photos", None, flags, [])
    assert globs(settings) == ["*.csv", "*.log", "*.{jpg,png}", "*.tmp"]
    assert settings.rules[0].treatment.compress == Compression(level=5)
    assert settings.rules[1].treatment.tags == {"team": "a"}
    assert settings.sha256
    assert globs(read_settings("memory://", Path("/mnt/x"), {}, [])) == ["*.tmp"]


def test_origin_is_told_only_if_asked_for() -> None:
    assert not build_settings("memory://", Path("/mnt"), []).origin_metadata
    assert not build_settings("memory://", Path("/mnt"), []).sha256


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("level = 9", "level = 99", "line 15: level: '99' is no level; write 1 (fast) to 22 (small)."),
        ("min_size", "min_sise", "line 13: 'min_sise' is not known, did you mean 'min_size'?"),
        ('compress = "zstd"\n', "", 'line 11: level says nothing without compress = "zstd".'),
        ('glob = "*.log"\n', "", 'line 11: a rule needs a glob, for instance glob = "*.log".'),
        (
            '"standard_ia"',
            '"a b"',
            "line 20: storage_class: 'a b' is no storage class; write for instance STANDARD_IA.",
        ),
        ('"7d"', '"7x"', "line 6: expire_after: '7x' is no time"),
        ('team = "a"', 'team = "<"', "line 16: tags: 'team=<' is no tag"),
        (
            "[[mounts.photos.rules]]   #",
            "[[mounts.photos.rule]]   #",
            "'rule' is not known, did you mean 'rules'?",
        ),
    ],
)
def test_every_mistake_has_its_line(config: Path, old: str, new: str, sentence: str) -> None:
    config.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_file(config)
    assert sentence in str(caught.value)
    assert str(config) in str(caught.value)


@pytest.mark.usefixtures("config")
def test_rules_are_no_mount_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mount", "memory://", "/mnt/x", "-o", "rules=[]"]) == 2
    assert "'rules' is not known" in capsys.readouterr().err
    assert main(["mount", "memory://", "/mnt/x", "--compress", "zstd"]) == 2
    assert capsys.readouterr().err.startswith("objfs: --compress: 'zstd' is no GLOB=zstd[:LEVEL]")


def test_what_is_left_is_stored_by_the_same_rules(tmp_path: Path) -> None:
    layer = {
        "cache_dir": str(tmp_path),
        "rules": '[{"glob": "*.tmp", "expire_after": "7d"}]',
        "sha256": "yes",
    }
    settings = build_settings("memory://", Path("/mnt"), [layer])
    settings.cache_path.mkdir()
    write_record(settings)
    record = read_record(settings.cache_path)
    assert record is not None
    again = build_settings(record.url, record.mountpoint, [record.options])
    assert again.rules == settings.rules
    assert again.sha256


@pytest.mark.usefixtures("config")
def test_rules_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test", "--mount", "photos", "a/b.log", "--size", "1M"]) == 0
    assert capsys.readouterr().out == (
        "a/b.log (1MiB): meets rule 1.\n"
        "  rule 1: *.log\n"
        "    compress: zstd level 9, files of 4KiB or more, if it saves 10%\n"
        "    tags: team=a\n"
    )
    assert main(["rules", "test", "--mount", "photos", "b.log", "--size", "1K", "x.png"]) == 0
    assert capsys.readouterr().out == (
        "b.log (1KiB): meets no rule; stored as it is.\n"
        "  not rule 1: the file is smaller than 64KiB\n"
        "  not rule 2: the name does not match *.{jpg,png}\n"
        "  not rule 3: the name does not match *.tmp\n"
        "x.png (1KiB): meets rule 2.\n"
        "  not rule 1: the name does not match *.log\n"
        "  rule 2: *.{jpg,png}\n"
        "    storage_class: STANDARD_IA\n"
        "    tags: a=b\n"
    )
    assert main(["rules", "test", "--mount", "photos", "c.log"]) == 0
    assert "rule 1: *.log, for files of 64KiB or more" in capsys.readouterr().out
    assert main(["rules", "test", "c.tmp", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)[0]
    assert (answer["rule"], answer["does"]) == (1, {"expire_after": "7d"})
    assert main(["rules", "test", "c.tmp", "--size", "big"]) == 2
    assert capsys.readouterr().err.startswith("objfs: --size: 'big' is no size")


def test_set_tells_paths_from_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert split(["a", "storage_class=x", "d/b=c", "tags=a=b,c=d", "expire-after="]) == (
        ["a", "d/b=c"],
        {"storage_class": "x", "tags": {"a": "b", "c": "d"}, "expire_after": ""},
    )
    (tmp_path / "odd=name").touch()
    assert split(["odd=name", "compress=off"])[0] == ["odd=name"]
    for arguments, sentence in (
        (["a", "storage_clas=x"], "did you mean 'storage_class'"),
        (["a", "min_size=5"], "cannot be set for a file"),
        (["a", "storage_class=?"], "no storage class"),
        (["a", "tags=x"], "are no tags"),
        (["a"], "nothing is to be set"),
        (["storage_class=X"], "no file was named"),
    ):
        with pytest.raises(UsageError, match=sentence):
            split(arguments)


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    folder = tmp_path / "objects"
    folder.mkdir()
    url = f"file://{folder}"
    store = open_store(url)
    digest = hashlib.sha256(b"good").hexdigest()
    store.put("good", b"good", options=PutOptions(metadata={"objfs-sha256": digest}))
    store.put("d/old", b"old", options=PutOptions(metadata=PAST))
    store.put("plain", b"")
    return url


@pytest.mark.usefixtures("config")
def test_expire_without_a_mount(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["expire", bucket, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out == "2020-01-01T00:00:00Z  d/old\n1 file of 3 expired (3 B); nothing was deleted.\n"
    assert main(["expire", bucket, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["key"] == "d/old"
    assert main(["expire", bucket]) == 0
    assert capsys.readouterr().out == "1 file of 3 expired (3 B): 1 deleted.\n"
    assert main(["expire", bucket, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["expired"] == 0
    assert {info.key for info in open_store(bucket).list("").objects} == {"good", "plain"}


@pytest.mark.usefixtures("config")
def test_a_folder_has_no_lifecycle(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "apply"):
        assert main(["lifecycle", command, bucket]) == 1
        assert "run 'objfs expire' every now and then instead" in capsys.readouterr().err
    assert main(["expire", "memory://"]) == 2
    assert capsys.readouterr().err.startswith("objfs: memory:// lives within its mount alone")


@pytest.mark.usefixtures("config")
def test_verify_without_a_mount(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", bucket]) == 0
    assert capsys.readouterr().out == (
        "3 files (7 B) read: 1 good by SHA-256, 2 without a checksum to compare with.\n"
    )
    digest = hashlib.sha256(b"good").hexdigest()
    open_store(bucket).put("good", b"evil", options=PutOptions(metadata={"objfs-sha256": digest}))
    assert main(["verify", bucket]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("objfs: good: mismatch: SHA-256 is ")
    assert told.out.endswith("1 bad.\n")
    assert main(["verify", bucket, "--json"]) == 1
    verdicts = {one["key"]: one["verdict"] for one in json.loads(capsys.readouterr().out)}
    assert verdicts == {"good": "mismatch", "d/old": "read", "plain": "read"}
