"""The life of a mount: start, refusals, ends of every kind, and what is there afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from objfs import mounts
from objfs.control.client import connect, wait_for_end
from tests import servers
from tests.fuse import proxy as faults
from tests.fuse.conftest import credentials
from tests.fuse.gate import gated_mount
from tests.fuse.mounting import END_TIMEOUT_S, a_place, mounted
from tests.fuse.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuse.conftest import Bucket

NOWHERE = "http://127.0.0.1:9"  # the discard port, where nobody listens


def wait_until(holds: Callable[[], bool], timeout_s: float = END_TIMEOUT_S) -> None:
    """Wait for another process; fails after the time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_mounted(path: Path) -> bool:
    return mounts.find_mount(path) is not None


# -- start ------------------------------------------------------------------------------------------


def test_write_umount_read_again(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment) as mount:
        (mount.path / "dir").mkdir()
        (mount.path / "dir" / "a.txt").write_bytes(b"hello")
        assert mount.status().state == "serving"
        mount.umount()
        assert not is_mounted(mount.path)
        assert not mount.place.processes()
        contents = bucket.contents()
        assert contents["dir/a.txt"] == b"hello"
        mount.mount_again()
        assert (mount.path / "dir" / "a.txt").read_bytes() == b"hello"
    with mounted(bucket.url, environment=bucket.environment) as mount:
        assert (mount.path / "dir" / "a.txt").read_bytes() == b"hello"


