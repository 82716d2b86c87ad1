"""The lines that the classic commands print, tab-separated, to the letter: scripts cut columns from them.

Lines of conversion tasks are pairs of label and value; what is absent is left out with its label. Lines of export tasks
are columns, and an absent one stays empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_NIL = "(nil)"


def conversion_task_lines(task: Mapping[str, Any], *, transfer_details: bool = False) -> Iterator[str]:
    """A conversion task as the API answers it: a line of its own, and one for each disk.

    ``transfer_details`` adds where the manifest lies.
    """
    instance: Mapping[str, Any] | None = task.get("ImportInstance")
    yield _pairs(
        [
            ("TaskType", "IMPORTVOLUME" if instance is None else "IMPORTINSTANCE"),
            ("TaskId", task.get("ConversionTaskId")),
            ("ExpirationTime", task.get("ExpirationTime")),
            ("Status", task.get("State")),
            ("StatusMessage", task.get("StatusMessage")),
            ("InstanceID", (instance or {}).get("InstanceId")),
        ]
    )
    for disk in disks_of(task):
        yield _disk_line(disk, transfer_details=transfer_details)


def disks_of(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The disks of a conversion task: those of an instance, or the one of a volume."""
    if (instance := task.get("ImportInstance")) is not None:
        return list(instance.get("Volumes") or ())
    return [task["ImportVolume"]] if task.get("ImportVolume") else []


def export_task_line(task: Mapping[str, Any], *, show_empty: bool = False) -> str:
    """An export task: its columns, and the status message after them where there is one.

    ``show_empty`` puts ``(nil)`` into empty columns.
    """
    instance: Mapping[str, Any] = task.get("InstanceExportDetails") or {}
    target: Mapping[str, Any] = task.get("ExportToS3Task") or {}
    columns = [
        task.get("ExportTaskId"),
        task.get("Description"),
        task.get("State"),
        instance.get("InstanceId"),
        instance.get("TargetEnvironment"),
        target.get("DiskImageFormat"),
        target.get("ContainerFormat"),
        target.get("S3Bucket"),
        target.get("S3Key"),
    ]
    columns += [task["StatusMessage"]] if task.get("StatusMessage") else []
    empty = _NIL if show_empty else ""
    return "\t".join(["EXPORTTASK", *(_cell(value) if value else empty for value in columns)])


def _disk_line(disk: Mapping[str, Any], *, transfer_details: bool) -> str:
    image: Mapping[str, Any] = disk.get("Image") or {}
    volume: Mapping[str, Any] = disk.get("Volume") or {}
    return "DISKIMAGE\t" + _pairs(
        [
            ("DiskImageFormat", image.get("Format")),
            ("DiskImageSize", image.get("Size")),
            ("VolumeId", volume.get("Id")),
            ("VolumeSize", volume.get("Size")),
            ("AvailabilityZone", disk.get("AvailabilityZone")),
            ("ApproximateBytesConverted", disk.get("BytesConverted")),
            ("Status", disk.get("Status")),
            ("StatusMessage", disk.get("StatusMessage")),
            ("Description", disk.get("Description")),
            ("ImportManifestUrl", image.get("ImportManifestUrl") if transfer_details else None),
        ]
    )


def _pairs(pairs: Iterable[tuple[str, Any]]) -> str:
    return "\t".join(f"{label}\t{_cell(value)}" for label, value in pairs if value is not None and value != "")


def _cell(value: object) -> str:
    """``value`` in one cell, whatever a description holds."""
    return " ".join(str(value).split()) if isinstance(value, str) else str(value)
