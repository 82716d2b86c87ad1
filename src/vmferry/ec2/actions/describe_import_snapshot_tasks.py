"""DescribeImportSnapshotTasks: how far imports of snapshots are, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_ids
from vmferry.ec2.task_listing import IMPORT_SNAPSHOT_TASKS


def describe_import_snapshot_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks of the account in the region, oldest first."""
    page = IMPORT_SNAPSHOT_TASKS.page(context, request, check_ids(request.get("ImportTaskIds", ()), "import-snap-"))
    return {
        "ImportSnapshotTasks": page.items,
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeImportSnapshotTasks", describe_import_snapshot_tasks)
