"""StartInstances: not to be had without a hypervisor, and said so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_ids


def start_instances(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse, once the instances are known to exist."""
    ids = check_ids(request["InstanceIds"], "i-")
    context.services.catalog.instances.describe(context.place, ids)
    raise Ec2Error(
        "UnsupportedOperation",
        f"vmferry has no hypervisor to start {ids[0]} on. Its volumes are qcow2 files that any KVM host starts: "
        "`vmferry volumes locate VOL` says where they lie.",
    )


ACTION = Action("StartInstances", start_instances, refuses={"AdditionalInfo": "it is reserved by EC2"})
