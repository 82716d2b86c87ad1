"""AttachVolume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.disk_containers import check_device_name
from vmferry.ec2.ids import check_id
from vmferry.ec2.volume_views import describe_attachment


def attach_volume(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Hang a volume on an instance, which has it when it starts the next time."""
    volume = context.services.catalog.volumes.attach(
        context.place,
        check_id(request["VolumeId"], "vol-"),
        check_id(request["InstanceId"], "i-"),
        check_device_name(request["Device"]),
    )
    return describe_attachment(volume, "attached")


ACTION = Action("AttachVolume", attach_volume, refuses={"EbsCardIndex": "machines have one EBS card"})
