"""`objfs doctor`."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from objfs.cli.mounting.status import collect
from objfs.cli.settings import gather
from objfs.cli.show import print_json, show_changes, show_files, show_text
from objfs.cli.targets import Mounted, cache_base, find_target, settings_of
from objfs.config import ConfigError, config_paths, parse_size, read_files
from objfs.doctor.findings import Finding, failed, ok, skipped, warning
from objfs.doctor.keys import examine_keys
from objfs.doctor.leftovers import examine_leftovers
from objfs.doctor.machine import check_cache_folder, examine_machine
from objfs.doctor.tracking import leaving_nothing
from objfs.doctor.trials import Trials
from objfs.doctor.uploads import examine_uploads
from objfs.doctor.way import check_folder_or_bucket, examine_way
from objfs.drivers.s3api.diagnosis import Raw, speaks_s3
from objfs.store.registry import open_store
from objfs.store.urls import StoreOptions, StoreUrl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from objfs.config import MountSettings
    from objfs.control.values import MountStatus
    from objfs.store.protocol import ObjectStore

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
_INDENT = 31  # of the text: result and name before it
_DEFAULT_CACHE = "10GiB"


def doctor(
    name: str | None,
    flags: Mapping[str, str],
    *,
    read_only: bool,
    clean: bool,
    keys: int | None,
    as_json: bool,
) -> int:
    """Examine this machine, and a store or a mount; the status is 1 if something failed.

    Args:
        name: URL, mountpoint or configured mount; None: all mounts, as they tell of themselves.
        flags: settings given beside it.
        read_only: try nothing that writes.
        clean: abort old unfinished uploads of ours.
        keys: how many keys to look at, None for all.
        as_json: print a list instead of lines.
    """
    report = _Report(as_json=as_json)
    report.add("This machine", examine_machine(cache_base(flags), _cache_size(flags)))
    report.add("Configuration", _examine_configuration())
    if name is None:
        for status in collect():
            report.add(f"Mount {status.mountpoint}", _examine_mount(status))
    else:
        target = find_target(name, flags)
        settings = settings_of(target, flags)
        statuses = [one for one in collect() if one.mountpoint == str(settings.mountpoint)]
        for status in statuses:
            report.add(f"Mount {status.mountpoint}", _examine_mount(status))
        _examine_store(
            report,
            settings,
            mounted=isinstance(target, Mounted),
            read_only=read_only or settings.read_only,
            clean=clean,
            keys=keys,
        )
    return report.end()


class _Report:
    """Shows findings as they come, or all at once as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        from rich.console import Console

        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)
        self._width = max(60, shutil.get_terminal_size((100, 24)).columns)
        self._found: list[tuple[str, Finding]] = []

    def add(self, group: str, findings: Iterable[Finding]) -> None:
        """Show a group."""
        if not self._as_json:
            self._console.print(show_text(group), style="bold", markup=False)
        for finding in findings:
            self._found.append((group, finding))
            if not self._as_json:
                self._show(finding)

    def end(self) -> int:
        """Sum up; the exit status."""
        counts = Counter(finding.result for _, finding in self._found)
        if self._as_json:
            values = [{"group": group, **asdict(finding)} for group, finding in self._found]
            print_json(values)
        else:
            told = [f"{counts[result]} {result}" for result in ("failed", "warning", "ok", "skipped")]
            self._console.print(
                f"{', '.join(told)}.", style=_STYLES["failed"] if counts["failed"] else "bold"
            )
        return int(counts["failed"] > 0)

    def _show(self, finding: Finding) -> None:
        from rich.text import Text

        lines = textwrap.wrap(show_text(finding.text), self._width - _INDENT) or [""]
        if finding.advice:
            lines += textwrap.wrap(
                f"-> {show_text(finding.advice)}", self._width - _INDENT, subsequent_indent="   "
            )
        line = Text("  ")
        line.append(f"{finding.result:<9}", style=_STYLES[finding.result])
        line.append(f"{finding.name:<20}{lines[0]}")
        self._console.print(line)
        for more in lines[1:]:
            self._console.print(Text(" " * _INDENT + more))