def test_foreground_logs_and_leaves_on_sigint(file_bucket: Bucket) -> None:
    with a_place() as place:
        command = [sys.executable, "-m", "objfs", "mount", file_bucket.url, str(place.mountpoint), "-f"]
        folders = ["--cache-dir", str(place.cache), "--log-file", str(place.log)]
        with subprocess.Popen(
            [*command, *folders], env={**place.environment}, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                wait_until(lambda: is_mounted(place.mountpoint))
                (place.mountpoint / "a").write_text("a")
                process.send_signal(signal.SIGINT)
                _out, err = process.communicate(timeout=END_TIMEOUT_S)
            finally:
                process.kill()
        assert process.returncode == 0
        assert f"mounted {file_bucket.url} at" in err
        assert "Traceback" not in err
        assert file_bucket.contents() == {"a": b"a"}


def test_status_for_people_and_scripts(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        (mount.path / "a").write_text("abc")
        for arguments in (["status"], ["status", str(mount.path)]):
            done = mount.place.run(*arguments)
            assert done.returncode == 0
            assert str(mount.path) in done.stdout
            assert "reachable" in done.stdout
        value = json.loads(mount.place.run("status", "--json").stdout)
        (own,) = [one for one in value if one["mountpoint"] == str(mount.path)]
        assert own["url"] == file_bucket.url
        assert own["store"]["reachable"] is True
        assert own["uploads"]["waiting_files"] in (0, 1)
        mount.drain()
        uploads = mount.status().uploads
        assert (uploads.waiting_files, uploads.uploaded_files, uploads.uploaded_bytes) == (0, 1, 3)


def test_read_only(file_bucket: Bucket) -> None:
    file_bucket.store.put("a", b"abc")
    with mounted(file_bucket.url, o="ro,_netdev") as mount:
        assert (mount.path / "a").read_bytes() == b"abc"
        for change in (
            lambda: (mount.path / "a").write_bytes(b"x"),
            lambda: (mount.path / "b").touch(),
            lambda: (mount.path / "d").mkdir(),
            lambda: (mount.path / "a").unlink(),
            lambda: (mount.path / "a").chmod(0o600),
        ):
            with pytest.raises(OSError, match="Read-only file system"):
                change()
        assert mount.status().read_only
    assert file_bucket.contents() == {"a": b"abc"}


def test_nonempty(file_bucket: Bucket) -> None:
    with a_place() as place:
        (place.mountpoint / "hidden").touch()
        refused = place.mount(file_bucket.url)
        assert refused.returncode == 1
        assert "is not empty" in refused.stderr
        assert place.mount(file_bucket.url, o="nonempty").returncode == 0
        assert list(place.mountpoint.iterdir()) == []
        assert place.run("umount", str(place.mountpoint)).returncode == 0
        assert [path.name for path in place.mountpoint.iterdir()] == ["hidden"]


# -- refusals ---------------------------------------------------------------------------------------


def test_each_refusal_is_one_sentence(minio: servers.Server, file_bucket: Bucket) -> None:
    good = credentials(minio)
    secret = "wrong-secret-of-somebody"  # noqa: S105  # of nobody
    cases: list[tuple[str, dict[str, str], dict[str, str], str]] = [
        ("s3://no-such-bucket", good, {}, "no such bucket"),
        (f"minio://{minio.host}/no-such-bucket", good, {}, "no such bucket"),
        (f"{file_bucket.url}/none", {}, {}, "no such bucket or folder"),
        ("s3://bucket", {**good, "AWS_SECRET_ACCESS_KEY": secret}, {}, "credentials"),
        (f"minio://{minio.host}/bucket", {**good, "AWS_SECRET_ACCESS_KEY": secret}, {}, "credentials"),
        ("s3://bucket", {**good, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, {}, "credentials"),
        ("s3://bucket", good, {"profile": "absent"}, "absent"),
        ("s3://bucket", good, {"endpoint_url": NOWHERE}, "not reachable"),
        ("minio://127.0.0.1:9/bucket", good, {}, "not reachable"),
    ]
    for url, environment, options, words in cases:
        with a_place(environment=environment) as place:
            done = place.mount(url, **options)
            assert done.returncode in (1, 2), (url, done.stderr)
            assert done.stderr.count("\n") == 1, done.stderr
            assert done.stderr.startswith("objfs: ")
            assert words in done.stderr, (url, done.stderr)
            assert secret not in done.stderr + place.log_text()
            assert "Traceback" not in place.log_text()
            assert not is_mounted(place.mountpoint)
            assert not place.processes()


def test_already_mounted(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        done = mount.place.mount(file_bucket.url)
        assert done.returncode == 1
        assert "is already mounted" in done.stderr
        assert mount.status().state == "serving"


def test_a_cache_in_another_mount_is_refused(file_bucket: Bucket, tmp_path: Path) -> None:
    with mounted(file_bucket.url) as outer, a_place(outer.path / "cache") as place:
        done = place.mount(f"file://{tmp_path}")
        assert done.returncode == 1
        assert "would lie in a mount of objfs" in done.stderr
        assert os.listdir(outer.path) == []


def test_second_mount_on_the_same_cache(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount, a_place(mount.place.cache) as place:
        done = place.mount(file_bucket.url)
        assert done.returncode == 1
        assert "in use by another objfs" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not is_mounted(place.mountpoint)


def test_secrets_are_nowhere(minio_bucket: Bucket) -> None:
    with mounted(minio_bucket.url, environment=minio_bucket.environment, log_level="debug") as mount:
        (mount.path / "a").write_text("a")
        command_line = Path(f"/proc/{mount.pid}/cmdline").read_text()
        told = mount.place.run("status", "--json").stdout + mount.place.run("status").stdout
        mount.umount()
        files = [path for path in mount.place.folder.rglob("*") if path.is_file()]
        for text in (command_line, told, *(path.read_bytes().decode("latin-1") for path in files)):
            assert servers.SECRET_KEY not in text
        assert any(path.name == "log" for path in files)


# -- ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGTERM", "fusermount3"])
def test_leaving_uploads_what_waits(how: str, bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h") as mount:
        (mount.path / "a").write_bytes(b"a" * 100_000)
        pid = mount.pid
        assert bucket.contents() == {}
        if how == "SIGTERM":
            os.kill(pid, signal.SIGTERM)
        else:
            subprocess.run(["fusermount3", "-u", mount.path], check=True)
        assert wait_for_end(pid, END_TIMEOUT_S)
        assert not is_mounted(mount.path)
        assert bucket.contents() == {"a": b"a" * 100_000}
        assert not mount.socket.exists()


def test_an_answer_that_nobody_waits_for_any_more(minio: servers.Server, minio_bucket: Bucket) -> None:
    with Proxy(minio.host) as proxy:
        url = minio_bucket.url.replace(minio.host, proxy.host)
        minio_bucket.store.put("slow", b"slow")
        with mounted(url, environment=minio_bucket.environment) as mount, ThreadPoolExecutor() as pool:
            proxy.rule("get", faults.late(2.0))
            read = pool.submit((mount.path / "slow").read_bytes)
            wait_until(lambda: proxy.seen["get"] > 0)
            pid = mount.pid
            subprocess.run(["umount", "--force", "--lazy", mount.path], check=True)
            with pytest.raises(OSError, match=r"not connected|aborted"):
                read.result()
            assert wait_for_end(pid, END_TIMEOUT_S)


def test_sigterm_while_a_file_is_open(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        with (mount.path / "closed").open("wb") as file:
            file.write(b"complete")
        holder = (mount.path / "open").open("wb", buffering=0)
        holder.write(b"partial")
        pid = mount.pid
        os.kill(pid, signal.SIGTERM)
        assert wait_for_end(pid, END_TIMEOUT_S)
        with pytest.raises(OSError, match=r"not connected|aborted"):
            holder.write(b"more")
        with pytest.raises(OSError, match=r"not connected|aborted"):
            holder.close()
        assert not is_mounted(mount.path)
        assert file_bucket.contents()["closed"] == b"complete"


def test_no_drain_leaves_the_rest_to_the_next_mount(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url, upload_delay="1h") as mount:
        (mount.path / "a").write_bytes(b"later")
        done = mount.place.run("umount", "--no-drain", str(mount.path))
        assert done.returncode == 0
        assert "stay in the journal" in done.stderr
        assert file_bucket.contents() == {}
        mount.mount_again()
        assert (mount.path / "a").read_bytes() == b"later"
        mount.umount()
        assert file_bucket.contents() == {"a": b"later"}


def test_two_umounts_at_once(file_bucket: Bucket) -> None:
    content = os.urandom(2_000_000)
    with mounted(file_bucket.url, upload_delay="1h", limit_upload="1M/s") as mount:
        (mount.path / "a").write_bytes(content)
        with ExitStack() as stack:
            *two, late = [stack.enter_context(connect(mount.socket)) for _ in range(3)]
            with ThreadPoolExecutor() as pool:
                for answer in [pool.submit(client.unmount, drain=True) for client in two]:
                    answer.result()
            late.unmount(drain=True)  # it is on its way out, and uploads
            for client in (*two, late):
                assert [*client.progress_until_end()][-1].waiting_files == 0
        assert file_bucket.contents() == {"a": content}


def test_umount_of_a_busy_mount_is_refused(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        with (mount.path / "a").open("wb") as file:
            file.write(b"abc")
            done = mount.place.run("umount", str(mount.path))
            assert done.returncode == 1
            assert "busy" in done.stderr
            assert done.stderr.count("\n") == 1
            file.write(b"def")
        assert (mount.path / "a").read_bytes() == b"abcdef"


def test_umount_while_another_namespace_has_the_mount(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        (mount.path / "a").write_bytes(b"abc")
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 1000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            try:
                assert holder.stdout is not None
                holder.stdout.readline()
                pid = mount.pid
                mount.umount()
                assert wait_for_end(pid, END_TIMEOUT_S)
            finally:
                holder.kill()
        assert file_bucket.contents() == {"a": b"abc"}


def test_kill_and_replay(bucket: Bucket) -> None:
    with mounted(bucket.url, environment=bucket.environment, upload_delay="1h") as mount:
        bucket.store.put("old", b"old")
        expected = {f"d/{number}": os.urandom(1 + number * 50_000) for number in range(20)}
        (mount.path / "d").mkdir()
        for name, data in expected.items():
            (mount.path / name).write_bytes(data)
        (mount.path / "d/0").rename(mount.path / "d/renamed")
        expected["d/renamed"] = expected.pop("d/0")
        (mount.path / "d/1").unlink()
        del expected["d/1"]
        (mount.path / "old").unlink()
        mount.kill()
        assert mounts.is_dead(mount.path)

        told = json.loads(mount.place.run("status", "--json").stdout)
        assert "dead" in {one["state"] for one in told if one["mountpoint"] == str(mount.path)}
        mount.mount_again()
        assert sorted(path.name for path in (mount.path / "d").iterdir()) == sorted(
            name.removeprefix("d/") for name in expected
        )
        for name, data in expected.items():
            assert (mount.path / name).read_bytes() == data
        assert not (mount.path / "old").exists()
        mount.umount()
        contents = bucket.contents()
        contents.pop("d/", None)
        assert contents == expected


def test_a_mount_that_dies_while_it_is_looked_at_is_mounted_again(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url, metadata_ttl="1h", upload_delay="1h") as mount:
        (mount.path / "a").write_bytes(b"abc")
        pid = mount.pid
        mount.path.stat()
        os.kill(pid, signal.SIGKILL)
        assert wait_for_end(pid, END_TIMEOUT_S)
        mount.mount_again()
        assert (mount.path / "a").read_bytes() == b"abc"


def test_a_stopped_daemon_does_not_hang_the_commands(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url, metadata_ttl="0s") as mount:  # so that the kernel knows nothing by heart
        pid = mount.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            told = json.loads(mount.place.run("status", "--json").stdout)
            assert "silent" in {one["state"] for one in told if one["mountpoint"] == str(mount.path)}
            refused = mount.place.mount(file_bucket.url)
            assert "is already mounted" in refused.stderr
        finally:
            os.kill(pid, signal.SIGCONT)


def test_umount_cleans_a_dead_mountpoint(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        mount.kill()
        done = mount.place.run("umount", str(mount.path))
        assert done.returncode == 0
        assert "free again" in done.stderr
        assert not is_mounted(mount.path)
        assert list(mount.path.iterdir()) == []


def test_signals_that_mean_nothing_here_end_no_mount(file_bucket: Bucket) -> None:
    with mounted(file_bucket.url) as mount:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(mount.pid, number)
        (mount.path / "still").write_text("here")
        assert os.listdir(mount.path) == ["still"]


def test_second_signal_ends_at_once(minio_bucket: Bucket, minio: servers.Server) -> None:
    with gated_mount(minio_bucket, minio, drain_timeout="1h", upload_delay="1h") as (mount, gate):
        (mount.path / "a").write_bytes(b"a")
        gate.shut()
        pid = mount.pid
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_mounted(mount.path))
        assert not wait_for_end(pid, 1.0)
        os.kill(pid, signal.SIGTERM)
        assert wait_for_end(pid, END_TIMEOUT_S)
        gate.open()
        mount.mount_again()
        assert (mount.path / "a").read_bytes() == b"a"
    assert minio_bucket.contents() == {"a": b"a"}


def test_store_away_and_back(minio_bucket: Bucket, minio: servers.Server) -> None:
    minio_bucket.store.put("cached", b"cached")
    with gated_mount(minio_bucket, minio) as (mount, gate):
        assert (mount.path / "cached").read_bytes() == b"cached"
        gate.shut()
        (mount.path / "new").write_bytes(b"written while away")
        assert (mount.path / "new").read_bytes() == b"written while away"
        wait_until(lambda: mount.status().store.offline_since_s is not None)
        told = mount.place.run("status", str(mount.path)).stdout
        assert "NOT REACHABLE" in told
        assert mount.status().uploads.waiting_files == 1
        gate.open()
        wait_until(lambda: mount.status().uploads.waiting_files == 0, 60)
        assert mount.status().store.reachable
    assert minio_bucket.contents()["new"] == b"written while away"


def test_umount_while_the_store_is_away(minio_bucket: Bucket, minio: servers.Server) -> None:
    with gated_mount(minio_bucket, minio, metadata_ttl="1h") as (mount, gate):
        assert list(mount.path.iterdir()) == []
        gate.shut()
        (mount.path / "a").write_bytes(b"kept")
        done = mount.place.run("umount", "--no-drain", str(mount.path))
        assert done.returncode == 0
        assert "stay in the journal" in done.stderr
        gate.open()
        mount.mount_again()
    assert minio_bucket.contents() == {"a": b"kept"}


def test_killed_and_mounted_while_the_store_is_away(minio_bucket: Bucket, minio: servers.Server) -> None:
    minio_bucket.store.put("there/x", b"x")
    with gated_mount(minio_bucket, minio, metadata_ttl="1h", store_timeout="2s") as (mount, gate):
        assert [path.name for path in mount.path.iterdir()] == ["there"]
        gate.shut()
        (mount.path / "dir").mkdir()
        (mount.path / "dir" / "a").write_bytes(b"kept")
        (mount.path / "there").rename(mount.path / "moved")
        mount.kill()
        done = mount.place.mount(mount.url, **mount.options)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
        assert "not reachable" in done.stderr
        assert (mount.path / "dir" / "a").read_bytes() == b"kept"
        (mount.path / "dir" / "a").write_bytes(b"changed")
        assert not (mount.path / "there").exists()
        assert mount.path.is_dir()
        with pytest.raises(OSError, match=r"Input/output|timed out"):  # nobody knows what else there is
            os.listdir(mount.path)
        gate.open()
        mount.drain()
        assert sorted(os.listdir(mount.path)) == ["dir", "moved"]
        assert (mount.path / "moved" / "x").read_bytes() == b"x"
    assert minio_bucket.contents() == {"dir/": b"", "dir/a": b"changed", "moved/x": b"x"}


def test_a_dead_mount_stays_until_another_takes_its_place(minio_bucket: Bucket) -> None:
    """What programs wrote into the folder below would be hidden by the next mount."""
    with mounted(minio_bucket.url, environment=minio_bucket.environment, allow_errors=True) as mount:
        mount.kill()
        good = dict(mount.place.environment)
        mount.place.environment["AWS_SECRET_ACCESS_KEY"] = "wrong-secret-of-somebody"  # noqa: S105
        refused = mount.place.mount(mount.url)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "credentials" in refused.stderr
        assert mounts.is_dead(mount.path)
        with pytest.raises(OSError, match="not connected"):
            (mount.path / "a").write_bytes(b"a")
        mount.place.environment.update(good)
        mount.mount_again()
        (mount.path / "a").write_bytes(b"a")
