"""DescribeExportTasks: how far exports of instances are, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.export_tasks import EXPORT_INSTANCE
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.export_task_views import describe_instance_export
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.task_listing import MOST_WITHOUT_PAGES

_FILTERS = Filters[Mapping[str, Any]](
    {"task-state": lambda view: view["State"]},
    tags=lambda view: {tag["Key"]: tag["Value"] for tag in view["Tags"]},
)


def describe_export_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks by id, each of which must exist, or the newest, oldest of them first. EC2 has no pages here."""
    ids = check_ids(request.get("ExportTaskIds", ()), "export-i-")
    known = context.services.catalog.export_tasks
    if ids:
        tasks = known.describe(context.place, EXPORT_INSTANCE, ids)
    else:
        tasks = known.newest(context.place, EXPORT_INSTANCE, MOST_WITHOUT_PAGES)
    tags = context.services.catalog.tags.of([task.id for task in tasks])
    views = [describe_instance_export(task, tags[task.id]) for task in tasks]
    return {"ExportTasks": _FILTERS.select(views, request.get("Filters", ()))}


ACTION = Action("DescribeExportTasks", describe_export_tasks)
