"""DetachVolume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.volume_views import describe_attachment


def detach_volume(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Take a volume off its instance."""
    instance_id = request.get("InstanceId")
    volume = context.services.catalog.volumes.detach(
        context.place,
        check_id(request["VolumeId"], "vol-"),
        None if not instance_id else check_id(instance_id, "i-"),
        request.get("Device") or None,
    )
    return describe_attachment(volume, "detached")


ACTION = Action("DetachVolume", detach_volume, idle={"Force": "the instance does not run, so nothing has to be forced"})
