"""The log: one line per event, no forged lines, nothing secret."""

from __future__ import annotations

import logging
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from objfs.cli.logs import LineFormatter, configure_logging, known_secrets
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _handlers_put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, levels = (
        list(root.handlers),
        {name: logging.getLogger(name).level for name in ("", "objfs", "objfs_cache")},
    )
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(capture=False)


def _format(message: str, *args: object, secrets: tuple[str, ...] = ()) -> str:
    record = logging.LogRecord("objfs.x", logging.INFO, "f", 1, message, args, None)
    return LineFormatter(secrets).format(record)


def test_one_line_whatever_the_key() -> None:
    text = _format("put %s", "a\nERROR objfs: forged\x1b[2J\r\u2028\udcff")
    assert "\n" not in text
    assert text.isprintable()
    assert r"a\nERROR objfs: forged\x1b[2J\r\u2028\udcff" in text


@pytest.mark.parametrize(
    "text",
    [
        "GET /b/k?X-Amz-Signature=hunter2secret&x=1",
        "GET /b/k?X-Amz-Credential=hunter2secret",
        "Authorization: hunter2secret",
        "{'Authorization': 'AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=hunter2secret'}",
        "x-amz-security-token=hunter2secret",
        "https://me:hunter2secret@host/",
    ],
)
def test_patterns_of_secrets(text: str) -> None:
    assert "hunter2secret" not in _format("%s", text)


def test_urls_stay_readable() -> None:
    assert "minio://127.0.0.1:9000/bucket/p at /mnt" in _format("minio://127.0.0.1:9000/bucket/p at /mnt")


def test_known_secrets_of_the_environment() -> None:
    environment = {
        "AWS_SECRET_ACCESS_KEY": "topsecretvalue",
        "AWS_SESSION_TOKEN": "topsecretvalue-and-more",
        "MINIO_ROOT_PASSWORD": "abc",
        "HOME": "/home/someone",
    }
    secrets = known_secrets(environment)
    assert secrets == ["topsecretvalue-and-more", "topsecretvalue"]
    assert "secret" not in _format("%s %s", *secrets, secrets=tuple(secrets))


def test_file_level_and_traceback(tmp_path: Path) -> None:
    path = tmp_path / "state" / "objfs.log"
    configure_logging(path, "info", {"X_SECRET": "topsecretvalue"}, also_stderr=False)
    logging.getLogger("objfs.a").debug("unseen")
    logging.getLogger("botocore").info("unseen")
    try:
        raise ValueError("line\ntopsecretvalue")
    except ValueError:
        logging.getLogger("objfs.a").exception("failed")
    lines = path.read_text().splitlines()
    assert lines[0].endswith("Z ERROR objfs.a: failed")
    assert all(line.startswith("  | ") for line in lines[1:])
    assert not {"unseen", "topsecretvalue"} & set(path.read_text().replace(":", " ").split())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MountError, match="--log-file"):
        configure_logging(tmp_path / "file" / "log", "info", {}, also_stderr=False)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(MountError, match="cannot be written"):
        configure_logging(tmp_path / "link", "info", {}, also_stderr=False)
    assert sys.exc_info() == (None, None, None)
