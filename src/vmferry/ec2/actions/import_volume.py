"""ImportVolume: a disk image in parts becomes a volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.import_tasks import DiskContainer
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.conversions import describe_conversion, new_conversion, read_disk_image, start_conversion
from vmferry.ec2.default_network import find_zone
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.import_starting import try_import


def import_volume(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Record the task, which waits for the parts; the task as it stands."""
    zone, container = _read_request(context, request)
    task = start_conversion(context, zone, [container], request.get("Description"))
    return {"ConversionTask": describe_conversion(task, {})}


def check_import_volume(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: all that the call does, and the disk, which may come later."""
    zone, container = _read_request(context, request)
    try_import(context, new_conversion(context, zone, [container], request.get("Description")))


ACTION = Action("ImportVolume", import_volume, check_import_volume)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[str, DiskContainer]:
    name, zone_id = request.get("AvailabilityZone"), request.get("AvailabilityZoneId")
    if not name and not zone_id:
        raise Ec2Error("MissingParameter", "The request must contain the parameter availabilityZone")
    zone = find_zone(context.region, name, zone_id)
    bounds, described = context.services.quotas.import_volume, request.get("Description")
    return zone.name, read_disk_image(context, request["Image"], request["Volume"], described, bounds)
