"""The server's figures as Prometheus reads them: tasks, and how far, how fast and how much longer each goes.

Everything is read from the catalog when it is asked for: nothing is counted beside the work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric

from vmferry.catalog.export_tasks import ExportTasks
from vmferry.catalog.import_tasks import ImportTask, ImportTasks

CONTENT_TYPE = CONTENT_TYPE_LATEST
_TASK = ("task", "account", "region")


class Metrics:
    """Renders what the catalog knows of tasks. Thread-safe."""

    def __init__(self, imports: ImportTasks, exports: ExportTasks) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(imports, exports))

    def render(self) -> bytes:
        """All figures, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Collector:
    """A Collector of prometheus_client."""

    def __init__(self, imports: ImportTasks, exports: ExportTasks) -> None:
        self._imports = imports
        self._exports = exports

    def collect(self) -> Iterable[Metric]:
        for tasks in (self._imports, self._exports):
            name, told = f"vmferry_{tasks.noun}_tasks", f"{tasks.noun.capitalize()} tasks by status."
            counts = GaugeMetricFamily(name, told, labels=["status"])
            for status, count in tasks.counts().items():
                counts.add_metric([status], count)
            yield counts
        yield from self._active(self._imports.active())

    def _active(self, tasks: list[ImportTask]) -> Iterator[Metric]:
        disk_labels = [*_TASK, "disk"]
        planned = GaugeMetricFamily("vmferry_task_data_bytes", "Guest bytes to convert.", labels=disk_labels)
        done = GaugeMetricFamily("vmferry_task_converted_bytes", "Guest bytes converted.", labels=disk_labels)
        progress = GaugeMetricFamily("vmferry_task_progress_ratio", "Progress as EC2 has it, 0 to 1.", labels=_TASK)
        read = GaugeMetricFamily("vmferry_task_read_bytes", "Bytes read from the object store.", labels=_TASK)
        written = GaugeMetricFamily("vmferry_task_written_bytes", "Bytes written to disk images.", labels=_TASK)
        rate = GaugeMetricFamily("vmferry_task_bytes_per_second", "Guest bytes converted a second.", labels=_TASK)
        left = GaugeMetricFamily("vmferry_task_seconds_left", "Until all is converted, at this rate.", labels=_TASK)
        now = datetime.now(UTC)
        for task in tasks:
            labels = [task.id, task.place.account_id, task.place.region]
            progress.add_metric(labels, task.progress / 100)
            read.add_metric(labels, task.bytes_read)
            written.add_metric(labels, task.bytes_written)
            for disk, part in enumerate(task.conversion):
                planned.add_metric([*labels, str(disk)], part.data)
                done.add_metric([*labels, str(disk)], part.done)
            if (speed := task.rate) is not None:
                rate.add_metric(labels, speed)
            if (seconds := task.seconds_left(now)) is not None:
                left.add_metric(labels, seconds)
        yield from (planned, done, progress, read, written, rate, left)
