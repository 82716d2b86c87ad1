"""CreateSnapshot: what a volume holds now, kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ids import check_id
from vmferry.ec2.image_views import describe_snapshot
from vmferry.ec2.tag_specifications import tags_for
from vmferry.ec2.volume_snapshots import check_snapshot_source, snapshot_volume


def create_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """A completed snapshot of its own over the volume's bytes."""
    volume = check_snapshot_source(context, check_id(request["VolumeId"], "vol-"))
    tags = tags_for(request.get("TagSpecifications"), "snapshot")
    made = snapshot_volume(context, volume, request.get("Description"), tags)
    return describe_snapshot(made, context.services.catalog.tags.of([made.id])[made.id])


def check_create_snapshot(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: everything but whether there is room."""
    check_snapshot_source(context, check_id(request["VolumeId"], "vol-"))
    tags_for(request.get("TagSpecifications"), "snapshot")


ACTION = Action(
    "CreateSnapshot",
    create_snapshot,
    check_create_snapshot,
    refuses={"OutpostArn": "there are no Outposts", "Location": "there are no Local Zones"},
)
