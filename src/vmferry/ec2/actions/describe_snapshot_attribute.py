"""DescribeSnapshotAttribute: one attribute of a snapshot, for its owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.owners import find_own_snapshot
from vmferry.ec2.permission_changes import describe_permissions, unknown_attribute


def describe_snapshot_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Whom it is shared with; it has no product codes. Raises ``Ec2Error`` for another attribute."""
    snapshot = find_own_snapshot(context, check_id(request["SnapshotId"], "snap-"))
    if request["Attribute"] == "productCodes":
        return {"SnapshotId": snapshot.id, "ProductCodes": []}
    if request["Attribute"] != "createVolumePermission":
        raise unknown_attribute(request["Attribute"])
    users = context.services.catalog.permissions.of([snapshot.id])[snapshot.id]
    return {"SnapshotId": snapshot.id, "CreateVolumePermissions": describe_permissions(users)}


ACTION = Action("DescribeSnapshotAttribute", describe_snapshot_attribute)
