"""Compressed uploads: in one request, in parts, and as patches of compressed objects."""

from __future__ import annotations

import hashlib
import random
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import trio

from objfs.codec.table import parse_table
from objfs.codec.values import FRAME_BYTES
from objfs.config.rules import Compression, Treatment
from objfs.drivers.memory import MemoryMultipart, MemoryStore
from objfs.store.threads import ThreadedStore
from objfs.store.values import ANY, KIB, MIB, ByteRange, MultipartLimits, Part, PutOptions, Version
from objfs.upload.operations import Base, Kind, Operation
from objfs.upload.rules import Decision
from objfs.upload.transfer import Transfer
from objfs.upload.uploads import Uploads
from objfs_cache.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from objfs_cache.staging import Staging

COMPRESSED = Decision(treatment=Treatment(compress=Compression(level=1)))
PLAIN = Decision()


@dataclass
class Bench:
    """A store, and what sends to it."""

    store: MemoryStore
    staging: Staging
    journal_path: Path

    def put(
        self,
        writes: list[tuple[int, bytes]],
        *,
        base: Version | None = None,
        length: int | None = None,
        key: str = "log.txt",
        decision: Decision = COMPRESSED,
        options: PutOptions | None = None,
    ) -> Version:
        """Upload a file that was written so, over a base."""
        staged = self.staging.create()
        if base is not None:
            staged.base_limit = base.content_bytes
            staged.truncate(base.content_bytes)
        for offset, data in writes:
            staged.write(offset, data)
        if length is not None:
            staged.truncate(length)
            staged.trim()
        staged.sealed = True
        operation = Operation(
            kind=Kind.PUT,
            path=key,
            staged=staged,
            committed=staged.state(),
            decision=decision,
            base=Base(version=base) if base is not None else Base(absent=True),
            options=options or PutOptions(),
        )
        return self.run(lambda transfer: transfer.put(operation))

    def run(self, call: Callable[[Transfer], object]) -> Version:
        """Call something async of a transfer."""

        async def main() -> Version:
            threaded = ThreadedStore(self.store)
            uploads = Uploads(threaded, journal, lambda: None)
            transfer = Transfer(threaded, parallel_parts=4, uploads=uploads, on_bytes=sent.append)
            return await call(transfer)  # type: ignore[misc,no-any-return]

        sent: list[int] = []
        with open_journal(self.journal_path) as journal:
            return trio.run(main)

    def stored(self, key: str = "log.txt") -> bytes:
        """The object as it is in the store."""
        return self.store.get(key).data


@pytest.fixture
def bench(tmp_path: Path, staging: Staging) -> Bench:
    return Bench(MemoryStore(limits=MultipartLimits()), staging, tmp_path / "journal")


