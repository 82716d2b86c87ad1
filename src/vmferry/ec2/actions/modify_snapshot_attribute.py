"""ModifySnapshotAttribute: a snapshot is shared with accounts, or with all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.owners import find_own_snapshot
from vmferry.ec2.permission_changes import read_permission_changes, unknown_attribute


def modify_snapshot_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Share it as the request says. Raises ``Ec2Error`` for what would have no effect."""
    snapshot = find_own_snapshot(context, check_id(request["SnapshotId"], "snap-"))
    if (request.get("Attribute") or "createVolumePermission") != "createVolumePermission":
        raise unknown_attribute(request["Attribute"])
    add, remove = read_permission_changes(request, "CreateVolumePermission", "GroupNames")
    if not add and not remove:
        raise Ec2Error("InvalidParameterCombination", "No attributes specified.")
    context.services.catalog.permissions.change(context.place, snapshot.id, add, remove)
    return {}


ACTION = Action("ModifySnapshotAttribute", modify_snapshot_attribute)
