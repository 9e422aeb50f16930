"""The log: one line per event as text or JSON, nothing secret, no line that a key could forge."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING

from objfs.cli.log_limit import LimitedHandler
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from io import TextIOWrapper
    from pathlib import Path

# Names of variables whose values must never be written; the SDKs know others under the same endings.
_SECRET_VARIABLE = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|ROOT_USER)", re.IGNORECASE)
_SECRET_LEAST_CHARS = 6  # a shorter value would blot out ordinary words
_SECRET_PATTERNS = re.compile(
    r"(?i)((?:x-amz-)?(?:signature|security-token|credential)=|authorization['\"]?\s*[:=]\s*['\"]?)"
    r"[^\s&'\",@]+(?:\s+credential=[^\s]+)?"
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)  # syslog(3)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def configure_logging(
    path: Path, level: str, environment: Mapping[str, str], *, also_stderr: bool, log_format: str = "text"
) -> None:
    """Send objfs's events of `level`, and libraries' warnings, to the file, and to stderr too if asked.

    Args:
        path: the file.
        level: `debug`, `info`, `warning` or `error`.
        environment: whose secrets are kept out.
        also_stderr: in systemd's journal with priorities.
        log_format: `text` or `json`.

    Raises:
        MountError: the file cannot be written.
    """
    secrets = known_secrets(environment)
    formatter = JsonFormatter(secrets) if log_format == "json" else LineFormatter(secrets)
    handlers: list[logging.Handler] = [_open_file(path)]
    handlers[0].setFormatter(formatter)
    if also_stderr:
        handlers.append(logging.StreamHandler(sys.stderr))
        in_journal = "JOURNAL_STREAM" in environment and log_format == "text"
        handlers[1].setFormatter(JournalFormatter(secrets) if in_journal else formatter)
    root = logging.getLogger()
    root.addHandler(LimitedHandler(handlers))
    root.setLevel(logging.WARNING)  # botocore's debug lines quote signed requests
    logging.getLogger("objfs").setLevel(level.upper())
    logging.getLogger("objfs_cache").setLevel(level.upper())
    logging.captureWarnings(capture=True)


def known_secrets(environment: Mapping[str, str]) -> list[str]:
    """Values of the environment that must not appear in a log, longest first."""
    values = {value for name, value in environment.items() if _SECRET_VARIABLE.search(name)}
    return sorted((value for value in values if len(value) >= _SECRET_LEAST_CHARS), key=len, reverse=True)


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z WARNING objfs.upload: text`; lines of a traceback begin with `  | `."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """One event."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {record.name}: "
        lines = [head + _escape(record.getMessage())]
        if record.exc_info:
            lines += ["  | " + _escape(line) for line in self.formatException(record.exc_info).splitlines()]
        return self._redact("\n".join(lines))

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _URL_PASSWORD.sub(r"\1***", _SECRET_PATTERNS.sub(r"\1***", text))


class JsonFormatter(LineFormatter):
    """One object per line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, maybe `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """One event."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redact(record.getMessage()),
        }
        if record.exc_info:
            event["exception"] = self._redact(self.formatException(record.exc_info))
        return json.dumps(event)


class JournalFormatter(LineFormatter):
    """For systemd's journal, which has time and program already: `<4>objfs.upload: text` (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        """One event, each line with its priority."""
        level = next((number for least, number in _PRIORITIES if record.levelno >= least), 7)
        before, head, rest = super().format(record).partition(f" {record.levelname} ")
        return "\n".join(f"<{level}>{line}" for line in (rest if head else before).splitlines())


class _PrivateFileHandler(WatchedFileHandler):
    """A log file for its owner alone, opened anew when logrotate moved it."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.fdopen(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8", errors="replace")


def _open_file(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _PrivateFileHandler(path, encoding="utf-8")
    except OSError as error:
        raise MountError(
            f"the log {path} cannot be written: {error.strerror}; choose another with --log-file."
        ) from error


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)
