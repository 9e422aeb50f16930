"""Servers that tests share, started when the first test wants them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.servers import Server, external_server, has_minio, minio_server, moto_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.terminal import TerminalReporter


def pytest_configure() -> None:
    """In CI nothing is left out silently."""
    if os.environ.get("CI") == "true" and not has_minio():
        raise pytest.UsageError("MinIO is missing and cannot be built without Go.")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Say what this run did not test."""
    if not has_minio():
        terminalreporter.write_line("MinIO was left out: it is not built, and there is no Go.", yellow=True)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """A moto server."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def minio() -> Iterator[Server]:
    """A MinIO server."""
    if not has_minio():
        pytest.skip("MinIO is not built, and there is no Go")
    with minio_server() as server:
        yield server


@pytest.fixture(scope="session")
def external() -> Server:
    """The server that OBJFS_TEST_S3_ENDPOINT names."""
    server = external_server()
    if server is None:
        pytest.skip("OBJFS_TEST_S3_ENDPOINT is not set")
    return server
