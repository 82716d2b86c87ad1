"""ImportInstance: disk images in parts become a stopped instance with its volumes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.catalog.import_tasks import DiskContainer
from vmferry.catalog.instances import PENDING, Instance
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.conversions import describe_conversion, new_conversion, read_disk_image, start_conversion
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import new_id
from vmferry.ec2.import_starting import try_import
from vmferry.ec2.launch_plan import PLACES, ROOT_DEVICE, plan_launch
from vmferry.ec2.refusals import all_but
from vmferry.machine import Firmware

_TAKEN = (
    "Architecture", "GroupIds", "GroupNames", "InstanceInitiatedShutdownBehavior", "InstanceType", "Placement",
    "SubnetId", "UserData",
)  # fmt: skip
_PLATFORMS = ("Windows", "Linux")


def import_instance(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Record the task and the instance, pending until its disks are there; the task as it stands."""
    instance, containers = _read_request(context, request)
    task = start_conversion(context, instance.zone, containers, request.get("Description"), instance)
    return {"ConversionTask": describe_conversion(task, {})}


def check_import_instance(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: all that the call does, and the disks, which may come later."""
    instance, containers = _read_request(context, request)
    try_import(context, new_conversion(context, instance.zone, containers, request.get("Description"), instance))


ACTION = Action(
    "ImportInstance",
    import_instance,
    check_import_instance,
    refuses={
        **all_but("ImportInstance", _TAKEN, "nothing here would come of it", "LaunchSpecification"),
        **all_but("ImportInstance", PLACES, "there is one host", "LaunchSpecification.Placement"),
    },
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[Instance, list[DiskContainer]]:
    images = request.get("DiskImages") or ()
    if not images:
        raise Ec2Error("MissingParameter", "The request must contain the parameter diskImage")
    quotas = context.services.quotas
    if len(images) > (most := quotas.disks):
        raise Ec2Error("InvalidParameterValue", f"{len(images)} disk images were given; at most {most} may be.")
    for given in images:
        for name in ("Image", "Volume"):
            if not given.get(name):
                raise Ec2Error("MissingParameter", f"The request must contain the parameter diskImage.{name.lower()}")
    containers = [
        read_disk_image(context, given["Image"], given["Volume"], given.get("Description"), quotas.import_instance)
        for given in images
    ]
    return _instance(context, request), containers


def _instance(context: RequestContext, request: Mapping[str, Any]) -> Instance:
    launch: Mapping[str, Any] = request.get("LaunchSpecification") or {}
    architecture = launch.get("Architecture") or "x86_64"
    if choose(architecture, ("x86_64", "i386"), "architecture") != "x86_64":
        raise Ec2Error("Unsupported", "Only x86_64 machines are imported | i386 guests have no place on EC2's HVM.")
    platform = choose(request["Platform"], _PLATFORMS, "platform")
    user_data: Mapping[str, Any] = launch.get("UserData") or {}
    plan = plan_launch(
        context,
        {
            "InstanceType": launch.get("InstanceType"),
            "Placement": launch.get("Placement"),
            "SubnetId": launch.get("SubnetId"),
            "SecurityGroupIds": launch.get("GroupIds", ()),
            "SecurityGroups": launch.get("GroupNames", ()),
            "UserData": user_data.get("Data"),
            "InstanceInitiatedShutdownBehavior": launch.get("InstanceInitiatedShutdownBehavior"),
        },
    )
    return Instance(
        id=new_id("i-"),
        reservation_id=new_id("r-"),
        place=context.place,
        state=PENDING,
        state_reason=None,
        image_id=None,
        architecture="x86_64",
        platform=platform if platform == "Windows" else None,
        boot_mode=Firmware.BIOS.value,
        root_device_name=ROOT_DEVICE,
        private_ip=None,
        launched_at=datetime.now(UTC),
        task_id=None,
        **plan,
    )
