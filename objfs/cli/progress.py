"""Uploads as somebody at a terminal, or a log, sees them go."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from objfs.cli.show import show_bytes, show_changes, show_files, show_text
from objfs.errors import MountError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from objfs.control.values import DrainProgress

_STALLED_LIMIT_S = 60.0  # longer than a restart of a server takes; scripts must not hang for ever
_PLAIN_INTERVAL_S = 3.0  # between lines of progress where no bar can be shown


class DrainDisplay:
    """Shows the steps of a drain, and gives it up once the store is away and nothing moves for a while.

    Args:
        draw: shows a step.
        advice: what to do about a store that is away, as the end of a sentence.
        clock: seconds.
    """

    def __init__(
        self,
        draw: Callable[[DrainProgress], None],
        advice: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.last: DrainProgress | None = None
        self._draw = draw
        self._advice = advice
        self._clock = clock
        self._moved: tuple[int, int] | None = None
        self._moved_s = clock()

    def __call__(self, step: DrainProgress) -> None:
        """One step.

        Raises:
            MountError: the drain is given up.
        """
        self.last = step
        now_s, figures = self._clock(), (step.uploaded_bytes, step.waiting_changes)
        if step.error is None or figures != self._moved:
            self._moved, self._moved_s = figures, now_s
        elif now_s - self._moved_s > _STALLED_LIMIT_S:
            raise MountError(f"{_describe(step)}; {self._advice}")
        self._draw(step)

    def follow(self, steps: Iterable[DrainProgress]) -> None:
        """Show all steps of a drain."""
        for step in steps:
            self(step)


@contextmanager
def open_display(advice: str, *, progress: bool | None = None) -> Iterator[DrainDisplay]:
    """A bar on a terminal, else a line every few seconds; with `progress` False nothing."""
    if progress is False:
        yield DrainDisplay(lambda _step: None, advice)
    elif sys.stderr.isatty():
        with _open_bar() as draw:
            yield DrainDisplay(draw, advice)
    else:
        yield DrainDisplay(plain_lines(time.monotonic), advice)


def plain_lines(clock: Callable[[], float]) -> Callable[[DrainProgress], None]:
    """Draws a line to stderr every few seconds."""
    next_line_s = clock() + _PLAIN_INTERVAL_S

    def draw(step: DrainProgress) -> None:
        nonlocal next_line_s
        if (step.waiting_files or step.waiting_changes) and clock() >= next_line_s:
            sys.stderr.write(f"objfs: {_describe(step)}\n")
            next_line_s = clock() + _PLAIN_INTERVAL_S

    return draw


@contextmanager
def _open_bar() -> Iterator[Callable[[DrainProgress], None]]:
    before_bytes: int | None = None

    def draw(step: DrainProgress) -> None:
        nonlocal before_bytes
        before_bytes = step.uploaded_bytes if before_bytes is None else before_bytes
        done = step.uploaded_bytes - before_bytes
        total = max(done + step.waiting_bytes, 1)
        update(description=_describe(step), completed=done, total=total)

    with open_rich_bar("uploading", time_left=False) as update:
        yield draw


def _describe(step: DrainProgress) -> str:
    waiting = []
    if step.waiting_files or not step.waiting_changes:
        waiting.append(f"{show_files(step.waiting_files)} ({show_bytes(step.waiting_bytes)})")
    if step.waiting_changes:
        waiting.append(f"{show_changes(step.waiting_changes)} of names and attributes")
    left = f"{' and '.join(waiting)} left to upload"
    return f"{left}; the store does not answer: {show_text(step.error).rstrip('.')}" if step.error else left


@contextmanager
def open_bar(text: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes with rate and time left: (done, total). Nothing where there is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with open_rich_bar(text) as update:
        yield lambda done, total: update(completed=done, total=max(total, 1))


@contextmanager
def open_rich_bar(text: str, *, time_left: bool = True) -> Iterator[Callable[..., None]]:
    """A bar of bytes on the terminal behind stderr, gone at the end.

    What is yielded takes the keywords of `rich.progress.Progress.update`.
    """
    from rich import progress
    from rich.console import Console

    columns = [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
    ]
    columns += [progress.TimeRemainingColumn()] if time_left else []
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield partial(bar.update, bar.add_task(text, total=None))
