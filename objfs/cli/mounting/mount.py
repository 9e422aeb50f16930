"""`objfs mount`."""

from __future__ import annotations

import logging
import os
import resource
import sys
from typing import TYPE_CHECKING

from objfs import mounts
from objfs.cli.failure import describe_failure, pick_leaf
from objfs.cli.logs import configure_logging
from objfs.cli.mounting.background import Outcome, run_in_background
from objfs.cli.mounting.checks import check_before_mount, free_mountpoint, warn_of_cache
from objfs.cli.settings import read_settings
from objfs.errors import ObjfsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from objfs.config import MountSettings

log = logging.getLogger("objfs.cli")


def mount(target: str, mountpoint: Path | None, flags: Mapping[str, str], options: Sequence[str]) -> int:
    """Mount, and return once the mount answers; with `--foreground` once it has gone again."""
    settings = read_settings(target, mountpoint, flags, options)
    check_before_mount(settings)
    if settings.foreground:
        outcome = Outcome(status=0)

        def keep(reported: Outcome) -> None:
            nonlocal outcome
            outcome = reported

        status = serve(settings, keep)
        outcome = outcome if outcome.status else Outcome(status=status)  # a note was in the log on the way
    else:
        outcome = run_in_background(
            lambda report: serve(settings, report),
            session_at_once=not mounts.is_automount(settings.mountpoint),
        )
    if outcome.sentence:
        sys.stderr.write(f"objfs: {outcome.sentence}\n")
    return outcome.status


def serve(settings: MountSettings, report: Callable[[Outcome], None]) -> int:
    """Run the mount in this process until it is taken away; returns the exit status."""
    try:
        _raise_open_file_limit()
        configure_logging(
            settings.log_path,
            settings.log_level,
            os.environ,
            also_stderr=settings.foreground,
            log_format=settings.log_format,
        )
        warn_of_cache(settings)
        from objfs.app.mount import (
            run_mount,
        )  # with trio, pyfuse3 and the SDKs: only in the process that serves

        run_mount(
            settings,
            free_mountpoint=lambda: free_mountpoint(settings.mountpoint, nonempty=settings.nonempty),
            on_ready=lambda note: report(Outcome(status=0, sentence=note)),
        )
    except KeyboardInterrupt:
        return 0
    except BaseException as error:  # noqa: BLE001  # the last chance to say anything
        return _fail(error, settings, report)
    finally:
        logging.shutdown()
    return 0


def _fail(error: BaseException, settings: MountSettings, report: Callable[[Outcome], None]) -> int:
    status, sentence = describe_failure(error)
    if isinstance(pick_leaf(error), ObjfsError):
        log.error("%s", sentence)
    else:
        log.critical("internal error", exc_info=error)
        what = sentence.removesuffix("; please report it.").removesuffix(".")
        sentence = f"{what}; the details are in {settings.log_path}."
    report(Outcome(status=status, sentence=sentence))
    return status


def _raise_open_file_limit() -> None:
    """Staged files and connections are descriptors; the soft limit of 1,024 is for select(2) only."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
