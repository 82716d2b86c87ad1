"""DescribeImportSnapshotTasks: how far imports of snapshots are, and how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.import_tasks import IMPORT_SNAPSHOT
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.import_task_pages import page_tasks
from vmferry.ec2.import_task_views import describe_import_snapshot_task


def describe_import_snapshot_tasks(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Tasks of the account in the region, oldest first."""
    page = page_tasks(context, request, IMPORT_SNAPSHOT, "import-snap-")
    return {
        "ImportSnapshotTasks": [describe_import_snapshot_task(item.task, item.tags) for item in page.items],
        "NextToken": page.next_token,
    }


ACTION = Action("DescribeImportSnapshotTasks", describe_import_snapshot_tasks)
