"""DescribeImportImageTasks: how far imports are, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_ids
from vmferry.ec2.task_listing import IMPORT_IMAGE_TASKS


def describe_import_image_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks of the account in the region, oldest first."""
    page = IMPORT_IMAGE_TASKS.page(context, request, check_ids(request.get("ImportTaskIds", ()), "import-ami-"))
    return {
        "ImportImageTasks": page.items,
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeImportImageTasks", describe_import_image_tasks)
