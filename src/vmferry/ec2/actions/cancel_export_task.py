"""CancelExportTask: end an export; what it has sent so far is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id

_SENTENCE = "User initiated task cancelation"
"""EC2's own, so spelled."""


def cancel_export_task(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Mark the task; its workflow is told by the dispatcher and cleans up."""
    task_id = check_id(request["ExportTaskId"], "export-ami-", "export-i-")
    context.services.catalog.export_tasks.cancel(context.place, task_id, _SENTENCE)
    context.services.wake()
    return {}


ACTION = Action("CancelExportTask", cancel_export_task)
