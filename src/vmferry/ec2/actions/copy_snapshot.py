"""CopySnapshot: called in the region that the copy is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.refusals import ENCRYPTION
from vmferry.ec2.snapshot_copies import check_completed, copy_snapshot_to, source_place
from vmferry.ec2.tag_specifications import tags_for


def copy_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot of its own over the same bytes."""
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
    refuses={
        **ENCRYPTION,
        "DestinationOutpostArn": "there are no Outposts",
        "DestinationAvailabilityZone": "there are no Local Zones",
    },
    idle={
        "CompletionDurationMinutes": "a copy is complete when the call answers",
        "DestinationRegion": "the copy is made in the region that is asked, as with EC2",
        "PresignedUrl": "the caller, who signed the request itself, may read both regions",
    },
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[Snapshot, dict[str, str]]:
    snapshot_id = check_id(request["SourceSnapshotId"], "snap-")
    (source,) = context.services.catalog.snapshots.describe(source_place(context, request), [snapshot_id], shared=True)
    check_completed(source)
    return source, tags_for(request.get("TagSpecifications"), "snapshot")
