"""DescribeSnapshots: the account's snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.image_views import describe_snapshot
from vmferry.ec2.owners import is_owned
from vmferry.ec2.paging import Paging


@dataclass(frozen=True, slots=True)
class _Tagged:
    snapshot: Snapshot
    view: Mapping[str, Any]
    tags: Mapping[str, str]


_FILTERS = Filters[_Tagged](
    {
        "description": lambda item: item.view["Description"],
        "encrypted": lambda item: item.view["Encrypted"],
        "owner-alias": lambda _: None,
        "owner-id": lambda item: item.view["OwnerId"],
        "progress": lambda item: item.view["Progress"],
        "snapshot-id": lambda item: item.snapshot.id,
        "start-time": lambda item: item.snapshot.created_at,
        "status": lambda item: item.snapshot.state,
        "storage-tier": lambda item: item.view["StorageTier"],
        "transfer-type": lambda _: None,
        "volume-id": lambda item: item.view["VolumeId"],
        "volume-size": lambda item: item.view["VolumeSize"],
    },
    tags=lambda item: item.tags,
)
_PAGING = Paging[_Tagged]("DescribeSnapshots", lambda item: item.snapshot.id, alone="SnapshotIds")


def describe_snapshots(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The snapshots that the caller may see: its own."""
    ids = check_ids(request.get("SnapshotIds", ()), "snap-") or None
    snapshots = context.services.catalog.snapshots.describe(context.place, ids)
    tags = context.services.catalog.tags.of([snapshot.id for snapshot in snapshots])
    if not is_owned(context, request.get("OwnerIds")) or not is_owned(context, request.get("RestorableByUserIds")):
        snapshots = []
    items = [_Tagged(s, describe_snapshot(s, tags[s.id]), tags[s.id]) for s in snapshots]
    page = _PAGING.page(_FILTERS.select(items, request.get("Filters", ())), request)
    return {"Snapshots": [item.view for item in page.items], "NextToken": page.next_token}


ACTION = Action("DescribeSnapshots", describe_snapshots)
