"""DescribeInstances: the account's instances, by the reservation that made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vmferry.catalog.instances import Instance
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.import_task_views import tags_of_view
from vmferry.ec2.instance_views import describe_instance, describe_reservations
from vmferry.ec2.listing import Listing, Tags
from vmferry.ec2.paging import Paging

_View = Mapping[str, Any]


def _member(name: str) -> Callable[[_View], object]:
    return lambda view: view[name]


def _devices(name: str) -> Callable[[_View], object]:
    return lambda view: [device["Ebs"][name] for device in view["BlockDeviceMappings"]]


_FILTERS = Filters[_View](
    {
        "architecture": _member("Architecture"),
        "availability-zone": lambda view: view["Placement"]["AvailabilityZone"],
        "block-device-mapping.attach-time": _devices("AttachTime"),
        "block-device-mapping.delete-on-termination": _devices("DeleteOnTermination"),
        "block-device-mapping.device-name": lambda view: [one["DeviceName"] for one in view["BlockDeviceMappings"]],
        "block-device-mapping.status": _devices("Status"),
        "block-device-mapping.volume-id": _devices("VolumeId"),
        "boot-mode": _member("BootMode"),
        "client-token": _member("ClientToken"),
        "dns-name": _member("PublicDnsName"),
        "group-id": lambda view: [group["GroupId"] for group in view["SecurityGroups"]],
        "group-name": lambda view: [group["GroupName"] for group in view["SecurityGroups"]],
        "hypervisor": _member("Hypervisor"),
        "image-id": _member("ImageId"),
        "instance-id": _member("InstanceId"),
        "instance-lifecycle": lambda _: None,
        "instance-state-code": lambda view: view["State"]["Code"],
        "instance-state-name": lambda view: view["State"]["Name"],
        "instance-type": _member("InstanceType"),
        "instance.group-id": lambda view: [group["GroupId"] for group in view["SecurityGroups"]],
        "instance.group-name": lambda view: [group["GroupName"] for group in view["SecurityGroups"]],
        "ip-address": lambda _: None,
        "key-name": _member("KeyName"),
        "launch-index": _member("AmiLaunchIndex"),
        "launch-time": _member("LaunchTime"),
        "owner-id": _member("OwnerId"),
        "platform": _member("Platform"),
        "platform-details": _member("PlatformDetails"),
        "private-dns-name": _member("PrivateDnsName"),
        "private-ip-address": _member("PrivateIpAddress"),
        "reservation-id": _member("ReservationId"),
        "root-device-name": _member("RootDeviceName"),
        "root-device-type": _member("RootDeviceType"),
        "state-reason-code": lambda view: (view["StateReason"] or {}).get("Code"),
        "subnet-id": _member("SubnetId"),
        "tenancy": lambda view: view["Placement"]["Tenancy"],
        "virtualization-type": _member("VirtualizationType"),
        "vpc-id": _member("VpcId"),
    },
    tags=tags_of_view,
    fields={
        "image-id": "image_id",
        "instance-id": "id",
        "instance-state-name": "state",
        "instance-type": "instance_type",
        "reservation-id": "reservation_id",
    },
)


def _views(context: RequestContext, instances: list[Instance], tags: Tags) -> list[_View]:
    volumes = context.services.catalog.volumes.of_instances([one.id for one in instances])
    return [describe_instance(one, volumes[one.id], tags[one.id]) for one in instances]


_LISTING = Listing[Instance, _View](
    lambda catalog, place, ids: catalog.instances.describe(place, ids),
    lambda catalog, *asked: catalog.instances.page(*asked),
    _views,
    _FILTERS,
    Paging("DescribeInstances", lambda instance: instance.id, alone="InstanceIds"),
)


def describe_instances(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Instances by id, each of which must exist, then the filters."""
    page = _LISTING.page(context, request, check_ids(request.get("InstanceIds", ()), "i-"))
    return {"Reservations": describe_reservations(page.items), "NextToken": page.next_token}


ACTION = Action(
    "DescribeInstances", describe_instances, idle={"IncludeManagedResources": "nobody else manages anything"}
)
