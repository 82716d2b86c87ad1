"""CreateImage: an AMI of an instance as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.instances import RUNNING, STOPPED, Instance
from vmferry.catalog.volumes import Volume
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ami_names import check_ami_name
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id, new_id
from vmferry.ec2.image_creation import WantedImage, create_image_of
from vmferry.ec2.tag_specifications import check_tag_specifications


def create_image(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Snapshots of its volumes, and the AMI over them."""
    instance, volumes, wanted = _read_request(context, request)
    create_image_of(context, instance, volumes, wanted)
    return {"ImageId": wanted.id}


def check_create_image(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: everything but whether the name is taken, and whether there is room."""
    _read_request(context, request)


ACTION = Action(
    "CreateImage",
    create_image,
    check_create_image,
    refuses={
        "BlockDeviceMappings": "an AMI has the instance's volumes as they are",
        "BootModeOverride": "an AMI boots as its instance does",
        "SnapshotLocation": "there are no Local Zones",
    },
    idle={"NoReboot": "the instance does not run, so it need not be stopped"},
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[Instance, list[Volume], WantedImage]:
    check_ami_name(request["Name"])
    instance_id = check_id(request["InstanceId"], "i-")
    (instance,) = context.services.catalog.instances.describe(context.place, [instance_id])
    if instance.state not in (RUNNING, STOPPED):
        raise Ec2Error(
            "IncorrectState", f"Instance is not in state 'running' or 'stopped'. | {instance_id} is {instance.state}."
        )
    volumes = context.services.catalog.volumes.of_instances([instance_id])[instance_id]
    tags = check_tag_specifications(request.get("TagSpecifications", ()), ("image", "snapshot"))
    wanted = WantedImage(
        new_id("ami-"), request["Name"], request.get("Description"), tags.get("image", {}), tags.get("snapshot", {})
    )
    return instance, volumes, wanted
