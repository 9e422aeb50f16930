"""How far to read ahead: pure policy, one `ReadStream` per handle, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from objfs.store.values import KIB, MIB

MAX_RUNS = 4  # sequential runs recognised on one handle; each costs one comparison per read
MAX_PART_BYTES = 8 * MIB  # one GET: its latency (10-30 ms) is small beside the transfer (80 ms at 100 MB/s)
MIN_PART_BYTES = 512 * KIB  # ahead of a young run: requests small enough to arrive soon
PARTS_PER_WINDOW = 8  # a full window is this many parallel GETs: one connection gives some 60-100 MB/s (S3)
SMALL_OBJECT_BYTES = MIB  # read from its start, such an object is fetched whole: one request instead of three

# The kernel sends its own read-ahead concurrently: requests arrive out of order by a few positions.
REORDER_POSITIONS = 8
REORDER_MIN_BYTES = 128 * KIB  # one READ of the kernel's default read-ahead (fuse-facts 8)
REORDER_MAX_BYTES = 8 * MIB
SPARSE_FACTOR = 4  # a run that reads less than a quarter of what it passes is no sequential reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to fetch ahead of a read: bytes [start, stop) in parts of `part_bytes`; nothing if start == stop.

    Attributes:
        is_joined: one request shall bring the read itself and what is ahead of it.
    """

    start: int
    stop: int
    part_bytes: int
    is_joined: bool = False


NOTHING_AHEAD = Plan(start=0, stop=0, part_bytes=MIN_PART_BYTES)


@dataclass(slots=True)
class _Run:
    """One sequential run: bytes [start, head) were passed, of which `read_bytes` were really read.

    `ahead` is where fetching ahead has got to. A run is sequential from its second read on.
    """

    start: int
    head: int
    read_bytes: int
    ahead: int
    is_sequential: bool = False

    def accepts(self, offset: int, length: int) -> bool:
        slack = min(max(REORDER_POSITIONS * length, REORDER_MIN_BYTES), REORDER_MAX_BYTES)
        return self.head - slack <= offset <= max(self.head + slack, self.ahead)

    @property
    def is_sparse(self) -> bool:
        """Whether most of what it passed was skipped: fetching ahead would fetch mostly what nobody reads."""
        return self.read_bytes * SPARSE_FACTOR < self.head - self.start

    def follow(self, offset: int, length: int) -> None:
        self.start = min(self.start, offset)
        self.head = max(self.head, offset + length)
        # Rereading a place, or touching every tenth block, makes no long run: both bounds count.
        self.read_bytes = min(self.read_bytes + length, self.head - self.start)
        self.is_sequential = True


class ReadStream:
    """What is known of one handle's reads. Window: twice what its run has read, up to `read_ahead_bytes`."""

    def __init__(self, *, read_ahead_bytes: int, max_part_bytes: int = MAX_PART_BYTES) -> None:
        self._read_ahead_bytes = read_ahead_bytes
        self._max_part_bytes = max_part_bytes
        self._runs: list[_Run] = []  # the most recently used first

    def observe(self, offset: int, length: int, size_bytes: int, *, is_missing: bool = False) -> Plan:
        """Note a read of [offset, offset + length) and say what to fetch ahead of it.

        `is_missing`: some of it is neither here nor on its way. If it was fetched ahead once, what follows is
        likely to be gone as well and is planned anew.
        """
        run = self._run_of(offset, length)
        if run is None:
            return self._begin(offset, length, size_bytes)
        if is_missing:
            run.ahead = min(run.ahead, offset + length)
        run.follow(offset, length)
        return self._plan(run, size_bytes)

    def fetched_ahead(self, stop: int) -> None:
        """The plan was carried out up to `stop` (less than planned when there was no room)."""
        if self._runs:
            self._runs[0].ahead = max(self._runs[0].ahead, stop)

    def _run_of(self, offset: int, length: int) -> _Run | None:
        near = [run for run in self._runs if run.accepts(offset, length)]
        if not near:
            return None
        run = min(near, key=lambda candidate: abs(candidate.head - offset))
        self._runs.remove(run)
        self._runs.insert(0, run)
        return run

    def _begin(self, offset: int, length: int, size_bytes: int) -> Plan:
        stop = offset + length
        self._runs.insert(0, _Run(start=offset, head=stop, read_bytes=length, ahead=stop))
        del self._runs[MAX_RUNS:]
        if offset == 0 and stop < size_bytes <= SMALL_OBJECT_BYTES:
            return Plan(start=stop, stop=size_bytes, part_bytes=SMALL_OBJECT_BYTES, is_joined=True)
        return NOTHING_AHEAD

    def _plan(self, run: _Run, size_bytes: int) -> Plan:
        if run.is_sparse or self._read_ahead_bytes <= 0:
            return NOTHING_AHEAD
        window = min(2 * run.read_bytes, self._read_ahead_bytes)
        part = min(max(window // PARTS_PER_WINDOW, MIN_PART_BYTES), self._max_part_bytes)
        start = max(run.ahead, run.head)
        stop = min(run.head + window, size_bytes)
        # Whole parts only, or the end of the object: never a small request for every read.
        if stop < size_bytes:
            stop -= (stop - start) % min(part, window)
        if start >= stop:
            return NOTHING_AHEAD
        return Plan(start=start, stop=stop, part_bytes=part)
