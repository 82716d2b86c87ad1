"""DeleteSnapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.owners import find_own_snapshot
from vmferry.ec2.snapshot_removal import remove_snapshot


def delete_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Remove a snapshot that no AMI uses."""
    remove_snapshot(context, find_own_snapshot(context, check_id(request["SnapshotId"], "snap-")).id)
    return {}


ACTION = Action("DeleteSnapshot", delete_snapshot)
