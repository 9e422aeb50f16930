"""`objfs doctor` and `objfs bench`, against real servers that are well, wrong, or not there."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin

from objfs.cli import main
from objfs.doctor import leftovers, uploads
from objfs.doctor.keys import why_hidden
from objfs.doctor.machine import check_allow_other, check_cache_folder, check_fuse_device
from objfs.doctor.measuring import measure, percentile
from objfs.doctor.network import check_clock
from objfs.store.registry import open_store
from objfs.store.urls import StoreOptions
from objfs_cache.directory import open_cache_directory
from objfs_cache.journal import open_journal
from tests import servers
from tests.fuse.proxy import Forward, Proxy, Reply, Request, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from objfs.doctor.findings import Finding
    from objfs.store.protocol import ObjectStore

Found = dict[str, dict[str, str]]
Examine = Callable[..., tuple[int, Found]]
ALL_TRIALS = {"delete", "put", "get", "multipart", "conditional writes", "listing", "speed"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, with the test servers' credentials."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "OBJFS_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": servers.SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "OBJFS_RUNTIME_DIR": str(tmp_path / "run"),
        "OBJFS_CACHE_DIR": str(tmp_path / "cache"),
        "OBJFS_CONFIG": str(tmp_path / "no-config.toml"),
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def examine(place: Path, capsys: pytest.CaptureFixture[str]) -> Examine:
    """Runs the command -> exit status, and the findings by name. No secret is ever told."""

    def run(*argv: str) -> tuple[int, Found]:
        code = main(["doctor", "--json", *argv])
        out, err = capsys.readouterr()
        assert err == ""
        assert os.environ.get("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY) not in out
        return code, {finding["name"]: finding for finding in json.loads(out)}

    return run


@pytest.fixture
def bucket(minio: servers.Server, place: Path) -> Iterator[str]:
    with servers.bucket_of(minio) as name:
        yield name


def store_of(minio: servers.Server, bucket: str) -> ObjectStore:
    return open_store(f"minio://{minio.host}/{bucket}")


def everything_in(minio: servers.Server, bucket: str) -> list[str]:
    store = store_of(minio, bucket)
    try:
        return [info.key for info in store.list("").objects]
    finally:
        store.close()


def results(found: Found) -> dict[str, str]:
    return {name: finding["result"] for name, finding in found.items()}


# -- stores that are well -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["minio://{host}/{bucket}/p", "s3://{bucket}?endpoint={endpoint}"])
def test_a_store_that_is_well(form: str, examine: Examine, minio: servers.Server, bucket: str) -> None:
    code, found = examine(form.format(host=minio.host, bucket=bucket, endpoint=minio.endpoint))
    assert code == 0
    wrong = {name: finding for name, finding in found.items() if finding["result"] != "ok"}
    assert set(wrong) <= {"allow-other", "cache space", "cache folder", "speed", "open files"}, wrong
    assert set(found) >= ALL_TRIALS | {
        "dns",
        "connection",
        "tls",
        "credentials",
        "clock",
        "region",
        "tags",
        "checksums",
    }
    assert "environment" in found["credentials"]["text"]
    assert everything_in(minio, bucket) == []


def test_a_folder(examine: Examine, place: Path) -> None:
    (place / "objects").mkdir()
    code, found = examine(f"file://{place}/objects")
    assert code == 0
    assert {name: results(found)[name] for name in ALL_TRIALS} == dict.fromkeys(ALL_TRIALS, "ok")
    assert open_store(f"file://{place}/objects").list("").objects == ()


def test_what_a_store_lacks_is_a_warning(examine: Examine, moto: servers.Server, place: Path) -> None:
    with servers.bucket_of(moto) as name:
        code, found = examine(f"s3://{name}", "--endpoint-url", moto.endpoint)
    assert code == 0
    assert found["checksums"]["result"] == "warning"
    assert "complete" in found["conditional writes"]["text"]


def test_nothing_is_written_where_that_is_not_wanted(
    examine: Examine, minio: servers.Server, bucket: str
) -> None:
    with Proxy(minio.host) as proxy:
        code, found = examine("--read-only", f"minio://{proxy.host}/{bucket}")
        assert set(proxy.seen) <= {"list", "uploads", "get"}
    assert code == 0
    assert found["writing"]["result"] == "skipped"
    assert not ALL_TRIALS & set(found)


def test_lines_for_people(
    examine: Examine, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor", f"file://{place}/none"]) == 1
    out, err = capsys.readouterr()
    assert "  failed   bucket              there is no such bucket or folder\n" in out
    assert " " * 31 + "-> check the name, or create it first\n" in out
    assert out.splitlines()[-1].startswith("1 failed, ")
    assert max(len(line) for line in out.splitlines() if str(place) not in line) <= 80
    assert "\x1b" not in out
    assert err == ""


# -- stores that are not --------------------------------------------------------------------------------


def test_no_credentials(
    examine: Examine, minio: servers.Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    code, found = examine(f"minio://{minio.host}/{bucket}")
    assert code == 1
    assert found["credentials"]["result"] == "failed"
    assert "aws configure" in found["credentials"]["advice"]
    assert found["bucket"]["result"] == "skipped"


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("AWS_ACCESS_KEY_ID", "does not know this key"),
        ("AWS_SECRET_ACCESS_KEY", "does not belong to the key"),
    ],
)
def test_wrong_credentials(
    variable: str,
    told: str,
    examine: Examine,
    minio: servers.Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, "something-else")
    code, found = examine(f"minio://{minio.host}/{bucket}")
    assert code == 1
    assert told in found["bucket"]["text"]
    assert not ALL_TRIALS & set(found)


def test_no_such_profile(minio: servers.Server, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--profile", "nobody", f"minio://{minio.host}/{bucket}"]) == 2
    assert "no profile nobody" in capsys.readouterr().err


def test_no_bucket(examine: Examine, minio: servers.Server, place: Path) -> None:
    code, found = examine(f"minio://{minio.host}/no-such-bucket-{uuid.uuid4().hex}")
    assert code == 1
    assert found["bucket"]["text"] == "there is no such bucket"


def test_wrong_region(examine: Examine, minio: servers.Server, bucket: str) -> None:
    refusal = status(
        400,
        "AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region><Code>AuthorizationHeaderMalformed",
    )
    with Proxy(minio.host) as proxy:
        proxy.rule("list", refusal)
        code, found = examine(f"minio://{proxy.host}/{bucket}")
    assert code == 1
    assert found["region"]["text"] == "the bucket is in eu-central-1, and us-east-1 is configured"
    assert found["region"]["advice"] == "use --region eu-central-1"


def test_nobody_answers(examine: Examine, place: Path) -> None:
    code, found = examine(f"minio://127.0.0.1:{servers.free_port()}/bucket")
    assert code == 1
    assert "cannot be reached (Connection refused)" in found["connection"]["text"]
    assert "tls" not in found


def test_no_such_host(examine: Examine, place: Path) -> None:
    code, found = examine("s3://bucket", "--endpoint-url", "http://store.invalid")
    assert code == 1
    assert found["dns"]["result"] == "failed"


def test_a_certificate_of_its_own(
    examine: Examine, minio: servers.Server, bucket: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(minio.host) as proxy, speaking_tls(proxy, place) as certificate:
        url = f"minio://{proxy.host}/{bucket}?tls=1"
        code, found = examine(url)
        assert code == 1
        assert "self-signed certificate" in found["tls"]["text"]
        assert "AWS_CA_BUNDLE" in found["tls"]["advice"]
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        code, found = examine(url, "--read-only")
        assert code == 0
        assert "certificate good for" in found["tls"]["text"]


def test_the_wrong_protocol(examine: Examine, minio: servers.Server, bucket: str) -> None:
    code, found = examine(f"minio://{minio.host}/{bucket}?tls=1")
    assert code == 1
    assert "no secure connection" in found["tls"]["text"]


READ = ["s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject"]
WRITE = [
    *READ,
    "s3:PutObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
    "s3:ListBucketMultipartUploads",
]


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        (READ, {"bucket": "ok", "delete": "failed", "put": "failed", "multipart": "skipped"}),
        (
            WRITE,
            {"bucket": "ok", "delete": "failed", "put": "ok", "multipart": "skipped", "speed": "skipped"},
        ),
        ([*READ, "s3:DeleteObject"], {"delete": "ok", "put": "failed", "get": "ok", "listing": "skipped"}),
        (
            [*WRITE, "s3:DeleteObject"],
            {"put": "ok", "tags": "warning", "multipart": "ok", "conditional writes": "ok"},
        ),
        (["s3:GetObject", "s3:PutObject"], {"bucket": "failed"}),
    ],
    ids=["read only", "no delete", "no put", "no tags", "no list"],
)
def test_rights_that_lack(
    actions: list[str],
    expected: dict[str, str],
    examine: Examine,
    minio: servers.Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store_of(minio, bucket).put("kept.txt", b"content")
    secret = uuid.uuid4().hex
    with a_user(minio, bucket, actions, secret) as user:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        code, found = examine(f"minio://{minio.host}/{bucket}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", servers.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", servers.SECRET_KEY)
    assert expected.items() <= results(found).items(), found
    assert code == int("failed" in expected.values())
    assert everything_in(minio, bucket) == ["kept.txt"], "nothing is left behind"


@pytest.mark.parametrize("kind", ["part", "copy"])
def test_interrupted_it_leaves_nothing(kind: str, minio: servers.Server, bucket: str) -> None:
    assert interrupt_when(["doctor", "minio://{host}/" + bucket], kind, minio, bucket) == 130
    assert everything_in(minio, bucket) == []


# -- content --------------------------------------------------------------------------------------------


def test_what_was_left_unfinished(
    examine: Examine, minio: servers.Server, bucket: str, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    url = f"minio://{minio.host}/{bucket}"
    multipart = store_of(minio, bucket).multipart
    assert multipart is not None
    ours, theirs = multipart.create("ours.bin"), multipart.create("theirs.bin")
    note_upload(place, url, "ours.bin", ours)
    _, found = examine(url)
    assert found["unfinished uploads"]["result"] == "ok"
    assert "1 of objfs" in found["unfinished uploads"]["text"]
    examine(url, "--clean")
    assert len(multipart.list_uploads("ours.bin")) == 1, "it is of today"
    monkeypatch.setattr(uploads, "ABANDONED_AFTER_S", -60.0)
    _, found = examine(url)
    assert found["unfinished uploads"]["result"] == "warning"
    _, found = examine(url, "--clean")
    assert found["unfinished uploads"]["text"] == "1 old ones of objfs aborted"
    assert multipart.list_uploads("ours.bin") == []
    assert [one.upload_id for one in multipart.list_uploads("theirs.bin")] == [theirs]


def test_what_killed_trials_left(
    examine: Examine, minio: servers.Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(minio, bucket)
    for key in (".objfs/bench-1/s0", ".objfs/doctor-2", ".objfs/root", "bench-3"):
        store.put(key, b"")
    url = f"minio://{minio.host}/{bucket}"
    assert examine(url, "--clean")[1]["left trials"]["text"] == "none", "they are of today"
    monkeypatch.setattr(leftovers, "LEFT_AFTER_S", -60.0)
    assert examine(url)[1]["left trials"]["result"] == "warning"
    assert examine(url, "--clean")[1]["left trials"]["text"] == "2 deleted"
    assert everything_in(minio, bucket) == [".objfs/root", "bench-3"]


def test_keys_that_cannot_be_shown(
    examine: Examine, minio: servers.Server, bucket: str, moto: servers.Server
) -> None:
    with servers.bucket_of(moto) as name:
        store = open_store(f"s3://{name}", StoreOptions(endpoint_url=moto.endpoint))
        for key in ("good", "dir/", "dir/good", "a//b", "both", "both/below", ".objfs/root"):
            store.put(key, b"")
        store.put("full/", b"content")
        store.close()
        _, found = examine("--read-only", "--endpoint-url", moto.endpoint, f"s3://{name}")
    text = found["keys"]["text"]
    assert found["keys"]["result"] == "warning"
    assert text.startswith("3 cannot be shown")
    for reason in (
        "1 with an empty part",
        "1 with file and directory at once",
        "1 with a content that a directory",
    ):
        assert reason in text


def test_why_a_key_is_hidden() -> None:
    assert why_hidden("a/b/", 0) == why_hidden(".objfs//x", 5) == why_hidden("a b/ä", 1) == ""
    for key in ("", "/a", "a//", "..", "a/./b", "x" * 256, "a\0"):
        assert why_hidden(key, 1), key


# -- this machine ---------------------------------------------------------------------------------------


def test_no_fuse(tmp_path: Path) -> None:
    assert check_fuse_device(tmp_path / "none").result == "failed"
    assert "--cap-add SYS_ADMIN" in check_fuse_device(tmp_path / "none").advice


def test_others_are_not_let_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert check_allow_other(tmp_path / "none").result == "warning"
    (tmp_path / "fuse.conf").write_text("# user_allow_other\n")
    assert check_allow_other(tmp_path / "fuse.conf").result == "warning"
    (tmp_path / "fuse.conf").write_text("user_allow_other\n")
    assert check_allow_other(tmp_path / "fuse.conf").result == "ok"


def test_where_the_cache_lies(tmp_path: Path) -> None:
    by_name = {finding.name: finding for finding in check_cache_folder(tmp_path / "new" / "cache", 1024)}
    assert by_name["cache folder"].text.endswith(", to be made")
    assert not (tmp_path / "new").exists()
    in_memory = next(iter(check_cache_folder(Path("/dev/shm"), 1024)))
    assert in_memory.result == "warning"
    assert "tmpfs" in in_memory.text
    assert next(iter(check_cache_folder(Path("/proc/objfs"), 1024))).result == "failed"


def test_clocks() -> None:
    def told(seconds: float) -> Finding:
        moment = datetime.now(UTC) - timedelta(seconds=seconds)
        return check_clock(moment.strftime("%a, %d %b %Y %H:%M:%S GMT"))

    assert told(1).result == "ok"
    assert told(120).result == "warning"
    assert told(-3600).result == "failed"
    assert "behind" in told(-3600).text
    assert check_clock(None).result == check_clock("soon").result == "skipped"


# -- bench ----------------------------------------------------------------------------------------------


def test_a_benchmark_cleans_up(
    minio: servers.Server, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--quick", "--json", f"minio://{minio.host}/{bucket}/deep"]) == 0
    rows = {(row["name"], row["parallel"]): row for row in json.loads(capsys.readouterr().out)}
    assert rows["put 4 KiB", 16]["requests"] == 50
    assert rows["get 4 KiB", 1]["p99_s"] >= rows["get 4 KiB", 1]["p50_s"] > 0
    assert rows["head", 1]["mb_s"] is None
    assert rows["put 8 MiB", 1]["mb_s"] > 0
    assert {name.split()[0] for name, _ in rows} == {"put", "get", "head", "list", "delete"}
    assert everything_in(minio, bucket) == []
    assert main(["bench", "--quick", f"minio://{minio.host}/{bucket}"]) == 0
    table = capsys.readouterr().out
    assert "p99 ms" in table
    assert max(map(len, table.splitlines())) <= 100


def test_a_benchmark_that_is_stopped_cleans_up(minio: servers.Server, bucket: str) -> None:
    assert interrupt_when(["bench", "--quick", "minio://{host}/" + bucket], "part", minio, bucket) == 130
    assert everything_in(minio, bucket) == []


def test_no_bucket_to_measure(minio: servers.Server, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", f"minio://{minio.host}/no-such-bucket-{uuid.uuid4().hex}"]) == 1
    assert capsys.readouterr().err.startswith("objfs: ")


def test_percentiles() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)
    assert percentile([], 0.5) == 0.0
    row = measure("nothing", 4, 10, [lambda: None] * 7)
    assert (row.requests, row.parallel) == (7, 4)


# -- tools ----------------------------------------------------------------------------------------------


def interrupt_when(argv: list[str], kind: str, minio: servers.Server, bucket: str) -> int:
    """Run `objfs`, send SIGINT while a request of this kind is under way; the exit status.

    No upload in parts may be left then.
    """
    process: list[subprocess.Popen[bytes]] = []
    begun: list[str] = []

    def strike(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
        reply = forward(request)
        if process:
            process.pop().send_signal(signal.SIGINT)
        return reply

    def note(_proxy: Proxy, request: Request, forward: Forward) -> Reply:
        begun.append(request.key)
        return forward(request)

    with Proxy(minio.host) as proxy:
        command = [sys.executable, "-m", "objfs", *(text.format(host=proxy.host) for text in argv)]
        proxy.rule("create", note)
        proxy.rule(kind, strike)
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process.append(started)
        code = started.wait(60)
    assert not process, f"there was no {kind}"
    assert begun
    store = store_of(minio, bucket)
    assert store.multipart is not None
    assert [key for key in begun if store.multipart.list_uploads(key)] == []
    store.close()
    return code


def note_upload(place: Path, url: str, key: str, upload_id: str) -> None:
    """What a mount notes in its journal when it begins an upload."""
    from objfs.cli.settings import read_settings

    cache = read_settings(url, place / "mnt", {}, []).cache_path
    with open_cache_directory(cache) as directory, open_journal(directory.journal_path) as journal:
        journal.add_note(json.dumps({"key": key, "upload_id": upload_id, "others": []}))


@contextmanager
def a_user(minio: servers.Server, bucket: str, actions: list[str], secret: str) -> Iterator[str]:
    """A user of MinIO who may do this and no more, in this bucket."""
    provider = StaticProvider(servers.ACCESS_KEY, servers.SECRET_KEY)
    admin = MinioAdmin(endpoint=minio.host, credentials=provider, secure=False)
    user = f"user-{uuid.uuid4().hex[:12]}"
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    admin.policy_add(user, policy={"Version": "2012-10-17", "Statement": [statement]})
    admin.user_add(user, secret)
    admin.policy_set(user, user=user)
    try:
        yield user
    finally:
        admin.user_remove(user)
        admin.policy_remove(user)


@contextmanager
def speaking_tls(proxy: Proxy, folder: Path) -> Iterator[Path]:
    """The proxy with a certificate that nobody has signed but itself; yields its file."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"]
    command = ["openssl", "req", *kind, "-keyout", str(key), "-out", str(certificate), *subject]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    proxy.speak_tls(context)
    yield certificate