def _examine_configuration() -> Iterator[Finding]:
    paths = [path for path in config_paths(os.environ) if os.path.lexists(path)]
    try:
        read_files(os.environ)
    except ConfigError as error:
        for sentence in error.sentences:
            yield failed("file", sentence.rstrip("."), "see 'objfs config check'")
        return
    yield ok("file", ", ".join(map(str, paths)) if paths else "there is none, which is fine")


def _examine_mount(status: MountStatus) -> Iterator[Finding]:
    """What a mount tells of itself."""
    if status.state == "dead":
        yield failed("state", "its objfs has gone", "run 'objfs mount' again: it goes on with what was left")
        return
    if status.state == "silent":
        yield failed(
            "state", "its objfs does not answer", "see its log; 'fusermount3 -u' lets it leave in order"
        )
        return
    yield ok("state", f"{status.state}, process {status.pid}")
    if status.store.reachable:
        yield ok("store", "reachable")
    else:
        yield failed(
            "store", status.store.error or "not reachable", "changes wait meanwhile; examine its URL"
        )
    uploads = status.uploads
    if uploads.parked:
        first = uploads.parked[0]
        yield failed(
            "refused changes",
            f"{show_changes(uploads.parked_count)}; the first: {first.operation} {first.key}: {first.error}",
            "put the cause right, then 'objfs flush --retry-parked'; 'objfs rescue' copies the files out",
        )
    else:
        yield ok("refused changes", "none")
    if uploads.conflicts:
        yield warning("conflicts", f"{uploads.conflicts} since it was mounted", "see 'objfs conflicts'")
    waiting = show_files(uploads.waiting_files)
    yield ok("to upload", waiting if uploads.waiting_files else "nothing")
    yield from check_cache_folder(Path(status.cache.path), status.cache.limit_bytes)


def _examine_store(
    report: _Report,
    settings: MountSettings,
    *,
    mounted: bool,
    read_only: bool,
    clean: bool,
    keys: int | None,
) -> None:
    url, options = StoreUrl.parse(settings.url), _options(settings)
    usable = True

    def watch(findings: Iterable[Finding]) -> Iterator[Finding]:
        nonlocal usable
        for finding in findings:
            usable = usable and not (
                finding.result == "failed" or (finding.name == "bucket" and finding.result != "ok")
            )
            yield finding

    with closing(open_store(url, options)) as store:
        if not speaks_s3(url):
            report.add(f"Store {settings.url}", watch([check_folder_or_bucket(store)]))
            raw = None
        else:
            raw = Raw(url, options)
            report.add(f"Way to {settings.url}", watch(examine_way(raw, options)))
        try:
            if not usable:
                return
            left: list[str] = []
            with leaving_nothing(store, left.extend) as tracking:
                if read_only:
                    report.add("Rights", [skipped("writing", "nothing is written with --read-only")])
                else:
                    report.add("Rights and promises", Trials(tracking, raw).run())
            if left:
                report.add("Left behind", [_tell_left(left)])
            content = _examine_content(store, settings.cache_path, mounted=mounted, clean=clean, keys=keys)
            report.add("Content", content)
        finally:
            if raw is not None:
                raw.close()


def _examine_content(
    store: ObjectStore, cache_path: Path, *, mounted: bool, clean: bool, keys: int | None
) -> Iterator[Finding]:
    yield examine_uploads(store, cache_path, mounted=mounted, clean=clean)
    yield examine_leftovers(store, clean=clean)
    yield examine_keys(store, keys)


def _tell_left(keys: list[str]) -> Finding:
    return failed("trials", f"could not be deleted: {', '.join(keys)}", "delete them with another tool")


def _options(settings: MountSettings) -> StoreOptions:
    return StoreOptions(
        endpoint_url=settings.endpoint_url,
        region=settings.region,
        profile=settings.profile,
        credentials_file=str(settings.credentials_file) if settings.credentials_file else None,
        max_connections=16,
    )


def _cache_size(flags: Mapping[str, str]) -> int:
    try:
        return parse_size(gather(None, flags).values.get("cache_size", _DEFAULT_CACHE))
    except (ValueError, ConfigError):
        return parse_size(_DEFAULT_CACHE)
