"""The composition root's own decisions, and what `umount` makes of progress."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs.app import conditions, stores
from objfs.app.warnings import warn_of_store
from objfs.cli.mounting import umount
from objfs.cli.progress import DrainDisplay, plain_lines
from objfs.config import build_settings
from objfs.control.values import DrainProgress
from objfs.errors import (
    BucketNotFoundError,
    InvalidRequestError,
    MountError,
    ObjectStoreError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from objfs.store.forward import ForwardingStore
from objfs.store.registry import open_store

if TYPE_CHECKING:
    from objfs.store.protocol import ObjectStore
    from objfs.store.values import Capabilities


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BucketNotFoundError("x."), "there is no such bucket or folder at http://h:1; check the name"),
        (UnauthenticatedError("403 X."), "credentials are missing or wrong (403 X); check them"),
        (PermissionDeniedError("403 X."), "may not list the bucket (403 X)"),
        (UnavailableError("refused."), "not reachable (refused); check the endpoint"),
        (InvalidRequestError("400 X."), "refuses to list its content (400 X)"),
    ],
)
def test_what_a_store_says_at_the_start(error: ObjectStoreError, words: str) -> None:
    settings = build_settings("s3://bucket", Path("/mnt"), [{"endpoint_url": "http://h:1"}])
    sentence = stores.explain_store_error(error, settings)
    assert sentence.startswith("s3://bucket: ")
    assert sentence.endswith(".")
    assert words in sentence


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ((), ""),
        (("complete_conditions",), "no conditions for large files:"),
        (("complete_conditions", "copy_conditions"), "no conditions for large files and their copies:"),
        (("put_conditions", "copy_conditions"), "no conditional writes:"),
    ],
)
def test_a_weaker_promise_is_told(
    caplog: pytest.LogCaptureFixture, lacking: tuple[str, ...], words: str
) -> None:
    known = open_store("memory://").capabilities
    settings = build_settings("memory://", Path("/mnt"), [])
    with caplog.at_level("INFO"):
        warn_of_store(settings, replace(known, **dict.fromkeys(lacking, False)))
    assert len(caplog.messages) == bool(lacking)
    assert words in caplog.text


def test_copies_by_other_requests_are_no_weaker_promise(caplog: pytest.LogCaptureFixture) -> None:
    known = open_store("memory://").capabilities
    settings = build_settings("memory://", Path("/mnt"), [])
    with caplog.at_level("INFO"):
        warn_of_store(settings, replace(known, copy_conditions=False))
    assert not caplog.messages


class UnknownStore(ForwardingStore):
    """A store of which nothing is known before it is tried."""

    @property
    def capabilities(self) -> Capabilities:
        known = self._store.capabilities
        promises = {name: False for name, value in asdict(known).items() if value is True}
        return replace(known, **promises)


def test_all_that_a_probe_finds_is_remembered(tmp_path: Path) -> None:
    """A second mount treats the store as the first one did."""
    store, memory = UnknownStore(open_store("memory://")), tmp_path / "conditions.json"
    first = conditions.probed(store, memory).capabilities
    assert first.put_conditions
    assert first.file_over_prefix
    assert conditions.probed(store, memory).capabilities == first


def test_a_probe_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = 0

    def probe(store: ObjectStore) -> Capabilities:
        nonlocal probes
        probes += 1
        return store.capabilities

    monkeypatch.setattr(conditions, "probe_conditions", probe)
    memory = tmp_path / "conditions.json"
    store = open_store("memory://")
    first, second = conditions.probed(store, memory), conditions.probed(store, memory)
    assert first.capabilities == second.capabilities == store.capabilities
    assert probes == 1
    for damaged in ("", "[]", "{}", json.dumps({**json.loads(memory.read_text()), "probed_s": 0})):
        memory.write_text(damaged)
        conditions.probed(store, memory)
    assert probes == 5


def _step(waiting: int, error: str | None = None, *, changes: int = 0) -> DrainProgress:
    return DrainProgress(
        waiting_files=waiting,
        waiting_bytes=waiting * 1024,
        waiting_changes=changes,
        uploaded_files=0,
        uploaded_bytes=0,
        parked_count=0,
        error=error,
    )


def test_plain_progress_comes_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = count()
    display = DrainDisplay(plain_lines(lambda: float(next(seconds))), "wait.")
    display.follow(_step(waiting) for waiting in range(9, -1, -1))
    assert display.last == _step(0)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 5
    assert all(line.startswith("objfs: ") and "left to upload" in line for line in lines)


def _silent(advice: str) -> DrainDisplay:
    seconds = count(step=10)
    return DrainDisplay(lambda _step: None, advice, lambda: float(next(seconds)))


def test_a_drain_that_does_not_move_is_given_up() -> None:
    told = r"^2 files \(2\.0 KiB\) left to upload; the store does not answer: refused; wait\.$"
    with pytest.raises(MountError, match=told):
        _silent("wait.").follow([_step(2, "refused.")] * 20)


def test_changes_without_files_are_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    step, seconds = _step(0, "refused.", changes=1), count()
    plain_lines(lambda: 4.0 * next(seconds))(step)
    told = "1 change of names and attributes left to upload; the store does not answer: refused"
    assert capsys.readouterr().err == f"objfs: {told}\n"
    with pytest.raises(MountError, match=f"^{told}; wait\\.$"):
        _silent("wait.").follow([step] * 20)


def test_a_slow_drain_is_not_given_up() -> None:
    display = _silent("wait.")
    display.follow([_step(2)] * 20)
    assert display.last == _step(2)


def test_what_is_left_is_told() -> None:
    assert umount._left_over(_step(3)) == (
        "3 files (3.0 KiB) and 0 other changes stay in the journal; "
        "the next mount of the same store, or 'objfs flush', goes on with them."
    )
