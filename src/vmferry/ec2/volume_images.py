"""The disk images behind volumes: a snapshot's bytes under a second name, or an empty disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from vmferry.catalog.snapshots import Snapshot
from vmferry.catalog.volumes import AVAILABLE, Attachment, Volume
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import new_id
from vmferry.formats import FORMATS, SupportsCreate
from vmferry.stores import copy_blob
from vmferry.units import GIB

VOLUME_TYPES = ("standard", "gp2", "gp3", "io1", "io2", "st1", "sc1")


def check_volume_size(context: RequestContext, size_gib: int) -> None:
    """Raise ``Ec2Error`` for a size that no volume may have."""
    most = context.services.quotas.volume_gib
    if not 1 <= size_gib <= most:
        raise Ec2Error("InvalidParameterValue", f"The volume size must be from 1 to {most} GiB; it is {size_gib}.")


def plan_volume(
    context: RequestContext, zone: str, snapshot: Snapshot | None, size_gib: int | None, volume_type: str
) -> Volume:
    """A volume as it will be, whose image does not exist yet. Raises ``Ec2Error`` for a size that cannot be."""
    least = 1 if snapshot is None else snapshot.volume_size_gib
    if size_gib is None and snapshot is None:
        raise Ec2Error("MissingParameter", "The request must contain the parameter size or snapshotId")
    size = least if size_gib is None else size_gib
    if snapshot is not None and size < least:
        raise Ec2Error(
            "InvalidParameterValue",
            f"Volume of size {size}GB is smaller than snapshot '{snapshot.id}', expect size >= {least}GB",
        )
    check_volume_size(context, size)
    place, volume_id = context.place, new_id("vol-")
    return Volume(
        id=volume_id,
        place=place,
        state=AVAILABLE,
        size_gib=size,
        zone=zone,
        snapshot_id=None if snapshot is None else snapshot.id,
        volume_type=volume_type,
        created_at=datetime.now(UTC),
        bucket=place.region,
        key=f"{place.account_id}/{volume_id}.qcow2",
    )


def attached(volume: Volume, attachment: Attachment) -> Volume:
    """``volume`` as it hangs on an instance."""
    return replace(volume, state="in-use", attachment=attachment)


def make_volume_image(context: RequestContext, volume: Volume, snapshot: Snapshot | None) -> None:
    """Make the image: it costs nothing where the store can let bytes stand under two names. Raises ``StoreError``."""
    images = context.services.images
    if snapshot is not None:
        copy_blob(images, snapshot.bucket, snapshot.key, volume.bucket, volume.key)
        return
    maker = FORMATS["qcow2"]
    assert isinstance(maker, SupportsCreate)
    target = images.create(volume.bucket, volume.key)
    try:
        maker.create(target, volume.size_gib * GIB, ()).finish()
    finally:
        target.abort()  # harmless once it is whole


def remove_volume_image(context: RequestContext, volume: Volume) -> None:
    """Delete the image; what is not there is passed over. Raises ``StoreError``."""
    context.services.images.delete(volume.bucket, volume.key)