def text(size: int, seed: int = 0) -> bytes:
    """Lines that compress about three times."""
    chance = random.Random(seed)
    line = b"".join(
        b"%08x the same again and again %d\n" % (chance.getrandbits(32), n) for n in range(40_000)
    )
    return (line * (size // len(line) + 1))[:size]


def mixed(size: int, seed: int = 0) -> bytes:
    """Content of which half compresses: parts become large enough to be copied."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(700) + bytes(300) for _ in range(size // 1000 + 1))[:size]


def unzstd(data: bytes) -> bytes:
    """What zstd(1) makes of it."""
    return subprocess.run(
        ["zstd", "-d", "-q", "-c"], input=data, capture_output=True, check=True, timeout=120
    ).stdout


@pytest.mark.parametrize("size", [5000, 300 * KIB, 3 * MIB, 16 * MIB, 16 * MIB + 1, 40 * MIB + 123])
def test_an_object_of_any_size(bench: Bench, size: int) -> None:
    content = text(size)
    version = bench.put([(0, content)])
    info = bench.store.head("log.txt")
    stored = bench.stored()
    assert unzstd(stored) == content
    assert (version.decoded_bytes, version.size_bytes) == (size, len(stored))
    assert info.version == version
    assert (info.content_encoding, (info.metadata or {})["objfs-size"]) == ("zstd", str(size))
    table = parse_table(stored, len(stored), size)
    assert len(table) == -(-size // FRAME_BYTES)
    assert len(stored) < size / 2


@pytest.mark.parametrize("size", [100 * KIB, 20 * MIB])
def test_what_does_not_shrink_is_stored_plain(bench: Bench, size: int) -> None:
    content = random.Random(1).randbytes(size)
    version = bench.put([(0, content)])
    assert version.decoded_bytes is None
    assert bench.stored() == content
    assert bench.store.head("log.txt").content_encoding is None
    assert "objfs-size" not in (bench.store.head("log.txt").metadata or {})


def test_names_types_and_sizes_that_are_stored_plain(bench: Bench) -> None:
    for key, size, options in (
        ("a.jpg", MIB, PutOptions()),
        ("a.TAR.GZ", MIB, PutOptions()),
        ("film", MIB, PutOptions(content_type="video/mp4")),
        ("small", 4095, PutOptions()),
        ("encoded", MIB, PutOptions(content_encoding="gzip")),
    ):
        version = bench.put([(0, text(size))], key=key, options=options)
        assert version.decoded_bytes is None, key
        assert bench.stored(key) == text(size)
    assert bench.put([(0, text(4096))], key="a.txt").decoded_bytes == 4096


def test_overwriting_changes_the_form(bench: Bench) -> None:
    first = bench.put([(0, text(MIB))])
    noise = random.Random(1).randbytes(MIB)
    options = PutOptions(metadata={"objfs-size": str(MIB), "objfs-sha256": "0" * 64, "mine": "x"})
    second = bench.put([(0, noise)], base=first, options=options)
    assert bench.stored() == noise
    info = bench.store.head("log.txt")
    assert info.content_encoding is None
    metadata = dict(info.metadata or {})
    assert not {"objfs-size", "objfs-sha256"} & set(metadata)
    assert metadata["mine"] == "x"
    third = bench.put([(0, text(MIB))], base=second)
    assert unzstd(bench.stored()) == text(MIB)
    bench.put([(0, text(MIB, 2))], base=third, decision=PLAIN)
    assert bench.stored() == text(MIB, 2)


def test_a_small_patch_of_a_small_object(bench: Bench) -> None:
    content = bytearray(text(3 * MIB))
    base = bench.put([(0, bytes(content))])
    version = bench.put([(1_000_000, b"patched"), (3 * MIB, b"appended")], base=base)
    content[1_000_000:1_000_007] = b"patched"
    assert unzstd(bench.stored()) == bytes(content) + b"appended"
    bench.put([(0, b"plain")], base=version, decision=PLAIN)
    assert bench.stored() == b"plain" + bytes(content)[5:] + b"appended"


def patched(bench: Bench, monkeypatch: pytest.MonkeyPatch, size: int, **how: object) -> int:
    """Patch a large compressed object at random places; returns bytes uploaded for it."""
    content = bytearray(mixed(size))
    base = bench.put([(0, bytes(content))])
    chance = random.Random(str(how))
    places = [chance.randrange(size - 100) for _ in range(int(str(how.get("patches", 3))))]
    length = int(str(how.get("length", size)))
    writes = [(at, chance.randbytes(100)) for at in places]
    if length > size:
        writes.append((size, chance.randbytes(length - size)))
    for at, data in writes:
        content[at : at + len(data)] = data
    del content[length:]
    sent: list[int] = []
    upload_part, copy_part = MemoryMultipart.upload_part, MemoryMultipart.copy_part

    def counted(api: MemoryMultipart, key: str, upload_id: str, number: int, body: bytes) -> Part:
        sent.append(len(body))
        return upload_part(api, key, upload_id, number, body)

    def copied(api: MemoryMultipart, source_key: str, byte_range: ByteRange, *args: str, **more: str) -> Part:
        sent.append(-byte_range.length)  # it is made of `upload_part`
        return copy_part(api, source_key, byte_range, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryMultipart, "upload_part", counted)
    monkeypatch.setattr(MemoryMultipart, "copy_part", copied)
    version = bench.put(writes, base=base, length=length)
    monkeypatch.undo()
    stored = bench.stored()
    assert version.decoded_bytes == length
    assert unzstd(stored) == bytes(content)
    parse_table(stored, len(stored), length)
    return sum(sent)


@pytest.mark.parametrize(
    "how",
    [
        {"patches": 1},
        {"patches": 3},
        {"patches": 0, "length": 60 * MIB + 77},
        {"patches": 2, "length": 33 * MIB + 5},
        {"patches": 1, "length": 70 * MIB},
    ],
)
def test_a_patch_sends_the_frames_it_touches(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: dict[str, int]
) -> None:
    size = 60 * MIB
    uploaded = patched(bench, monkeypatch, size, **how)
    new = max(0, how.get("length", size) - size)
    assert uploaded < new + (how["patches"] + 2) * 6 * MIB


def test_a_patch_everywhere_rewrites_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert patched(bench, monkeypatch, 40 * MIB, patches=80) > 20 * MIB


def test_a_large_patched_object_keeps_its_form(bench: Bench) -> None:
    content = mixed(40 * MIB)
    base = bench.put([(0, content)])
    version = bench.put([(5, b"x")], base=base, decision=PLAIN)
    assert version.decoded_bytes == 40 * MIB
    assert unzstd(bench.stored()) == content[:5] + b"x" + content[6:]
    base = bench.put([(0, content)], base=version, decision=PLAIN)
    version = bench.put([(5, b"x")], base=base)
    assert version.decoded_bytes is None
    assert bench.stored() == content[:5] + b"x" + content[6:]


def test_many_appends_leave_whole_frames(bench: Bench) -> None:
    content = mixed(40 * MIB + 1000)
    version = bench.put([(0, content)])
    for number in range(4):
        more = mixed(50_000, number)
        version = bench.put([(len(content), more)], base=version)
        content += more
    stored = bench.stored()
    assert unzstd(stored) == content
    assert len(parse_table(stored, len(stored))) == -(-len(content) // FRAME_BYTES)


def test_a_copy_keeps_the_form(bench: Bench) -> None:
    version = bench.put([(0, text(MIB))])
    for known in (version, None):
        options = PutOptions(metadata={"mode": "33188"}, content_type="text/plain")
        copied = bench.run(
            lambda one, v=known, o=options: one.copies.make("log.txt", "b", v, o, ANY)  # type: ignore[misc]
        )
        assert copied.decoded_bytes == MIB
        info = bench.store.head("b")
        assert info.content_encoding == "zstd"
        assert info.metadata == {"mode": "33188", "objfs-size": str(MIB)}


def test_the_digest_of_the_content(bench: Bench) -> None:
    told = hashlib.sha256(text(MIB)).hexdigest()
    for decision in (COMPRESSED, PLAIN):
        version = bench.put([(0, text(MIB))], decision=replace(decision, sha256=True), key="f")
        assert version.sha256 == told
        assert (bench.store.head("f").metadata or {})["objfs-sha256"] == told
        bench.store.delete(["f"])
