"""Where and how instances are launched, whoever makes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from vmferry.catalog.hardware import Hardware
from vmferry.catalog.instance_types import fitting_type
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.default_network import find_groups, find_subnet, find_zone
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.instance_types import DEFAULT_TYPE, find_instance_type

ROOT_DEVICE = "/dev/sda1"
PLACES = ("AvailabilityZone", "AvailabilityZoneId", "Tenancy")
"""Members of a placement that are looked at."""
_MAX_USER_DATA = 16 * 1024


def plan_launch(
    context: RequestContext, request: Mapping[str, Any], hardware: Hardware | None = None
) -> dict[str, Any]:
    """What the instances of a launch have in common, by the names of ``Instance``.

    ``request`` has the members of RunInstances. Where it names no type, the one that fits ``hardware`` is taken.
    Raises ``Ec2Error``.
    """
    placement: Mapping[str, Any] = request.get("Placement") or {}
    if (placement.get("Tenancy") or "default") != "default":
        raise Ec2Error("UnsupportedOperation", "vmferry has no dedicated hosts: leave Tenancy out.")
    zone = find_zone(context.region, placement.get("AvailabilityZone"), placement.get("AvailabilityZoneId"))
    if request.get("SubnetId"):
        zone = find_subnet(context.place, check_id(request["SubnetId"], "subnet-")).zone
    groups = tuple(check_id(one, "sg-") for one in request.get("SecurityGroupIds", ()))
    behaviors, behavior = ("stop", "terminate"), request.get("InstanceInitiatedShutdownBehavior") or "stop"
    return {
        "instance_type": find_instance_type(request.get("InstanceType") or _default_type(hardware)).name,
        "zone": zone.name,
        "security_groups": find_groups(context.place, groups, tuple(request.get("SecurityGroups", ()))),
        "user_data": _user_data(request.get("UserData")),
        "shutdown_behavior": choose(behavior, behaviors, "InstanceInitiatedShutdownBehavior"),
        "disable_api_termination": bool(request.get("DisableApiTermination")),
        "disable_api_stop": bool(request.get("DisableApiStop")),
        "ebs_optimized": bool(request.get("EbsOptimized")),
    }


def _default_type(hardware: Hardware | None) -> str:
    return DEFAULT_TYPE if hardware is None else fitting_type(hardware.cpus, hardware.memory).name


def _user_data(given: str | None) -> str | None:
    if not given:
        return None
    try:
        data = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Ec2Error("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data") from error
    if len(data) > _MAX_USER_DATA:
        raise Ec2Error("InvalidParameterValue", f"User data is limited to {_MAX_USER_DATA} bytes; it has {len(data)}.")
    return given
