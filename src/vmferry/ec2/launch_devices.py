"""The volumes that a launch makes: an AMI's block devices, as the request changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vmferry.catalog.images import DEFAULT_VOLUME_TYPE, Image
from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.disk_containers import check_device_name
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.snapshot_copies import check_completed
from vmferry.ec2.volume_images import VOLUME_TYPES
from vmferry.errors import quote


@dataclass(frozen=True, slots=True)
class LaunchDevice:
    """A volume to be made at ``device_name``: of a snapshot, or empty."""

    device_name: str
    snapshot: Snapshot | None
    size_gib: int | None
    volume_type: str
    delete_on_termination: bool


def read_launch_devices(
    context: RequestContext, image: Image, mappings: Sequence[Mapping[str, Any]]
) -> list[LaunchDevice]:
    """The devices of ``image`` with ``mappings`` laid over them, the root's first. Raises ``Ec2Error``."""
    ids = [device.snapshot_id for device in image.block_devices]
    snapshots = {one.id: one for one in context.services.catalog.snapshots.describe(image.place, ids)}
    devices = {
        device.device_name: LaunchDevice(
            device.device_name,
            snapshots[device.snapshot_id],
            device.volume_size_gib,
            device.volume_type,
            device.delete_on_termination,
        )
        for device in image.block_devices
    }
    for given in mappings:
        _lay_over(context, devices, given)
    if image.root_device_name not in devices:
        raise Ec2Error(
            "InvalidBlockDeviceMapping", f"The root device {image.root_device_name} cannot be left out of a launch."
        )
    return list(devices.values())


def _lay_over(context: RequestContext, devices: dict[str, LaunchDevice], given: Mapping[str, Any]) -> None:
    name = given.get("DeviceName")
    if not name:
        raise Ec2Error("MissingParameter", "The request must contain the parameter BlockDeviceMapping.DeviceName")
    if given.get("NoDevice") is not None:
        devices.pop(name, None)
        return
    if given.get("VirtualName"):
        return  # an instance store, of which there is none: EC2 passes over those that a type has not
    ebs: Mapping[str, Any] = given.get("Ebs") or {}
    device = devices.get(name) or _empty_device(name)
    if ebs.get("SnapshotId"):
        device = replace(device, snapshot=_snapshot(context, name, device, ebs["SnapshotId"]))
    if ebs.get("VolumeSize") is not None:
        device = replace(device, size_gib=ebs["VolumeSize"])
    if ebs.get("VolumeType"):
        device = replace(device, volume_type=choose(ebs["VolumeType"], VOLUME_TYPES, "VolumeType"))
    if ebs.get("DeleteOnTermination") is not None:
        device = replace(device, delete_on_termination=ebs["DeleteOnTermination"])
    devices[name] = device


def _empty_device(name: str) -> LaunchDevice:
    return LaunchDevice(check_device_name(name), None, None, DEFAULT_VOLUME_TYPE, delete_on_termination=True)


def _snapshot(context: RequestContext, name: str, device: LaunchDevice, snapshot_id: str) -> Snapshot:
    """What a new device is made of; a device of the AMI keeps its snapshot."""
    if device.snapshot is not None and device.snapshot.id != snapshot_id:
        raise Ec2Error(
            "InvalidBlockDeviceMapping",
            f"snapshotId cannot be modified on the device {quote(name)}, which the AMI maps to {device.snapshot.id}.",
        )
    (found,) = context.services.catalog.snapshots.describe(context.place, [check_id(snapshot_id, "snap-")], shared=True)
    check_completed(found)
    return found
