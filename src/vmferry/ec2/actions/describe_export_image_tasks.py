"""DescribeExportImageTasks: how far exports of AMIs are, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_ids
from vmferry.ec2.task_listing import EXPORT_IMAGE_TASKS


def describe_export_image_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks of the account in the region, oldest first."""
    ids = check_ids(request.get("ExportImageTaskIds", ()), "export-ami-")
    page = EXPORT_IMAGE_TASKS.page(context, request, ids)
    return {
        "ExportImageTasks": page.items,
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeExportImageTasks", describe_export_image_tasks)
