"""DescribeConversionTasks: ImportInstance's and ImportVolume's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.import_tasks import CONVERSION
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.conversions import describe_conversion
from vmferry.ec2.ids import check_ids
from vmferry.ec2.task_listing import MOST_WITHOUT_PAGES


def describe_conversion_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks by id, each of which must exist, or the newest, oldest of them first. EC2 has no pages here."""
    ids = check_ids(request.get("ConversionTaskIds", ()), "import-i-", "import-vol-")
    known = context.services.catalog.import_tasks
    if ids:
        tasks = known.describe(context.place, CONVERSION, ids)
    else:
        tasks = known.newest(context.place, CONVERSION, MOST_WITHOUT_PAGES)
    tags = context.services.catalog.tags.of([task.id for task in tasks])
    return {"ConversionTasks": [describe_conversion(task, tags[task.id]) for task in tasks]}


ACTION = Action("DescribeConversionTasks", describe_conversion_tasks)
