"""DescribeSnapshots: the snapshots that an account owns or may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.image_views import describe_snapshot
from vmferry.ec2.owners import is_named, known_users
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
    """The snapshots that the caller may see: its own, and those that are shared with it."""
    ids = check_ids(request.get("SnapshotIds", ()), "snap-") or None
    catalog = context.services.catalog
    found = catalog.snapshots.describe(context.place, ids, shared=True)
    permitted = catalog.permissions.of([one.id for one in found])
    snapshots = [
        one
        for one in found
        if is_named(context, request.get("OwnerIds"), [one.place.account_id])
        and is_named(
            context,
            request.get("RestorableByUserIds"),
            [context.account_id, *known_users(context, one.place, permitted[one.id])],
        )
    ]
    tags = catalog.tags.of([one.id for one in snapshots if one.place == context.place])
    items = [_Tagged(one, describe_snapshot(one, tags.get(one.id, {})), tags.get(one.id, {})) for one in snapshots]
    page = _PAGING.page(_FILTERS.select(items, request.get("Filters", ())), request)
    return {"Snapshots": [item.view for item in page.items], "NextToken": page.next_token}


ACTION = Action("DescribeSnapshots", describe_snapshots)
