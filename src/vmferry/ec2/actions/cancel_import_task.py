"""CancelImportTask: end an import; what it has made so far is removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.import_tasks import DELETING
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.errors import quote

_SENTENCE = "User initiated task cancelation"
"""EC2's own, so spelled."""


def cancel_import_task(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Mark the task; its workflow is told by the dispatcher and cleans up."""
    if not request.get("ImportTaskId"):
        raise Ec2Error("MissingParameter", "The request must contain the parameter ImportTaskId")
    task_id = check_id(request["ImportTaskId"], "import-ami-", "import-snap-")
    reason = cancel_reason(request.get("CancelReason"))
    before = context.services.catalog.import_tasks.cancel(context.place, task_id, reason)
    context.services.wake()
    return {"ImportTaskId": task_id, "PreviousState": before, "State": DELETING}


ACTION = Action("CancelImportTask", cancel_import_task)


def cancel_reason(given: str | None) -> str:
    """What a cancelled task says: EC2's sentence, and the caller's behind a bar."""
    return f"{_SENTENCE} | {quote(given)}" if given else _SENTENCE
