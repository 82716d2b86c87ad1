"""Export tasks as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.export_tasks import ACTIVE, COMPLETED, DELETED, DELETING, ExportTask
from vmferry.ec2.import_task_views import tag_list, waiting_message

_STATES = {ACTIVE: "active", COMPLETED: "completed", DELETING: "cancelling", DELETED: "cancelled"}
"""Of exports of instances, which EC2 words in its own way."""
_DISK_OF = {"OVA": "vmdk"}


def describe_instance_export(task: ExportTask, tags: Mapping[str, str]) -> dict[str, Any]:
    """A task as CreateInstanceExportTask and DescribeExportTasks show it."""
    kind = task.format.lower()
    waiting = task.status == ACTIVE and task.waiting_for is not None
    return {
        "Description": task.description,
        "ExportTaskId": task.id,
        "ExportToS3Task": {
            "ContainerFormat": kind if task.format == "OVA" else None,
            "DiskImageFormat": _DISK_OF.get(task.format, kind),
            "S3Bucket": task.bucket,
            "S3Key": task.key,
        },
        "InstanceExportDetails": {"InstanceId": task.instance_id, "TargetEnvironment": task.target_environment},
        "State": _STATES[task.status],
        "StatusMessage": _status_message(task) if task.status != ACTIVE or waiting else None,
        "Tags": tag_list(tags),
    }


def describe_export_task(task: ExportTask, tags: Mapping[str, str]) -> dict[str, Any]:
    """A task as DescribeExportImageTasks shows it."""
    return {
        "Description": task.description,
        "ExportImageTaskId": task.id,
        "Progress": str(task.progress) if task.status == ACTIVE else None,
        "S3ExportLocation": {"S3Bucket": task.bucket, "S3Prefix": task.prefix or None},
        "Status": task.status,
        "StatusMessage": _status_message(task),
        "Tags": tag_list(tags),
    }


def _status_message(task: ExportTask) -> str | None:
    if task.status == COMPLETED:
        return None
    if task.status != ACTIVE:
        return task.reason or task.stage
    return waiting_message(task.stage, task.waiting_for, task.waiting_since)
