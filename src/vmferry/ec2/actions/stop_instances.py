"""StopInstances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.instances import STOPPED
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_ids
from vmferry.ec2.instance_views import describe_state
from vmferry.ec2.refusals import refuse

_REFUSED = {"Hibernate": "there is no memory to keep"}


def stop_instances(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """What is stopped stays so; nothing runs that would have to be forced."""
    refuse(request, _REFUSED)
    found = context.services.catalog.instances.describe(context.place, check_ids(request["InstanceIds"], "i-"))
    for instance in found:
        if instance.state != STOPPED:
            raise Ec2Error(
                "IncorrectInstanceState",
                f"The instance '{instance.id}' is not in a state from which it can be stopped. | It is "
                f"{instance.state}.",
            )
    stopped = describe_state(STOPPED)
    return {
        "StoppingInstances": [
            {"CurrentState": stopped, "InstanceId": instance.id, "PreviousState": stopped} for instance in found
        ]
    }


ACTION = Action(
    "StopInstances", stop_instances, idle={"Force": "no instance runs", "SkipOsShutdown": "no instance runs"}
)
