"""`objfs stat`."""

from __future__ import annotations

import stat as modes
import sys
import time
from typing import TYPE_CHECKING, Any

from objfs.cli.places import locate
from objfs.cli.show import print_json, show_bytes, show_count, show_text
from objfs.control.client import NoAnswerError
from objfs.errors import MountError, ObjfsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STATES = {
    "stored": "in the store",
    "writing": "open for writing; uploaded after it is closed",
    "waiting": "waits for its upload",
    "uploading": "being uploaded",
    "parked": "PARKED: the store refuses it, the data are kept here",
}
_REMOTE = {
    "same": "",
    "changed": "changed by somebody else since",
    "gone": "deleted by somebody else since",
    "unreachable": "not reachable now",
}
_TYPES = {
    "file": modes.S_IFREG,
    "directory": modes.S_IFDIR,
    "symlink": modes.S_IFLNK,
    "special": modes.S_IFIFO,
}


def stat(paths: Sequence[str], *, as_json: bool) -> int:
    """Tell where the bytes of files are; the exit status is 1 if one cannot be told of."""
    failed = False
    found: list[dict[str, Any]] = []
    for text in paths:
        try:
            one = _ask(text)
        except MountError as error:
            failed = True
            sys.stderr.write(f"objfs: {error}\n")
            continue
        found.append(one)
        if not as_json:
            _print(text, one)
    if as_json:
        print_json(found)
    return int(failed)


def _ask(text: str) -> dict[str, Any]:
    place = locate(text)
    with place.connect() as client:
        try:
            return {"mountpoint": str(place.mountpoint), **client.stat(place.inner)}
        except NoAnswerError:  # the place explains it
            raise
        except ObjfsError as error:
            raise MountError(f"{text}: {error}") from error


def _print(text: str, one: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows(one):
        table.add_row(f"  {name}", Text(show_text(value), style="red" if "PARKED" in value else ""))
    console = Console(highlight=False)
    console.print(Text(show_text(text), style="bold"))
    console.print(table)


def rows(one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is shown of one file, line by line."""
    mode = modes.filemode(_TYPES[one["kind"]] | one["mode"])
    if one["kind"] == "directory":
        yield "directory", f"{show_count(one['entries'], 'name')} known, {mode}"
        yield "state", "changes below wait" if one["waiting_below"] else "in the store"
        yield "key", one["key"]
        return
    yield one["kind"], f"{one['size_bytes']:,} bytes, {mode}"
    yield "state", _state(one)
    if one["conflict_of"]:
        yield "conflict", f"our copy of {one['conflict_of']}, which somebody else changed first"
    if one["staged_bytes"]:
        yield "not uploaded", show_bytes(one["staged_bytes"])
    if one["etag"] is not None:
        yield "cached", _cached(one)
        yield "version", _version(one)
    yield "key", one["key"]
    if one["modified_s"] is not None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(one["modified_s"]))
        yield "modified", f"{stamp} in the store"
    kind = [one["storage_class"], one["content_type"], one["content_encoding"]]
    if any(kind):
        yield "stored as", ", ".join(value for value in kind if value)
    treatment = dict(one.get("treatment") or {})
    if expires := treatment.pop("expires", None):
        yield "expires", expires
    own = {name[4:]: treatment.pop(name) for name in list(treatment) if name.startswith("set.")}
    if own:
        yield "set", ", ".join(f"{name}={value}" for name, value in own.items())
    if treatment:
        yield "next upload", "; ".join(f"{name} {value}" for name, value in treatment.items())


def _state(one: dict[str, Any]) -> str:
    text = _STATES.get(one["state"]) or str(one["state"])
    if one["state"] == "uploading" and one["error"]:
        text = "not uploaded yet, tried again by itself"
    if len(one["changes"]) > 1 or one["changes"] not in ([], ["put"]):
        text += f" ({', '.join(one['changes'])})"
    if one["error"]:
        text += f": {one['error']}"
    if one["state"] == "parked":
        text += " Then: objfs flush --retry-parked, or objfs rescue."
    return text


def _cached(one: dict[str, Any]) -> str:
    total = one["content_bytes"] or 0
    share = f" ({one['cached_bytes'] / total:.0%})" if total else ""
    memory = f", {show_bytes(one['memory_bytes'])} in memory" if one["memory_bytes"] else ""
    return f"{show_bytes(one['cached_bytes'])} of {show_bytes(total)}{share} on disk{memory}"


def _version(one: dict[str, Any]) -> str:
    remote = _REMOTE.get(one["remote"], "")
    packed = (
        f", {show_bytes(one['stored_bytes'])} as stored"
        if one["stored_bytes"] != one["content_bytes"]
        else ""
    )
    return f"ETag {one['etag']}{packed}" + (f"; {remote}" if remote else "")
