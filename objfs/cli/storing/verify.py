"""`objfs verify`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from objfs.cli.places import locate_all
from objfs.cli.progress import open_bar
from objfs.cli.show import print_json, show_bytes, show_files, show_text
from objfs.cli.stores import open_target
from objfs.control.readback import Readback, read_back
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from objfs.store.protocol import ObjectStore
    from objfs.store.values import ObjectInfo


def verify(texts: Sequence[str], flags: Mapping[str, str], *, as_json: bool) -> int:
    """Read objects back from the store, and compare; the status is 1 if one is not as it should be.

    Args:
        texts: files and directories in mounts, or URLs of stores with a prefix.
        flags: of the stores that are named by URL.
        as_json: for scripts.
    """
    found: list[Readback] = []
    urls = [text for text in texts if "://" in text]
    for url in urls:
        found += _verify(url, [""], flags, as_json=as_json)
    for mountpoint, places in locate_all([text for text in texts if "://" not in text]).items():
        inner = [place.inner for place in places]
        _refuse_missing(mountpoint, inner)
        found += _verify(str(mountpoint), inner, flags, as_json=as_json)
    if as_json:
        _print_json(found)
    else:
        _print(found)
    return int(any(one.is_bad for one in found))


def _verify(target: str, inner: Sequence[str], flags: Mapping[str, str], *, as_json: bool) -> list[Readback]:
    with open_target(target, flags) as opened, open_bar("reading", quiet=as_json) as draw:
        sizes = _objects(opened.store, inner)
        total, done = sum(sizes.values()), 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            draw(done, total)

        found = []
        for key in sizes:
            one = read_back(opened.store, key, on_bytes)
            if one.is_bad and not as_json:
                sys.stderr.write(f"objfs: {show_text(key)}: {one.verdict}: {show_text(one.details)}.\n")
            found.append(one)
        return found


def _refuse_missing(mountpoint: Path, inner: Sequence[str]) -> None:
    for path in inner:
        if not os.path.lexists(mountpoint / path):
            raise MountError(f"there is no {mountpoint / path}.")


def _objects(store: ObjectStore, inner: Sequence[str]) -> dict[str, int]:
    """Sizes by key of the objects that paths stand for: the object itself, and all below."""
    found: dict[str, int] = {}
    for path in inner:
        for info in _list(store, path):
            below = path == "" or info.key.startswith(f"{path}/")
            is_own = info.key.startswith(".objfs/") and not path.startswith(".objfs")
            if (info.key == path or below) and not is_own and not info.key.endswith("/"):
                found[info.key] = info.version.size_bytes
        if path and path not in found and not any(key.startswith(f"{path}/") for key in found):
            found[path] = 0  # told as missing: perhaps it waits for its upload
    return found


def _list(store: ObjectStore, prefix: str) -> Iterator[ObjectInfo]:
    page: str | None = None
    while True:
        answer = store.list(prefix, page=page)
        yield from answer.objects
        page = answer.next_page
        if page is None:
            return


def _print(found: Sequence[Readback]) -> None:
    good = [one for one in found if one.verdict == "good"]
    unknown = [one for one in found if one.verdict == "read"]
    bad = sum(one.is_bad for one in found)
    compared = sorted({name for one in good for name in one.compared})
    size = show_bytes(sum(one.size_bytes for one in found))
    sys.stdout.write(f"{show_files(len(found))} ({size}) read: {len(good):,} good")
    sys.stdout.write(f" by {', '.join(compared)}" if compared else "")
    sys.stdout.write(f", {len(unknown):,} without a checksum to compare with" if unknown else "")
    sys.stdout.write(f", {bad:,} bad.\n" if bad else ".\n")


def _print_json(found: Sequence[Readback]) -> None:
    value = [
        {
            "key": one.key,
            "verdict": one.verdict,
            "bytes": one.size_bytes,
            "compared": list(one.compared),
            "details": one.details,
        }
        for one in found
    ]
    print_json(value)
