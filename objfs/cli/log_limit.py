"""A bound on how often the same cause is logged, with the number of those left out."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WINDOW_S = 60.0
MOST_PER_WINDOW = 20  # enough to see a pattern, few enough to see everything else
LIMITED_LEVEL = logging.WARNING  # what goes well is told once for each file, and that is no repetition
MAX_CAUSES = 1000  # they are places in the program; a library might make its own out of data


@dataclass(slots=True)
class _Cause:
    """One place that logs, within its current window."""

    began_s: float
    record: logging.LogRecord
    count: int = 0
    left_out: int = 0


class LimitedHandler(logging.Handler):
    """Hands records on to other handlers, of each cause (place and text before its values) so many a minute.

    When the minute is over, one line says how many more there were. Thread-safe, as handlers are.
    """

    def __init__(
        self,
        targets: Sequence[logging.Handler],
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_PER_WINDOW,
    ) -> None:
        super().__init__()
        self._targets = tuple(targets)
        self._clock = clock
        self._most = most
        self._causes: dict[tuple[str, str], _Cause] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on, or count it."""
        if record.levelno < LIMITED_LEVEL or self._admits(record):
            self._hand_on(record)

    def tell_left_out(self) -> None:
        """Say what was left out in minutes that are over."""
        with self._held():
            self._timer = None
            now_s = self._clock()
            for key, cause in list(self._causes.items()):
                if now_s - cause.began_s >= WINDOW_S:
                    del self._causes[key]
                    self._summarize(cause)
            if any(cause.left_out for cause in self._causes.values()):
                self._start_timer()

    def close(self) -> None:
        """Say what was left out, and close the other handlers."""
        with self._held():
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            for cause in self._causes.values():
                self._summarize(cause)
            self._causes.clear()
        for target in self._targets:
            target.close()
        super().close()

    def flush(self) -> None:
        """See `logging.Handler`."""
        for target in self._targets:
            target.flush()

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _admits(self, record: logging.LogRecord) -> bool:
        key = (record.name, str(record.msg))
        now_s = self._clock()
        cause = self._causes.get(key)
        if cause is None or now_s - cause.began_s >= WINDOW_S:
            if cause is not None:
                self._summarize(cause)
            elif len(self._causes) >= MAX_CAUSES:
                return True
            cause = self._causes[key] = _Cause(began_s=now_s, record=record)
        cause.count += 1
        if cause.count <= self._most:
            return True
        cause.left_out += 1
        self._start_timer()
        return False

    def _summarize(self, cause: _Cause) -> None:
        if not cause.left_out:
            return
        first = cause.record
        text = f"... {cause.left_out:,} more like this in the last minute: {first.getMessage()}"
        cause.left_out = 0
        more = logging.LogRecord(first.name, first.levelno, first.pathname, first.lineno, "%s", (text,), None)
        self._hand_on(more)

    def _hand_on(self, record: logging.LogRecord) -> None:
        for target in self._targets:
            if record.levelno >= target.level:
                target.handle(record)

    def _start_timer(self) -> None:
        """Without it nothing would be said when nothing more is logged."""
        if self._timer is None:
            self._timer = threading.Timer(WINDOW_S, self.tell_left_out)
            self._timer.daemon = True
            self._timer.start()
