"""CreateVolume: a disk of its own, from a snapshot or empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.aws.fingerprint import fingerprint
from vmferry.catalog.images import DEFAULT_VOLUME_TYPE
from vmferry.catalog.snapshots import Snapshot
from vmferry.catalog.volumes import Volume
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.default_network import find_zone
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.refusals import ENCRYPTION, NO_RATE
from vmferry.ec2.snapshot_copies import check_completed
from vmferry.ec2.tag_specifications import tags_for
from vmferry.ec2.volume_images import VOLUME_TYPES, make_volume_image, plan_volume, remove_volume_image
from vmferry.ec2.volume_views import describe_volume


def create_volume(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Make the image, record the volume; a request that came before is answered as then."""
    volume, snapshot, tags = _read_request(context, request)
    volumes = context.services.catalog.volumes
    claim = ("CreateVolume", request.get("ClientToken") or None, fingerprint(request))
    try:
        make_volume_image(context, volume, snapshot)
        made = volumes.add(volume, tags, claim)
    except BaseException:
        remove_volume_image(context, volume)
        raise
    if made != volume.id:  # the same request came twice
        remove_volume_image(context, volume)
    (kept,) = volumes.describe(context.place, [made])
    return describe_volume(kept, context.services.catalog.tags.of([made])[made])


def check_create_volume(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: everything but whether there is room."""
    _read_request(context, request)


ACTION = Action(
    "CreateVolume",
    create_volume,
    check_create_volume,
    refuses={
        **ENCRYPTION,
        **NO_RATE,
        "MultiAttachEnabled": "a volume hangs on one instance",
        "Operator": "nobody else manages volumes",
    },
)


def _read_request(
    context: RequestContext, request: Mapping[str, Any]
) -> tuple[Volume, Snapshot | None, dict[str, str]]:
    if not request.get("AvailabilityZone") and not request.get("AvailabilityZoneId"):
        raise Ec2Error("MissingParameter", "The request must contain the parameter zone")
    zone = find_zone(context.region, request.get("AvailabilityZone"), request.get("AvailabilityZoneId"))
    snapshot = None
    if request.get("SnapshotId"):
        (snapshot,) = context.services.catalog.snapshots.describe(
            context.place, [check_id(request["SnapshotId"], "snap-")], shared=True
        )
        check_completed(snapshot)
    kind = choose(request.get("VolumeType") or DEFAULT_VOLUME_TYPE, VOLUME_TYPES, "volumeType")
    volume = plan_volume(context, zone.name, snapshot, request.get("Size"), kind)
    return volume, snapshot, tags_for(request.get("TagSpecifications"), "volume")
