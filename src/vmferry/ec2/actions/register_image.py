"""RegisterImage: snapshots become an AMI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vmferry.catalog.images import AVAILABLE, DEFAULT_VOLUME_TYPE, BlockDevice, Image
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ami_names import check_ami_name
from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id, new_id
from vmferry.ec2.image_support import read_support
from vmferry.ec2.refusals import OF_EBS, under
from vmferry.ec2.snapshot_copies import check_completed
from vmferry.ec2.tag_specifications import tags_for
from vmferry.ec2.volume_images import VOLUME_TYPES, check_volume_size
from vmferry.errors import quote

_DEFAULT_ROOT = "/dev/sda1"
_BOOT_MODES = ("legacy-bios", "uefi", "uefi-preferred")


def register_image(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Record an AMI over snapshots of the account."""
    image, tags = _read_request(context, request)
    context.services.catalog.images.register(image, tags)
    return {"ImageId": image.id}


def check_register_image(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: everything but whether the name is taken."""
    _read_request(context, request)


ACTION = Action(
    "RegisterImage",
    register_image,
    check_register_image,
    refuses={
        "ImageLocation": "images of the instance store are not to be had; give BlockDeviceMappings",
        "KernelId": "paravirtual machines are not to be had",
        "RamdiskId": "paravirtual machines are not to be had",
        "BillingProducts": "nothing is billed",
        **under("BlockDeviceMappings.Ebs", OF_EBS),
    },
    idle={
        "BlockDeviceMappings.NoDevice": "a device that is not to be is left out",
        "BlockDeviceMappings.VirtualName": "there is no instance store: its devices are left out, as EC2 leaves them",
    },
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[Image, dict[str, str]]:
    name = request["Name"]
    check_ami_name(name)
    if (virtualization := request.get("VirtualizationType")) != "hvm":
        given = quote(virtualization or "paravirtual, as EC2 has it where it is left out")
        raise Ec2Error("UnsupportedOperation", f"VirtualizationType is {given}: give VirtualizationType=hvm.")
    devices = _read_devices(context, request.get("BlockDeviceMappings", ()))
    root = request.get("RootDeviceName") or _DEFAULT_ROOT
    if root not in [device.device_name for device in devices]:
        raise Ec2Error(
            "InvalidBlockDeviceMapping",
            f"No root snapshot specified in device mapping | the root device is {quote(root)}: map a snapshot to it.",
        )
    boot_mode = choose(request.get("BootMode") or _BOOT_MODES[0], _BOOT_MODES, "BootMode")
    image = Image(
        id=new_id("ami-"),
        place=context.place,
        name=name,
        description=request.get("Description"),
        state=AVAILABLE,
        architecture=choose(request.get("Architecture") or "x86_64", ("x86_64", "i386"), "Architecture"),
        boot_mode=boot_mode,
        platform=None,
        usage_operation="RunInstances",
        root_device_name=root,
        created_at=datetime.now(UTC),
        block_devices=tuple(sorted(devices, key=lambda device: device.device_name != root)),
        support=read_support(request, boot_mode),
    )
    return image, tags_for(request.get("TagSpecifications"), "image")


def _read_devices(context: RequestContext, mappings: Sequence[Mapping[str, Any]]) -> list[BlockDevice]:
    found = [_read_device(context, given) for given in mappings if given.get("Ebs")]  # others are ephemeral, or none
    names = [device.device_name for device in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Ec2Error("InvalidBlockDeviceMapping", f"The device {quote(twice[0])} is mapped twice.")
    return found


def _read_device(context: RequestContext, given: Mapping[str, Any]) -> BlockDevice:
    name, ebs = given.get("DeviceName"), given["Ebs"]
    if not name:
        raise Ec2Error("MissingParameter", "The request must contain the parameter BlockDeviceMapping.DeviceName")
    if not ebs.get("SnapshotId"):
        raise Ec2Error(
            "UnsupportedOperation", f"The device {quote(name)} has no SnapshotId: empty volumes cannot be mapped."
        )
    snapshot_id = check_id(ebs["SnapshotId"], "snap-")
    (snapshot,) = context.services.catalog.snapshots.describe(context.place, [snapshot_id])
    check_completed(snapshot)
    least = snapshot.volume_size_gib
    size = ebs.get("VolumeSize") or least
    if size < least:
        raise Ec2Error(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {least}GB",
        )
    check_volume_size(context, size)
    kind = choose(ebs.get("VolumeType") or DEFAULT_VOLUME_TYPE, VOLUME_TYPES, "VolumeType")
    keep = ebs.get("DeleteOnTermination")
    return BlockDevice(name, snapshot_id, size, keep is not False, kind)
