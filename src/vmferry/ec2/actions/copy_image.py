"""CopyImage: called in the region that the copy is for; the copy has snapshots of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.fingerprint import fingerprint
from vmferry.catalog.images import AVAILABLE, Image
from vmferry.catalog.snapshots import Snapshot
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.ami_names import check_ami_name
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id, new_id
from vmferry.ec2.refusals import ENCRYPTION
from vmferry.ec2.snapshot_copies import check_completed, copy_snapshot_to, source_place
from vmferry.ec2.snapshot_removal import remove_snapshot
from vmferry.ec2.tag_specifications import check_tag_specifications


def copy_image(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the snapshots, then record the AMI over them; a request that came before is answered as then."""
    source, tags = _read_request(context, request)
    images, token = context.services.catalog.images, request.get("ClientToken") or None
    print_of = fingerprint(request)
    if token is not None and (earlier := images.made_by(context.place, "CopyImage", token, print_of)) is not None:
        return {"ImageId": earlier}
    image_id, made = new_id("ami-"), dict[str, Snapshot]()
    try:
        for snapshot in _snapshots(context, source):
            told = f"Copied for DestinationAmi {image_id} from SourceAmi {source.id} for SourceSnapshot {snapshot.id}."
            made[snapshot.id] = copy_snapshot_to(context, snapshot, told, tags.get("snapshot", {}))
        image = replace(
            source,
            id=image_id,
            place=context.place,
            name=request.get("Name") or source.name,
            description=request.get("Description", source.description),
            created_at=datetime.now(UTC),
            block_devices=tuple(replace(one, snapshot_id=made[one.snapshot_id].id) for one in source.block_devices),
        )
        registered = images.register(image, tags.get("image", {}), ("CopyImage", token, print_of))
    except BaseException:
        _remove(context, made)
        raise
    if registered != image_id:  # the same request came twice at once, and the other was faster
        _remove(context, made)
    return {"ImageId": registered}


def check_copy_image(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: everything but whether the name is taken, and whether there is room."""
    _snapshots(context, _read_request(context, request)[0])


ACTION = Action(
    "CopyImage",
    copy_image,
    check_copy_image,
    optional=("Name",),
    refuses={
        **ENCRYPTION,
        "DestinationOutpostArn": "there are no Outposts",
        "DestinationAvailabilityZone": "there are no Local Zones",
        "DestinationAvailabilityZoneId": "there are no Local Zones",
    },
    idle={"SnapshotCopyCompletionDurationMinutes": "a copy is complete when the call answers"},
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[Image, dict[str, dict[str, str]]]:
    if request.get("Name"):
        check_ami_name(request["Name"])
    place = source_place(context, request)
    (source,) = context.services.catalog.images.describe(
        place, [check_id(request["SourceImageId"], "ami-")], shared=True
    )
    if source.state != AVAILABLE:
        raise Ec2Error("IncorrectState", f"The image {source.id} is {source.state}: wait until it is available.")
    tags = check_tag_specifications(request.get("TagSpecifications", ()), ("image", "snapshot"))
    if request.get("CopyImageTags") and source.place.account_id == context.account_id:  # tags are their owner's
        held = context.services.catalog.tags.of([source.id])[source.id]
        tags["image"] = {**held, **tags.get("image", {})}
    return source, tags


def _snapshots(context: RequestContext, source: Image) -> list[Snapshot]:
    ids = [device.snapshot_id for device in source.block_devices]
    found = context.services.catalog.snapshots.describe(source.place, ids)
    for snapshot in found:
        check_completed(snapshot)
    return found


def _remove(context: RequestContext, made: Mapping[str, Snapshot]) -> None:
    for snapshot in made.values():
        remove_snapshot(context, snapshot.id)
