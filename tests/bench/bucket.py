"""The bucket seen beside the mount: filled, waited for and verified through the S3 API alone."""

from __future__ import annotations

import hashlib
import io
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from minio import Minio
from minio.deleteobjects import DeleteObject

from tests.bench.errors import BenchError
from tests.servers import ACCESS_KEY, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.data import Content, Contents
    from tests.servers import Server

_THREADS = 8  # minio-py's pool keeps ten connections
_POLL_S = 0.1  # short beside what is measured, long enough to leave the machine alone


class Admin:
    """Makes buckets, and removes them with what they hold."""

    def __init__(self, server: Server) -> None:
        self._client = Minio(server.host, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False)

    @contextmanager
    def bucket(self) -> Iterator[Bucket]:
        """A new bucket, gone afterwards."""
        name = f"bench-{uuid.uuid4().hex[:16]}"
        self._client.make_bucket(bucket_name=name)
        bucket = Bucket(self._client, name)
        try:
            yield bucket
        finally:
            bucket.clear()
            self._client.remove_bucket(bucket_name=name)


class Bucket:
    """One bucket."""

    def __init__(self, client: Minio, name: str) -> None:
        self._client = client
        self.name = name

    def ensure(self, contents: Contents) -> None:
        """Put what is missing or has another size, and remove everything else but markers of directories."""
        found = self._sizes()
        self._remove([key for key in found if key not in contents and not key.endswith("/")])
        missing = [key for key, content in contents.items() if found.get(key) != content.size_bytes]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda key: self._put(key, contents[key]), missing))

    def size_of(self, key: str) -> int:
        """Bytes of an object as stored."""
        return self._sizes(key)[key]

    def wait_until_holds(self, contents: Contents, timeout_s: float) -> None:
        """Return once every object is there in its full size."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            found = self._sizes()
            missing = [key for key, content in contents.items() if found.get(key) != content.size_bytes]
            if not missing:
                return
            self._pause(deadline_s, f"{len(missing)} of {len(contents)} objects did not reach the bucket")

    def wait_until_lacks(self, prefix: str, timeout_s: float) -> None:
        """Return once no object is below the prefix."""
        deadline_s = time.monotonic() + timeout_s
        while left := self._sizes(prefix):
            self._pause(deadline_s, f"{len(left)} objects were not deleted")

    def verify(self, contents: Contents) -> None:
        """Raise BenchError unless every object has the right bytes; what was wrong is removed."""
        with ThreadPoolExecutor(_THREADS) as pool:
            digests = dict(zip(contents, pool.map(self._digest, contents), strict=True))
        wrong = [key for key, content in contents.items() if digests[key] != content.sha256]
        if wrong:
            self._remove(wrong)
            raise BenchError(f"{len(wrong)} objects have other bytes, for instance {wrong[0]}")

    def clear(self) -> None:
        """Remove all objects."""
        self._remove(list(self._sizes()))

    def _pause(self, deadline_s: float, failure: str) -> None:
        if time.monotonic() > deadline_s:
            raise BenchError(failure)
        time.sleep(_POLL_S)

    def _sizes(self, prefix: str = "") -> dict[str, int]:
        listing = self._client.list_objects(bucket_name=self.name, prefix=prefix, recursive=True)
        return {str(item.object_name): int(item.size or 0) for item in listing}

    def _put(self, key: str, content: Content) -> None:
        if isinstance(content.source, Path):
            self._client.fput_object(bucket_name=self.name, object_name=key, file_path=str(content.source))
        else:
            body = io.BytesIO(content.source)
            self._client.put_object(
                bucket_name=self.name, object_name=key, data=body, length=content.size_bytes
            )

    def _digest(self, key: str) -> str:
        reply = self._client.get_object(bucket_name=self.name, object_name=key)
        try:
            digest = hashlib.sha256()
            for piece in reply.stream(1 << 20):
                digest.update(piece)
            return digest.hexdigest()
        finally:
            reply.close()
            reply.release_conn()

    def _remove(self, keys: list[str]) -> None:
        names = [DeleteObject(key) for key in keys]
        for error in self._client.remove_objects(bucket_name=self.name, delete_object_list=names):
            raise BenchError(f"{error.name} cannot be removed: {error.message}")
