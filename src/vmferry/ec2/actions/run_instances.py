"""RunInstances: machines of an AMI, with volumes of their own.

There is no hypervisor behind the API yet, so what is launched is kept stopped, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.fingerprint import fingerprint
from vmferry.catalog.hardware import without_addresses
from vmferry.catalog.images import AVAILABLE, Image
from vmferry.catalog.instances import STOPPED, Instance, NewInstance
from vmferry.catalog.volumes import Attachment, Volume
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id, new_id
from vmferry.ec2.instance_views import NOT_STARTED, describe_instance, describe_reservations
from vmferry.ec2.launch_devices import LaunchDevice, read_launch_devices
from vmferry.ec2.launch_plan import PLACES, plan_launch
from vmferry.ec2.refusals import OF_EBS, all_but, under
from vmferry.ec2.tag_specifications import check_tag_specifications
from vmferry.ec2.volume_images import attached, make_volume_image, plan_volume, remove_volume_image
from vmferry.errors import quote

_MAX_AT_ONCE = 20
_TAKEN = (
    "BlockDeviceMappings", "ClientToken", "DisableApiStop", "DisableApiTermination", "DryRun", "EbsOptimized",
    "ImageId", "InstanceInitiatedShutdownBehavior", "InstanceType", "KeyName", "MaxCount", "MinCount", "Monitoring",
    "Placement", "SecurityGroupIds", "SecurityGroups", "SubnetId", "TagSpecifications", "UserData",
)  # fmt: skip


def run_instances(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Make the volumes, record the instances; a request that came before is answered as then."""
    image, devices, plan, count = _read_request(context, request)
    instances = context.services.catalog.instances
    token = request.get("ClientToken") or None
    claim = ("RunInstances", token, fingerprint(request))
    if token is not None and (earlier := instances.made_by(context.place, claim[0], token, claim[2])) is not None:
        return _answer(context, earlier)
    tags = check_tag_specifications(request.get("TagSpecifications", ()), ("instance", "volume"))
    reservation_id, volumes = new_id("r-"), list[Volume]()
    try:
        made = []
        for index in range(count):
            instance = _instance(context, image, plan, reservation_id, index)
            own = [_make_volume(context, instance, device, volumes) for device in devices]
            made.append(NewInstance(instance, own, tags.get("instance", {}), tags.get("volume", {})))
        recorded = instances.add(made, claim)
    except BaseException:
        _remove(context, volumes)
        raise
    if recorded != reservation_id:  # the same request came twice at once
        _remove(context, volumes)
    return _answer(context, recorded)


def check_run_instances(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: everything but whether there is room."""
    _read_request(context, request)
    check_tag_specifications(request.get("TagSpecifications", ()), ("instance", "volume"))


ACTION = Action(
    "RunInstances",
    run_instances,
    check_run_instances,
    refuses={
        **all_but("RunInstances", _TAKEN, "nothing here would come of it"),
        **under("BlockDeviceMappings.Ebs", OF_EBS),
        **all_but("RunInstances", PLACES, "there is one host", "Placement"),
        "Monitoring.Enabled": "instances are not monitored",
        "Monitoring.MetricCategoryIds": "instances are not monitored",
    },
)


def _read_request(
    context: RequestContext, request: Mapping[str, Any]
) -> tuple[Image, list[LaunchDevice], dict[str, Any], int]:
    if not request.get("ImageId"):
        raise Ec2Error("MissingParameter", "The request must contain the parameter ImageId")
    count = _count(request["MinCount"], request["MaxCount"])
    (image,) = context.services.catalog.images.describe(
        context.place, [check_id(request["ImageId"], "ami-")], shared=True
    )
    if image.state != AVAILABLE:
        raise Ec2Error("InvalidAMIID.Unavailable", f"The image id '[{image.id}]' is no longer available")
    if request.get("KeyName"):
        raise Ec2Error("InvalidKeyPair.NotFound", f"The key pair '{quote(request['KeyName'])}' does not exist")
    devices = read_launch_devices(context, image, request.get("BlockDeviceMappings", ()))
    return image, devices, plan_launch(context, request, image.hardware), count


def _count(least: int, most: int) -> int:
    if not 1 <= least <= most:
        raise Ec2Error(
            "InvalidParameterValue", f"MinCount ({least}) and MaxCount ({most}) must be at least 1, and in order."
        )
    if least > _MAX_AT_ONCE:
        raise Ec2Error(
            "InstanceLimitExceeded",
            f"You have requested more instances ({least}) than are made at once ({_MAX_AT_ONCE})",
        )
    return min(most, _MAX_AT_ONCE)


def _instance(
    context: RequestContext, image: Image, plan: Mapping[str, Any], reservation_id: str, index: int
) -> Instance:
    return Instance(
        id=new_id("i-"),
        reservation_id=reservation_id,
        place=context.place,  # of who launches: the AMI may be another account's
        state=STOPPED,
        state_reason=NOT_STARTED,
        image_id=image.id,
        architecture=image.architecture,
        support=image.support,
        usage_operation=image.usage_operation,
        platform=image.platform,
        boot_mode=image.boot_mode,
        root_device_name=image.root_device_name,
        private_ip=None,
        launched_at=datetime.now(UTC),
        launch_index=index,
        hardware=without_addresses(image.hardware),
        **plan,
    )


def _make_volume(context: RequestContext, instance: Instance, device: LaunchDevice, made: list[Volume]) -> Volume:
    """A volume for ``device``, with its image; ``made`` gets it before there is one."""
    planned = plan_volume(context, instance.zone, device.snapshot, device.size_gib, device.volume_type)
    hold = Attachment(instance.id, device.device_name, datetime.now(UTC), device.delete_on_termination)
    volume = attached(planned, hold)
    made.append(volume)
    make_volume_image(context, volume, device.snapshot)
    return volume


def _remove(context: RequestContext, volumes: Sequence[Volume]) -> None:
    for volume in volumes:
        remove_volume_image(context, volume)


def _answer(context: RequestContext, reservation_id: str) -> dict[str, Any]:
    catalog = context.services.catalog
    found = {instance.id: instance for instance in catalog.instances.of_reservation(reservation_id)}
    volumes, tags = catalog.volumes.of_instances(found), catalog.tags.of(found)
    views = [describe_instance(one, volumes[one.id], tags[one.id]) for one in found.values()]
    (reservation,) = describe_reservations(views)
    return reservation
