"""A real mount, seen from outside: figures, live requests, single files, metrics."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from objfs.control.client import connect
from objfs.fuse.errnos import replies_errno
from objfs.fuse.handlers import Handlers
from objfs.observe.operations import OPERATIONS
from tests.fuse.mounting import mounted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuse.conftest import Bucket
    from tests.fuse.mounting import Mount


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def mount(file_bucket: Bucket) -> Iterator[Mount]:
    with mounted(file_bucket.url, xattrs=True, upload_delay="1h", log_format="json") as found:
        yield found


def test_every_handler_is_counted_under_a_name_of_the_list() -> None:
    wrapped = {name for name, one in vars(Handlers).items() if hasattr(one, "replies_errno")}
    assert wrapped == set(OPERATIONS)
    assert hasattr(replies_errno(Handlers.read), "replies_errno")


def test_figures_of_operations_bytes_and_requests(mount: Mount) -> None:
    (mount.path / "a").write_bytes(b"x" * 100_000)
    assert (mount.path / "a").read_bytes() == b"x" * 100_000
    with pytest.raises(FileNotFoundError):
        os.stat(mount.path / "missing")
    with pytest.raises(OSError, match="Directory not empty"):
        os.rmdir(_full(mount))
    with connect(mount.socket) as client:
        figures = client.figures()
    assert figures.operations["create"].durations.count >= 1
    assert figures.operations["rmdir"].errors == {"ENOTEMPTY": 1}
    assert figures.operations["lookup"].errors == {}, "that a name does not exist is an answer"
    assert figures.operations["lookup"].durations.quantile_s(0.5) is not None
    assert figures.written_bytes == 100_001
    assert figures.reads.staged == 100_000
    assert figures.uploads.waiting_files == 2
    assert figures.staging_bytes == 100_001
    assert figures.running_calls == 0
    assert figures.resident_bytes > 1e6
    mount.drain()
    with connect(mount.socket) as client:
        figures = client.figures()
    assert figures.requests["put"].durations.count >= 2
    assert figures.requests["put"].sent_bytes >= 100_001
    assert figures.uploads.uploaded_files == 2
    assert figures.sending == ()


def _full(mount: Mount) -> str:
    folder = mount.path / "full"
    folder.mkdir()
    (folder / "file").write_bytes(b"1")
    return str(folder)


def test_bytes_are_counted_where_they_came_from(file_bucket: Bucket) -> None:
    file_bucket.store.put("big", b"y" * 3_000_000)
    with mounted(file_bucket.url) as mount:
        assert len((mount.path / "big").read_bytes()) == 3_000_000
        with connect(mount.socket) as client:
            reads = client.figures().reads
        assert reads.store == 3_000_000
        assert reads.disk == 0
        mount.umount()
        mount.mount_again()
        assert len((mount.path / "big").read_bytes()) == 3_000_000
        with connect(mount.socket) as client:
            figures = client.figures()
        assert figures.reads.disk + figures.reads.memory + figures.reads.store == 3_000_000
        assert figures.reads.disk > 0
        assert figures.disk.hits > 0


def test_live_requests_tell_who_did_what(mount: Mount) -> None:
    command = [sys.executable, "-m", "objfs", "trace", str(mount.path), "--json", "--path", "seen"]
    with subprocess.Popen(
        command, env={**mount.place.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tracing:
        assert tracing.stdout is not None
        assert tracing.stderr is not None
        assert "watching" in tracing.stderr.readline()
        (mount.path / "unseen").write_bytes(b"1")
        (mount.path / "seen").write_bytes(b"12345")
        os.rename(mount.path / "seen", mount.path / "elsewhere")
        events = []
        for text in tracing.stdout:
            events.append(json.loads(text))
            if events[-1]["operation"] == "rename":
                break
        tracing.terminate()
    by_operation = {event["operation"]: event for event in events}
    assert {event["path"] for event in events} == {"seen"}
    write = by_operation["write"]
    assert (write["pid"], write["result"], write["error"]) == (os.getpid(), 5, None)
    assert write["arguments"] == {"offset": 0, "size": 5}
    assert write["command"] == Path("/proc/self/comm").read_text().strip()
    assert 0 < write["duration_s"] < 10
    assert by_operation["rename"]["arguments"] == {"to": "elsewhere"}
    assert "O_CREAT" in by_operation["create"]["arguments"]["flags"]


def test_stat_follows_a_file_to_the_store(mount: Mount) -> None:
    path = mount.path / "dir" / "a.txt"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(b"hello")
        file.flush()
        with connect(mount.socket) as client:  # no other process: its copy of the descriptor would close it
            assert client.stat("dir/a.txt")["state"] == "writing"
    waiting = _stat(mount, str(path))
    assert (waiting["state"], waiting["staged_bytes"], waiting["etag"]) == ("waiting", 5, None)
    assert _stat(mount, str(path.parent))["waiting_below"] is True
    mount.drain()
    stored = _stat(mount, str(path))
    assert (stored["state"], stored["staged_bytes"], stored["remote"]) == ("stored", 0, "same")
    assert stored["key"] == "dir/a.txt"
    assert stored["etag"]
    assert stored["modified_s"] > 1e9
    value = json.loads(os.getxattr(path, "user.objfs.status"))
    assert (value["state"], value["key"], value["etag"]) == ("stored", "dir/a.txt", stored["etag"])
    assert os.listxattr(path) == [], "copying programs do not take it along"
    missing = mount.place.run("stat", str(mount.path / "missing"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "there is no such file in the mount" in missing.stderr


def _stat(mount: Mount, path: str) -> dict[str, Any]:
    done = mount.place.run("stat", "--json", path)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(found) == 1
    return found[0]


def test_stat_tells_of_a_change_by_somebody_else(file_bucket: Bucket) -> None:
    file_bucket.store.put("a", b"1")
    with mounted(file_bucket.url, metadata_ttl="1h") as mount:
        (mount.path / "a").read_bytes()
        file_bucket.store.put("a", b"22")
        assert _stat(mount, str(mount.path / "a"))["remote"] == "changed"
        file_bucket.store.delete(["a"])
        assert _stat(mount, str(mount.path / "a"))["remote"] == "gone"


def test_metrics_of_a_mount(file_bucket: Bucket, free_port: int) -> None:
    with mounted(file_bucket.url, metrics=f"127.0.0.1:{free_port}") as mount:
        (mount.path / "a").write_bytes(b"123")
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        samples = {
            (one.name, one.labels.get("operation")): one
            for family in text_string_to_metric_families(text)
            for one in family.samples
        }
        assert samples["objfs_written_bytes_total", None].value == 3
        assert samples["objfs_written_bytes_total", None].labels["mountpoint"] == str(mount.path)
        assert samples["objfs_operation_duration_seconds_count", "create"].value == 1
        taken = mount.place.run(
            "mount",
            "memory://",
            str(mount.place.folder),
            "--metrics",
            f"127.0.0.1:{free_port}",
            "-o",
            "nonempty",
        )
        assert taken.returncode == 1
        assert "each mount needs a --metrics of its own" in taken.stderr


def test_top_and_the_log_of_a_mount(mount: Mount) -> None:
    (mount.path / "a").write_bytes(b"1")
    once = mount.place.run("top", "--once", str(mount.path))
    assert once.returncode == 0, once.stderr
    assert "1 file to go (1 B)" in once.stdout
    assert "\x1b" not in once.stdout
    value = json.loads(mount.place.run("top", "--once", "--json").stdout)
    assert value["uploads"]["waiting_files"] == 1
    for text in mount.place.log_text().splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(text))
