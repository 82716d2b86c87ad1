"""DescribeImportImageTasks: how far imports are, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmferry.catalog.import_tasks import ImportImageTask
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.import_task_views import describe_import_image_task
from vmferry.ec2.paging import Paging


@dataclass(frozen=True, slots=True)
class _Tagged:
    task: ImportImageTask
    tags: Mapping[str, str]


_FILTERS = Filters[_Tagged]({"task-state": lambda item: item.task.status}, tags=lambda item: item.tags)
_PAGING = Paging[_Tagged](
    "DescribeImportImageTasks", lambda item: f"{item.task.created_at:%Y%m%d%H%M%S%f}{item.task.id}"
)


def describe_import_image_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks of the account in the region, oldest first."""
    ids = check_ids(request.get("ImportTaskIds", ()), "import-ami-") or None
    tasks = context.services.catalog.import_tasks.describe(context.place, ids)
    tags = context.services.catalog.tags.of([task.id for task in tasks])
    chosen = _FILTERS.select([_Tagged(task, tags[task.id]) for task in tasks], request.get("Filters", ()))
    page = _PAGING.page(chosen, request)
    return {
        "ImportImageTasks": [describe_import_image_task(item.task, item.tags) for item in page.items],
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeImportImageTasks", describe_import_image_tasks)
