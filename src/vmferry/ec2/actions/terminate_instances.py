"""TerminateInstances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.instances import TERMINATED
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_ids
from vmferry.ec2.instance_views import describe_state
from vmferry.ec2.volume_images import remove_volume_image


def terminate_instances(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """End instances; the volumes that go with them are deleted, the others become available."""
    ids = check_ids(request["InstanceIds"], "i-")
    before, gone = context.services.catalog.instances.terminate(context.place, ids)
    for volume in gone:
        remove_volume_image(context, volume)
    return {
        "TerminatingInstances": [
            {
                "CurrentState": describe_state(TERMINATED),
                "InstanceId": instance.id,
                "PreviousState": describe_state(instance.state),
            }
            for instance in before
        ]
    }


_NOTHING_RUNS = "no instance runs, so nothing has to be forced"
ACTION = Action(
    "TerminateInstances", terminate_instances, idle={"Force": _NOTHING_RUNS, "SkipOsShutdown": _NOTHING_RUNS}
)
