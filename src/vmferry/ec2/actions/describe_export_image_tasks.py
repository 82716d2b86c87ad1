"""DescribeExportImageTasks: how far exports of AMIs are, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmferry.catalog.export_tasks import EXPORT_IMAGE, ExportTask
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.export_task_views import describe_export_task
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.paging import Paging


@dataclass(frozen=True, slots=True)
class _Tagged:
    task: ExportTask
    tags: Mapping[str, str]


_FILTERS = Filters[_Tagged]({"task-state": lambda item: item.task.status}, tags=lambda item: item.tags)
_PAGING = Paging[_Tagged](
    "DescribeExportImageTasks",
    lambda item: f"{item.task.created_at:%Y%m%d%H%M%S%f}{item.task.id}",
    lowest=1,
    highest=500,
)


def describe_export_image_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks of the account in the region, oldest first."""
    ids = check_ids(request.get("ExportImageTaskIds", ()), "export-ami-") or None
    tasks = context.services.catalog.export_tasks.describe(context.place, EXPORT_IMAGE, ids)
    tags = context.services.catalog.tags.of([task.id for task in tasks])
    chosen = _FILTERS.select([_Tagged(task, tags[task.id]) for task in tasks], request.get("Filters", ()))
    page = _PAGING.page(chosen, request)
    return {
        "ExportImageTasks": [describe_export_task(item.task, item.tags) for item in page.items],
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeExportImageTasks", describe_export_image_tasks)
