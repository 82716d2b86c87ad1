"""DescribeVolumes: the account's volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.paging import Paging
from vmferry.ec2.volume_views import describe_volume
from vmferry.ec2.zones import zones_of

_View = Mapping[str, Any]


def _attachments(name: str) -> Any:
    return lambda view: [attachment[name] for attachment in view["Attachments"]]


def _zone_id(view: _View) -> list[str]:
    zones = zones_of(str(view["AvailabilityZone"])[:-1])
    return [zone.id for zone in zones if zone.name == view["AvailabilityZone"]]


_FILTERS = Filters[_View](
    {
        "attachment.attach-time": _attachments("AttachTime"),
        "attachment.delete-on-termination": _attachments("DeleteOnTermination"),
        "attachment.device": _attachments("Device"),
        "attachment.instance-id": _attachments("InstanceId"),
        "attachment.status": _attachments("State"),
        "availability-zone": lambda view: view["AvailabilityZone"],
        "availability-zone-id": _zone_id,
        "create-time": lambda view: view["CreateTime"],
        "encrypted": lambda view: view["Encrypted"],
        "fast-restored": lambda _: False,
        "multi-attach-enabled": lambda view: view["MultiAttachEnabled"],
        "operator.managed": lambda _: False,
        "operator.principal": lambda _: None,
        "size": lambda view: view["Size"],
        "snapshot-id": lambda view: view["SnapshotId"],
        "status": lambda view: view["State"],
        "volume-id": lambda view: view["VolumeId"],
        "volume-type": lambda view: view["VolumeType"],
    },
    tags=lambda view: {tag["Key"]: tag["Value"] for tag in view["Tags"]},
)
_PAGING = Paging[_View]("DescribeVolumes", lambda view: str(view["VolumeId"]), alone="VolumeIds")


def describe_volumes(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Volumes by id, each of which must exist, then the filters."""
    ids = check_ids(request.get("VolumeIds", ()), "vol-") or None
    volumes = context.services.catalog.volumes.describe(context.place, ids)
    tags = context.services.catalog.tags.of([volume.id for volume in volumes])
    views = [describe_volume(volume, tags[volume.id]) for volume in volumes]
    page = _PAGING.page(_FILTERS.select(views, request.get("Filters", ())), request)
    return {"Volumes": page.items, "NextToken": page.next_token}


ACTION = Action("DescribeVolumes", describe_volumes, idle={"IncludeManagedResources": "nobody else manages anything"})
