"""Import tasks as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from vmferry.catalog.import_tasks import (
    ACTIVE,
    COMPLETED,
    DELETED,
    DiskContainer,
    ImportRequest,
    ImportTask,
)
from vmferry.tasks.import_image.licences import USAGE_OPERATIONS

_PENDING = "pending"
_PENDING_SHOWN_AFTER = timedelta(seconds=10)
_WAIT_SHOWN_AFTER = timedelta(seconds=3)
"""A wait that is shorter is nobody's business."""


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as EC2 lists them, in key order."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]


def tags_of_view(view: Mapping[str, Any]) -> dict[str, str]:
    """The tags of what is shown, as filters look at them."""
    return {tag["Key"]: tag["Value"] for tag in view["Tags"]}


def describe_requested_containers(request: ImportRequest) -> list[dict[str, Any]]:
    """The disk containers as they were asked for: nothing is known of them yet."""
    return [
        {
            **_source(container),
            "Description": container.description,
            "DiskImageSize": 0.0,
            "Format": container.format,
            "SnapshotId": container.snapshot_id,
        }
        for container in request.containers
    ]


def describe_import_image_task(task: ImportTask, tags: Mapping[str, str]) -> dict[str, Any]:
    """A task as DescribeImportImageTasks shows it. What is not known yet is left out."""
    facts, request = task.facts, task.request
    operation = request.usage_operation or (facts.usage_operation if task.status == COMPLETED else None)
    billed = USAGE_OPERATIONS.get(operation or "")
    return {
        "Architecture": facts.architecture or request.architecture,
        "BootMode": facts.boot_mode or request.boot_mode,
        "Description": request.description,
        "Hypervisor": request.hypervisor,
        "ImageId": task.image_id,
        "ImportTaskId": task.id,
        "LicenseType": request.license_type or (None if billed is None else billed.license_type),
        "Platform": facts.platform or request.platform,
        "Progress": str(task.progress) if task.status == ACTIVE else None,
        "SnapshotDetails": [_describe_disk(task, index) for index in range(len(facts.disks))],
        "Status": task.status,
        "StatusMessage": _status_message(task),
        "Tags": tag_list(tags),
        "UsageOperation": operation,
    }


_SNAPSHOT_STAGES = {"converting": "downloading/converting", "preparing ami": "preparing snapshot"}
"""What EC2 calls stages of ImportSnapshot that ImportImage has under another name."""


def describe_import_snapshot_task(task: ImportTask, tags: Mapping[str, str]) -> dict[str, Any]:
    """A task as DescribeImportSnapshotTasks shows it, and ImportSnapshot, when it has just begun."""
    container = task.request.containers[0]
    disk = task.facts.disks[0] if task.facts.disks else None
    message = _status_message(task)
    if message is not None and task.status == ACTIVE:
        message = message.replace(task.stage, _SNAPSHOT_STAGES.get(task.stage, task.stage), 1)
    return {
        "Description": task.request.description,
        "ImportTaskId": task.id,
        "SnapshotTaskDetail": {
            **_source(container),
            "Description": task.request.description,
            "DiskImageSize": 0.0 if disk is None else float(disk.stored_size),
            "Encrypted": False,
            "Format": container.format if disk is None else disk.format,
            "Progress": str(task.progress) if task.status == ACTIVE else None,
            "SnapshotId": _finished_snapshot(task),
            "Status": task.status,
            "StatusMessage": message,
        },
        "Tags": tag_list(tags),
    }


def _finished_snapshot(task: ImportTask) -> str | None:
    """The snapshot that a task made; empty while it is being made, as with AWS."""
    if task.status == COMPLETED:
        return task.facts.disks[0].snapshot_id
    return "" if task.status == ACTIVE and task.facts.disks else None


def _status_message(task: ImportTask) -> str | None:
    """The stage; behind a bar what it waits for, when it has waited for a while. The reason when the task was ended."""
    if task.status == COMPLETED:
        return None
    if task.status != ACTIVE:
        return task.reason or task.stage
    if task.stage == _PENDING and datetime.now(UTC) - task.created_at > _PENDING_SHOWN_AFTER:
        return f"{task.stage} | waiting for a worker (since {task.created_at:%Y-%m-%dT%H:%M:%SZ})"
    return waiting_message(task.stage, task.waiting_for, task.waiting_since)


def waiting_message(stage: str, waiting_for: str | None, since: datetime | None) -> str:
    """The stage of a task; behind a bar what it waits for, when it has waited for a while."""
    if waiting_for is None or since is None or datetime.now(UTC) - since < _WAIT_SHOWN_AFTER:
        return stage
    return f"{stage} | {waiting_for} (since {since:%Y-%m-%dT%H:%M:%SZ})"


def _describe_disk(task: ImportTask, index: int) -> dict[str, Any]:
    disk = task.facts.disks[index]
    container = task.request.containers[disk.container]
    return {
        **_source(container),
        "Description": container.description,
        "DeviceName": disk.device_name,
        "DiskImageSize": float(disk.stored_size),
        "Format": disk.format,
        "Progress": _disk_progress(task, index),
        "SnapshotId": disk.snapshot_id if task.status not in ("deleting", DELETED) else None,
        "Status": disk.status,
    }


def _disk_progress(task: ImportTask, index: int) -> str | None:
    """How many hundredths of a disk are converted, while that is of interest."""
    if task.status != ACTIVE or not task.conversion:
        return None
    part = task.conversion[index]
    return str(100 if part.done >= part.data else 100 * part.done // part.data)


def _source(container: DiskContainer) -> dict[str, Any]:
    """A place in S3; nothing for a snapshot, as the snapshot that a task shows is always the one that it makes."""
    if container.snapshot_id is not None:
        return {}
    return {"Url": container.url, "UserBucket": {"S3Bucket": container.bucket, "S3Key": container.key}}
