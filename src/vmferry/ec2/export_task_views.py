"""Export image tasks as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.export_tasks import ACTIVE, COMPLETED, ExportTask
from vmferry.ec2.import_task_views import tag_list, waiting_message


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
