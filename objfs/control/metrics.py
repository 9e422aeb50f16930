"""The counters of a mount as Prometheus metrics: base units, bounded label values, built only when asked for.

Labels: `mountpoint` on each; `operation` and `kind` have a fixed set of values, `errno` and `error` those
that have occurred of a fixed set. Never a path, a key or a process.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from objfs.store.forward import RequestKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from objfs.control.figures import Figures, RequestFigures
    from objfs.observe.histogram import Durations

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Upper bounds of buckets: powers of two, so that they are exact; 15 us to 64 s, each four times the last.
BUCKET_EXPONENTS = range(-16, 7, 2)
_THROTTLED = "ThrottledError"


def exposition(figures: Figures) -> bytes:
    """The metrics as Prometheus reads them. Takes some milliseconds: for a thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MountCollector(figures))
    return generate_latest(registry)


class MountCollector(Collector):
    """Metrics of one moment."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._mount()
        yield from self._operations()
        yield from self._store()
        yield from self._uploads()
        yield from self._caches()

    def _mount(self) -> Iterator[Metric]:
        figures = self._figures
        info = GaugeMetricFamily(
            "objfs_mount_info", "The mount; always 1.", labels=["mountpoint", "url", "version"]
        )
        info.add_metric([figures.mountpoint, figures.url, figures.version], 1)
        yield info
        yield self._gauge("start_time_seconds", "When the mount began, Unix time.", figures.started_s)
        yield self._counter("process_cpu_seconds_total", "Processor time of the daemon.", figures.cpu_s)
        yield self._gauge("process_resident_bytes", "Memory of the daemon.", figures.resident_bytes)

    def _operations(self) -> Iterator[Metric]:
        figures = self._figures
        yield self._histogram(
            "operation_duration_seconds",
            "Time to answer programs, by operation; its _count is the number of operations.",
            "operation",
            ((name, one.durations) for name, one in figures.operations.items()),
        )
        yield self._labelled(
            "operation_errors_total",
            "Operations that failed, by errno.",
            ("operation", "errno"),
            (
                ((name, error), count)
                for name, one in figures.operations.items()
                for error, count in one.errors.items()
            ),
        )
        yield self._gauge("operations_running", "Operations without an answer yet.", figures.running_calls)
        oldest_s = max((one.seconds for one in figures.running), default=0.0)
        yield self._gauge("longest_running_operation_seconds", "Age of the oldest of them.", oldest_s)
        reads = figures.reads
        yield self._labelled(
            "read_bytes_total",
            "Bytes that programs read, by where they came from: memory, disk, store, staged.",
            ("source",),
            (((name,), getattr(reads, name)) for name in ("memory", "disk", "store", "staged")),
        )
        yield self._counter("written_bytes_total", "Bytes that programs wrote.", figures.written_bytes)

    def _store(self) -> Iterator[Metric]:
        kinds = {kind.value: self._figures.requests.get(kind.value) for kind in RequestKind}
        asked: dict[str, RequestFigures] = {name: one for name, one in kinds.items() if one is not None}
        yield self._histogram(
            "store_request_duration_seconds",
            "Time of requests to the store, by kind, each try by itself; its _count is their number.",
            "kind",
            ((name, one.durations) for name, one in asked.items()),
        )
        yield self._labelled(
            "store_errors_total",
            "Requests that failed, by the error's name; NotFound is often an answer as good as any.",
            ("kind", "error"),
            (
                ((name, error.removesuffix("Error")), count)
                for name, one in asked.items()
                for error, count in one.errors.items()
            ),
        )
        for name, text, field_name in (
            ("store_retries_total", "Requests that repeated an earlier one.", "retries"),
            ("store_sent_bytes_total", "Bytes of bodies sent.", "sent_bytes"),
            ("store_received_bytes_total", "Bytes of bodies received.", "received_bytes"),
        ):
            yield self._labelled(
                name, text, ("kind",), (((kind,), getattr(one, field_name)) for kind, one in asked.items())
            )
        throttled = sum(one.errors.get(_THROTTLED, 0) for one in asked.values())
        yield self._counter("store_throttled_total", "Answers that asked to slow down.", throttled)
        running = sum(one.running for one in asked.values())
        yield self._gauge("store_requests_running", "Requests under way.", running)
        since_s = self._figures.offline_since_s
        offline_s = max(0.0, time.time() - since_s) if since_s is not None else 0.0
        yield self._gauge("store_offline", "1 while uploads find no store.", since_s is not None)
        yield self._gauge("store_offline_seconds", "For how long; 0 while it answers.", offline_s)

    def _uploads(self) -> Iterator[Metric]:
        uploads = self._figures.uploads
        yield self._counter("uploaded_files_total", "Files uploaded.", uploads.uploaded_files)
        yield self._counter("uploaded_bytes_total", "Bytes of files uploaded.", uploads.uploaded_bytes)
        yield self._gauge("waiting_files", "Files that wait for their upload.", uploads.waiting_files)
        yield self._gauge("waiting_bytes", "Their bytes.", uploads.waiting_bytes)
        yield self._gauge("waiting_changes", "Other changes that wait.", uploads.waiting_changes)
        yield self._gauge("uploading_files", "Files on their way.", uploads.in_flight_files)
        yield self._gauge(
            "parked_changes", "Changes the store refuses; their data are kept.", uploads.parked_count
        )
        yield self._counter("conflicts_total", "Files kept beside somebody else's change.", uploads.conflicts)

    def _caches(self) -> Iterator[Metric]:
        figures, disk = self._figures, self._figures.disk
        yield self._gauge("cache_bytes", "Disk cache in use.", disk.bytes)
        yield self._gauge("cache_limit_bytes", "Disk cache at most.", disk.limit_bytes)
        yield self._counter("cache_hits_total", "Blocks found in the disk cache.", disk.hits)
        yield self._counter("cache_misses_total", "Blocks not found in it.", disk.misses)
        yield self._counter(
            "cache_bad_blocks_total", "Blocks dropped, their checksum wrong.", disk.bad_blocks
        )
        yield self._counter(
            "cache_dropped_blocks_total", "Blocks not kept, for want of room.", disk.dropped_inserts
        )
        yield self._gauge("staging_bytes", "Changed data on the local disk.", figures.staging_bytes)
        yield self._gauge("staging_limit_bytes", "At most; writes then fail.", figures.staging_limit_bytes)
        yield self._gauge("memory_bytes", "Read buffers in use.", figures.memory_bytes)
        yield self._gauge("memory_limit_bytes", "Read buffers at most.", figures.memory_limit_bytes)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        metric = GaugeMetricFamily(f"objfs_{name}", text, labels=["mountpoint"])
        metric.add_metric([self._figures.mountpoint], value)
        return metric

    def _counter(self, name: str, text: str, value: float) -> Metric:
        return self._labelled(name, text, (), [((), value)])

    def _labelled(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        values: Iterable[tuple[tuple[str, ...], float]],
    ) -> Metric:
        metric = CounterMetricFamily(f"objfs_{name}", text, labels=["mountpoint", *labels])
        for label_values, value in values:
            metric.add_metric([self._figures.mountpoint, *label_values], value)
        return metric

    def _histogram(self, name: str, text: str, label: str, values: Iterable[tuple[str, Durations]]) -> Metric:
        metric = HistogramMetricFamily(f"objfs_{name}", text, labels=["mountpoint", label])
        for value, durations in values:
            buckets: list[tuple[str, float]] = [
                (repr(bound_s), count) for bound_s, count in durations.below(BUCKET_EXPONENTS)
            ]
            buckets.append(("+Inf", durations.count))
            metric.add_metric([self._figures.mountpoint, value], buckets, sum_value=durations.total_s)
        return metric
