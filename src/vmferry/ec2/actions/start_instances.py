"""StartInstances: not to be had without a hypervisor, and said so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.instances import PENDING, STOPPED, Instance
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_ids


def start_instances(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse, once the instances are known to exist and to be stopped."""
    ids = check_ids(request["InstanceIds"], "i-")
    for instance in context.services.catalog.instances.describe(context.place, ids):
        _check_startable(instance)
    raise Ec2Error(
        "UnsupportedOperation",
        f"vmferry has no hypervisor to start {ids[0]} on. Its volumes are qcow2 files that any KVM host starts: "
        "`vmferry volumes locate VOL` says where they lie.",
    )


ACTION = Action("StartInstances", start_instances, refuses={"AdditionalInfo": "it is reserved by EC2"})


def _check_startable(instance: Instance) -> None:
    if instance.state == PENDING:
        raise Ec2Error(
            "IncorrectInstanceState",
            f"Invalid value '{instance.id}' for instanceId. Instance does not have a volume attached at root "
            f"({instance.root_device_name}) | {instance.task_id} imports it: wait until that is completed.",
        )
    if instance.state != STOPPED:
        raise Ec2Error(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a state from which it can be started. | It is {instance.state}.",
        )
