"""DescribeVolumes: the account's volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.volumes import Volume
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.import_task_views import tags_of_view
from vmferry.ec2.listing import Listing, Tags
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
    tags=tags_of_view,
    fields={"availability-zone": "zone", "status": "state", "volume-id": "id", "volume-type": "volume_type"},
)


def _views(_: RequestContext, volumes: list[Volume], tags: Tags) -> list[_View]:
    return [describe_volume(volume, tags[volume.id]) for volume in volumes]


_LISTING = Listing[Volume, _View](
    lambda catalog, place, ids: catalog.volumes.describe(place, ids),
    lambda catalog, *asked: catalog.volumes.page(*asked),
    _views,
    _FILTERS,
    Paging("DescribeVolumes", lambda volume: volume.id, alone="VolumeIds"),
)


def describe_volumes(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Volumes by id, each of which must exist, then the filters."""
    page = _LISTING.page(context, request, check_ids(request.get("VolumeIds", ()), "vol-"))
    return {"Volumes": page.items, "NextToken": page.next_token}


ACTION = Action("DescribeVolumes", describe_volumes, idle={"IncludeManagedResources": "nobody else manages anything"})
