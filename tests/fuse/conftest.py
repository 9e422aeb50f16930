"""Stores for real mounts: a folder, moto's server, a real MinIO."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from objfs.store.registry import open_store
from objfs.store.urls import StoreOptions
from tests import servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from objfs.store.protocol import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """An empty store: what to mount, with which environment, and the store itself beside the mount."""

    url: str
    environment: Mapping[str, str]
    store: ObjectStore

    def contents(self) -> dict[str, bytes]:
        """All objects with their bytes, without what objfs keeps for itself."""
        found: dict[str, bytes] = {}
        page = None
        while True:
            answer = self.store.list("", page=page)
            for info in answer.objects:
                if not info.key.startswith(".objfs/"):
                    found[info.key] = self.store.get(info.key).data
            page = answer.next_page
            if page is None:
                return found


@pytest.fixture
def file_bucket(tmp_path: Path) -> Bucket:
    (tmp_path / "objects").mkdir()
    url = f"file://{tmp_path}/objects"
    return Bucket(url=url, environment={}, store=open_store(url))


@pytest.fixture
def minio_bucket(minio: servers.Server) -> Iterator[Bucket]:
    yield from _s3_bucket(minio, f"minio://{minio.host}/{{}}/prefix")


@pytest.fixture
def s3_bucket(minio: servers.Server) -> Iterator[Bucket]:
    yield from _s3_bucket(minio, "s3://{}")


@pytest.fixture
def moto_bucket(moto: servers.Server) -> Iterator[Bucket]:
    yield from _s3_bucket(moto, "s3://{}/deep/prefix")


@pytest.fixture(params=["file", "minio", "s3", "moto"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Each kind of store in turn."""
    found: Bucket = request.getfixturevalue(f"{request.param}_bucket")
    return found


def credentials(server: servers.Server) -> dict[str, str]:
    """The environment in which a server's buckets can be used."""
    return {
        "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _s3_bucket(server: servers.Server, form: str) -> Iterator[Bucket]:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    environment = credentials(server)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in environment.items():
            patch.setenv(variable, value)
        _make_bucket(server, name)
        store = open_store(form.format(name), StoreOptions(endpoint_url=server.endpoint))
        yield Bucket(url=form.format(name), environment=environment, store=store)
        store.close()


def _make_bucket(server: servers.Server, name: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=server.endpoint)
    client.create_bucket(Bucket=name)
    client.close()
