"""DescribeAvailabilityZones: the zones of the request's region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.filters import Filters
from vmferry.ec2.zones import Zone, zones_of
from vmferry.errors import quote

FILTERS = Filters[dict[str, Any]](
    {
        "group-long-name": lambda zone: zone["GroupLongName"],
        "group-name": lambda zone: zone["GroupName"],
        "message": lambda zone: zone["Messages"],
        "opt-in-status": lambda zone: zone["OptInStatus"],
        "parent-zone-id": lambda zone: zone.get("ParentZoneId"),
        "parent-zone-name": lambda zone: zone.get("ParentZoneName"),
        "region-name": lambda zone: zone["RegionName"],
        "state": lambda zone: zone["State"],
        "zone-id": lambda zone: zone["ZoneId"],
        "zone-name": lambda zone: zone["ZoneName"],
        "zone-type": lambda zone: zone["ZoneType"],
    }
)


def describe_availability_zones(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Zones by name or id, each of which must exist, then the filters."""
    zones = zones_of(context.region)
    names, ids = request.get("ZoneNames", ()), request.get("ZoneIds", ())
    _check(names, [zone.name for zone in zones])
    _check(ids, [zone.id for zone in zones])
    named = [zone for zone in zones if (not names or zone.name in names) and (not ids or zone.id in ids)]
    return {"AvailabilityZones": FILTERS.select(map(_answer, named), request.get("Filters", ()))}


def _check(asked: list[str], existing: list[str]) -> None:
    for name in asked:
        if name not in existing:
            raise Ec2Error("InvalidParameterValue", f"Invalid availability zone: [{quote(name)}]")


def _answer(zone: Zone) -> dict[str, Any]:
    return {
        "OptInStatus": "opt-in-not-required",
        "Messages": [],
        "RegionName": zone.region,
        "ZoneName": zone.name,
        "ZoneId": zone.id,
        "GroupName": f"{zone.region}-zg-1",
        "GroupLongName": zone.region,
        "NetworkBorderGroup": zone.region,
        "ZoneType": "availability-zone",
        "State": "available",
    }


ACTION = Action(
    "DescribeAvailabilityZones", describe_availability_zones, idle={"AllAvailabilityZones": "every zone takes part"}
)
