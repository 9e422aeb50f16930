"""What compression costs and saves: text and random bytes, uploaded and read, with it and without.

Beside it stand `zstd -3 -T2` alone, and the same piped into an upload by boto3, as one would do it by hand.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tests.bench.data import MIB
from tests.bench.errors import BenchError
from tests.fuse.mounting import mounted
from tests.servers import ACCESS_KEY, SECRET_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from tests.bench.bucket import Admin, Bucket

NAME = "compression"
RANDOM_READS = 200
READ_BYTES = 4096
_LINES_BYTES = 32 * MIB  # repeated farther away than zstd -3 looks back (2 MiB)
_MODES = {"off": "*=off", "zstd": "*=zstd:3"}
_UPLOAD = """
import boto3, sys
from boto3.s3.transfer import TransferConfig
client = boto3.client("s3", endpoint_url=sys.argv[1])
config = TransferConfig(multipart_chunksize=8 << 20, max_concurrency=4)
client.upload_fileobj(sys.stdin.buffer, sys.argv[2], "by-hand.zst", Config=config)
"""


@dataclass(slots=True, kw_only=True)
class Figures:
    """Seconds by what was done, run by run; `ratios` of content to object."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)

    def add(self, what: str, seconds: float) -> None:
        """Note one figure."""
        self.seconds.setdefault(what, []).append(seconds)

    def middle(self, what: str) -> float:
        """The median."""
        return median(self.seconds[what])

    @property
    def upload_ratio(self) -> float:
        """A compressed upload of text beside the slower of zstd alone and the plain upload."""
        return self.middle("upload text zstd") / max(
            self.middle("zstd -3 -T2 text"), self.middle("upload text off")
        )

    @property
    def random_cost(self) -> float:
        """What trying to compress random bytes costs, as a share of the plain upload; least times."""
        plain, tried = (min(self.seconds[f"upload random {mode}"]) for mode in ("off", "zstd"))
        return tried / plain - 1

    def table(self) -> Table:
        """All of it."""
        table = Table(
            title=f"compression, median seconds; compressing takes {self.upload_ratio:.2f} of the slower"
            f" of zstd and plain, trying random bytes costs {self.random_cost:+.1%}",
            box=SIMPLE_HEAD,
            title_justify="left",
        )
        for column in ("", "seconds", "content / object"):
            table.add_column(column, justify="left" if column == "" else "right")
        for what in self.seconds:
            ratio = self.ratios.get(what)
            shown = f"{self.middle(what):.3f}" if "4 KiB" not in what else f"{self.middle(what):.5f}"
            table.add_row(what, shown, "" if ratio is None else f"{ratio:.2f}")
        return table

    def as_json(self) -> dict[str, Any]:
        """Everything measured."""
        return {
            "seconds": self.seconds,
            "content_per_object": self.ratios,
            "upload_ratio": self.upload_ratio,
            "random_cost": self.random_cost,
        }


def measure(folder: Path, admin: Admin, endpoint: str, *, size: int, runs: int, console: Console) -> Figures:
    """Measure all of it, the modes alternating."""
    figures = Figures()
    text, noise = folder / "text", folder / "random"
    _write_text(text, size)
    with noise.open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    for run in range(runs):
        _zstd_alone(figures, text)
        with admin.bucket() as bucket:
            _by_hand(figures, text, endpoint, bucket)
        modes = list(_MODES.items())
        for mode, rule in modes if run % 2 == 0 else reversed(modes):
            for source in (text, noise):
                with admin.bucket() as bucket:
                    _upload_and_read(figures, source, mode, rule, endpoint, bucket)
        console.print(f"{NAME}: run {run + 1} of {runs} done", markup=False)
    return figures


def _zstd_alone(figures: Figures, text: Path) -> None:
    begin_s = time.monotonic()
    subprocess.run(["zstd", "-3", "-T2", "-q", "-c", text], check=True, stdout=subprocess.DEVNULL)
    figures.add("zstd -3 -T2 text", time.monotonic() - begin_s)


def _by_hand(figures: Figures, text: Path, endpoint: str, bucket: Bucket) -> None:
    begin_s = time.monotonic()
    with subprocess.Popen(["zstd", "-3", "-T2", "-q", "-c", text], stdout=subprocess.PIPE) as packer:
        subprocess.run(
            [sys.executable, "-c", _UPLOAD, endpoint, bucket.name],
            stdin=packer.stdout,
            check=True,
            env={**os.environ, **_credentials()},
        )
    figures.add("zstd -3 -T2 | upload text", time.monotonic() - begin_s)
    figures.ratios["zstd -3 -T2 | upload text"] = text.stat().st_size / bucket.size_of("by-hand.zst")


def _upload_and_read(
    figures: Figures, source: Path, mode: str, rule: str, endpoint: str, bucket: Bucket
) -> None:
    url = f"minio://{endpoint.partition('://')[2]}/{bucket.name}?tls=0"
    what = f"{source.name} {mode}"
    with mounted(url, environment=_credentials(), upload_delay="1h", compress=rule) as mount:
        shutil.copyfile(source, mount.path / "file")
        os.sync()  # what was written before is not this one's cost
        begin_s = time.monotonic()
        mount.drain()
        figures.add(f"upload {what}", time.monotonic() - begin_s)
    figures.ratios[f"upload {what}"] = source.stat().st_size / bucket.size_of("file")
    with mounted(url, environment=_credentials()) as mount:
        begin_s = time.monotonic()
        done = subprocess.run(["cmp", source, mount.path / "file"], check=False, capture_output=True)
        figures.add(f"read {what}", time.monotonic() - begin_s)
        if done.returncode:
            raise BenchError(f"{what} was read with other bytes")
    with mounted(url, environment=_credentials()) as mount:
        figures.add(f"random 4 KiB read {what}", _random_reads(source, mount.path / "file"))


def _random_reads(source: Path, path: Path) -> float:
    """Median seconds of a cold read of 4 KiB."""
    chance = random.Random(1)
    times = []
    with source.open("rb", buffering=0) as right, path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(RANDOM_READS):
            offset = chance.randrange(source.stat().st_size - READ_BYTES)
            begin_s = time.monotonic()
            data = os.pread(file.fileno(), READ_BYTES, offset)
            times.append(time.monotonic() - begin_s)
            if data != os.pread(right.fileno(), READ_BYTES, offset):
                raise BenchError(f"other bytes at {offset}")
    return median(times)


def _write_text(path: Path, size: int) -> None:
    """Lines as a log has them; zstd -3 makes them some 2.5 times smaller."""
    chance = random.Random(3)
    words = [
        "".join(chance.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(chance.randrange(3, 11)))
        for _ in range(4000)
    ]
    lines: list[str] = []
    length = 0
    while length < min(size, _LINES_BYTES):
        said = " ".join(chance.choices(words, k=chance.randrange(5, 14)))
        lines.append(
            f"2026-01-{chance.randrange(1, 29):02} host{chance.randrange(40)}: {said} {length:08x}\n"
        )
        length += len(lines[-1])
    block = "".join(lines).encode()
    with path.open("wb") as file:
        for _ in range(-(-size // len(block))):
            file.write(block)
        file.truncate(size)


def _credentials() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
