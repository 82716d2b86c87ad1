"""DescribeSnapshots: the snapshots that an account owns or may read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.filters import Filters
from vmferry.ec2.ids import check_ids
from vmferry.ec2.image_views import describe_snapshot
from vmferry.ec2.import_task_views import tags_of_view
from vmferry.ec2.listing import Listing, Tags
from vmferry.ec2.owners import is_named, known_users
from vmferry.ec2.paging import Paging

_View = Mapping[str, Any]


_FILTERS = Filters[_View](
    {
        "description": lambda view: view["Description"],
        "encrypted": lambda view: view["Encrypted"],
        "owner-alias": lambda _: None,
        "owner-id": lambda view: view["OwnerId"],
        "progress": lambda view: view["Progress"],
        "snapshot-id": lambda view: view["SnapshotId"],
        "start-time": lambda view: view["StartTime"],
        "status": lambda view: view["State"],
        "storage-tier": lambda view: view["StorageTier"],
        "transfer-type": lambda _: None,
        "volume-id": lambda view: view["VolumeId"],
        "volume-size": lambda view: view["VolumeSize"],
    },
    tags=tags_of_view,
    fields={"snapshot-id": "id", "status": "state"},
)


def _views(_: RequestContext, snapshots: list[Snapshot], tags: Tags) -> list[_View]:
    return [describe_snapshot(snapshot, tags[snapshot.id]) for snapshot in snapshots]


_LISTING = Listing[Snapshot, _View](
    lambda catalog, place, ids: catalog.snapshots.describe(place, ids, shared=True),
    lambda catalog, *asked: catalog.snapshots.page(*asked),
    _views,
    _FILTERS,
    Paging("DescribeSnapshots", lambda snapshot: snapshot.id, alone="SnapshotIds"),
)


def describe_snapshots(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The snapshots that the caller may see: its own, and those that are shared with it."""

    def allowed(snapshots: list[Snapshot]) -> set[str]:
        owners, users = request.get("OwnerIds"), request.get("RestorableByUserIds")
        owned = [one for one in snapshots if is_named(context, owners, [one.place.account_id])]
        permitted = context.services.catalog.permissions.of([one.id for one in owned] if users else [])
        known = {one.id: known_users(context, one.place, permitted.get(one.id, ())) for one in owned}
        return {one.id for one in owned if is_named(context, users, [one.place.account_id, *known[one.id]])}

    page = _LISTING.page(context, request, check_ids(request.get("SnapshotIds", ()), "snap-"), allowed)
    return {"Snapshots": page.items, "NextToken": page.next_token}


ACTION = Action("DescribeSnapshots", describe_snapshots)
