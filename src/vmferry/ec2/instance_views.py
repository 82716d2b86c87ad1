"""Instances as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmferry.catalog.instances import CODES, STOPPED, TERMINATED, Instance
from vmferry.catalog.volumes import Volume
from vmferry.ec2.default_network import GROUP_NAME, network_of
from vmferry.ec2.import_task_views import tag_list

NOT_STARTED = (
    "Server.InsufficientInstanceCapacity: no hypervisor is connected to vmferry, so the instance is kept stopped, "
    "with its volumes"
)
"""Why an instance that was to run is stopped."""

_OF_THE_RESERVATION = ("OwnerId", "ReservationId")


def describe_state(state: str) -> dict[str, Any]:
    """Name and number."""
    return {"Code": CODES[state], "Name": state}


def describe_instance(instance: Instance, volumes: Sequence[Volume], tags: Mapping[str, str]) -> dict[str, Any]:
    """An instance with the ``volumes`` that hang on it, and what its reservation says of it."""
    network = network_of(instance.place)
    ended = instance.state == TERMINATED
    return {
        "AmiLaunchIndex": instance.launch_index,
        "Architecture": instance.architecture,
        "BlockDeviceMappings": [_describe_device(volume) for volume in volumes],
        "BootMode": instance.boot_mode,
        "ClientToken": "",
        "EbsOptimized": instance.ebs_optimized,
        "EnaSupport": instance.support.ena,
        "Hypervisor": "xen",
        "ImageId": instance.image_id,
        "InstanceId": instance.id,
        "InstanceType": instance.instance_type,
        "KeyName": instance.key_name,
        "LaunchTime": instance.launched_at,
        "Monitoring": {"State": "disabled"},
        "OwnerId": instance.place.account_id,
        "Placement": {"AvailabilityZone": instance.zone, "GroupName": "", "Tenancy": "default"},
        "Platform": "windows" if instance.platform else None,
        "PlatformDetails": "Windows" if instance.platform else "Linux/UNIX",
        "PrivateDnsName": "",
        "PrivateIpAddress": instance.private_ip,
        "PublicDnsName": "",
        "ReservationId": instance.reservation_id,
        "RootDeviceName": instance.root_device_name,
        "RootDeviceType": "ebs",
        "SecurityGroups": []
        if ended
        else [{"GroupId": one, "GroupName": GROUP_NAME} for one in instance.security_groups],
        "SriovNetSupport": instance.support.sriov_net,
        "State": describe_state(instance.state),
        "StateReason": _describe_reason(instance.state_reason),
        "StateTransitionReason": _transition(instance),
        "SubnetId": None if ended else _subnet(instance),
        "Tags": tag_list(tags),
        "TpmSupport": instance.support.tpm,
        "UsageOperation": instance.billed_as,
        "VirtualizationType": "hvm",
        "VpcId": None if ended else network.vpc_id,
    }


def describe_reservations(instances: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Views of instances by the reservation that made them."""
    found: dict[str, dict[str, Any]] = {}
    for view in instances:
        shared = {name: view[name] for name in _OF_THE_RESERVATION}
        reservation = found.setdefault(shared["ReservationId"], {"Groups": [], "Instances": [], **shared})
        reservation["Instances"].append({name: value for name, value in view.items() if name not in shared})
    return list(found.values())


def _describe_device(volume: Volume) -> dict[str, Any]:
    held = volume.attachment
    assert held is not None, f"{volume.id} hangs on nothing"
    return {
        "DeviceName": held.device_name,
        "Ebs": {
            "AttachTime": held.attached_at,
            "DeleteOnTermination": held.delete_on_termination,
            "Status": "attached",
            "VolumeId": volume.id,
        },
    }


def _describe_reason(reason: str | None) -> dict[str, str] | None:
    if reason is None:
        return None
    code, _, _ = reason.partition(":")
    return {"Code": code, "Message": reason}


def _transition(instance: Instance) -> str:
    return "User initiated" if instance.state in (STOPPED, TERMINATED) else ""


def _subnet(instance: Instance) -> str | None:
    for subnet in network_of(instance.place).subnets:
        if subnet.zone.name == instance.zone:
            return subnet.id
    return None
