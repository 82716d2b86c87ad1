"""CancelConversionTask: end an import of the classic kind; volumes and instance are removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.actions.cancel_import_task import cancel_reason
from vmferry.ec2.ids import check_id


def cancel_conversion_task(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Mark the task; its workflow is told by the dispatcher and cleans up."""
    task_id = check_id(request["ConversionTaskId"], "import-i-", "import-vol-")
    context.services.catalog.conversion_tasks.cancel(
        context.place, task_id, cancel_reason(request.get("ReasonMessage"))
    )
    context.services.wake()
    return {}


ACTION = Action("CancelConversionTask", cancel_conversion_task)
