"""DeregisterImage: an AMI is forgotten; its snapshots stay, unless they shall go with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.owners import find_own_image
from vmferry.ec2.snapshot_removal import remove_snapshot
from vmferry.errors import ConflictError, NotFoundError


def deregister_image(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Forget the AMI, then its snapshots where asked for; one that another AMI uses stays."""
    image_id = find_own_image(context, check_id(request["ImageId"], "ami-")).id
    image = context.services.catalog.images.deregister(context.place, image_id)
    results = []
    for device in image.block_devices if request.get("DeleteAssociatedSnapshots") else ():
        try:
            remove_snapshot(context, device.snapshot_id)
            code = "success"
        except (ConflictError, NotFoundError):
            code = "skipped"
        results.append({"SnapshotId": device.snapshot_id, "ReturnCode": code})
    return {"Return": True, "DeleteSnapshotResults": results or None}


ACTION = Action("DeregisterImage", deregister_image)
