"""CopySnapshot: called in the region that the copy is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.disk_containers import check_encryption
from vmferry.ec2.ids import check_id
from vmferry.ec2.refusals import refuse
from vmferry.ec2.snapshot_copies import check_completed, copy_snapshot_to, source_place
from vmferry.ec2.tag_specifications import tags_for

_REFUSED = {
    "DestinationOutpostArn": "there are no Outposts",
    "DestinationAvailabilityZone": "there are no Local Zones",
    "CompletionDurationMinutes": "a copy is whole at once",
}


def copy_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot of its own over the same bytes. ``PresignedUrl`` is what botocore adds for AWS' regions: the caller
    is the same here, who may read both."""
    source, tags = _read_request(context, request)
    made = copy_snapshot_to(context, source, request.get("Description"), tags)
    return {"SnapshotId": made.id, "Tags": [{"Key": key, "Value": tags[key]} for key in sorted(tags)]}


def check_copy_snapshot(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: everything but whether there is room."""
    _read_request(context, request)


ACTION = Action(
    "CopySnapshot",
    copy_snapshot,
    check_copy_snapshot,
    idle={"PresignedUrl": "the caller may read both regions", "DestinationRegion": "is the region of the request"},
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[Snapshot, dict[str, str]]:
    check_encryption(request)
    refuse(request, _REFUSED)
    snapshot_id = check_id(request["SourceSnapshotId"], "snap-")
    (source,) = context.services.catalog.snapshots.describe(source_place(context, request), [snapshot_id], shared=True)
    check_completed(source)
    return source, tags_for(request.get("TagSpecifications"), "snapshot")
