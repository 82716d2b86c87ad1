"""DeleteVolume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.volume_images import remove_volume_image


def delete_volume(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Forget a volume that hangs on nothing, then delete its image: what dies in between is a file nobody knows."""
    volume = context.services.catalog.volumes.remove(context.place, check_id(request["VolumeId"], "vol-"))
    remove_volume_image(context, volume)
    return {}


ACTION = Action("DeleteVolume", delete_volume)
