"""StopInstances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.instances import PENDING, STOPPED
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_ids
from vmferry.ec2.instance_views import describe_state


def stop_instances(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """What is stopped stays so."""
    found = context.services.catalog.instances.describe(context.place, check_ids(request["InstanceIds"], "i-"))
    for instance in found:
        if instance.state == PENDING:
            raise Ec2Error(
                "IncorrectInstanceState",
                f"Instance '{instance.id}' cannot be stopped as it has never reached the 'running' state. | "
                f"{instance.task_id} imports it, and leaves it stopped.",
            )
        if instance.state != STOPPED:
            raise Ec2Error(
                "IncorrectInstanceState",
                f"This instance '{instance.id}' is not in a state from which it can be stopped. | It is "
                f"{instance.state}.",
            )
    stopped = describe_state(STOPPED)
    return {
        "StoppingInstances": [
            {"CurrentState": stopped, "InstanceId": instance.id, "PreviousState": stopped} for instance in found
        ]
    }


_NOTHING_RUNS = "no instance runs, so nothing has to be forced"
ACTION = Action(
    "StopInstances",
    stop_instances,
    refuses={"Hibernate": "there is no memory to keep"},
    idle={"Force": _NOTHING_RUNS, "SkipOsShutdown": _NOTHING_RUNS},
)
