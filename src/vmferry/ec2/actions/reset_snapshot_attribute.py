"""ResetSnapshotAttribute: a snapshot is its owner's alone again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.owners import find_own_snapshot
from vmferry.ec2.permission_changes import unknown_attribute


def reset_snapshot_attribute(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Share it with nobody. Raises ``Ec2Error`` for any attribute but ``createVolumePermission``."""
    snapshot = find_own_snapshot(context, check_id(request["SnapshotId"], "snap-"))
    if request["Attribute"] != "createVolumePermission":
        raise unknown_attribute(request["Attribute"])
    context.services.catalog.permissions.reset(context.place, snapshot.id)
    return {}


ACTION = Action("ResetSnapshotAttribute", reset_snapshot_attribute)
