"""Snapshots of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from vmferry.catalog.snapshots import COMPLETED, PENDING, Snapshot
from vmferry.catalog.volumes import CREATING, Volume
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import new_id
from vmferry.stores import copy_blob
from vmferry.units import GIB


def check_snapshot_source(context: RequestContext, volume_id: str) -> Volume:
    """The volume, whose bytes are all there. Raises ``NotFoundError``, ``Ec2Error``."""
    (volume,) = context.services.catalog.volumes.describe(context.place, [volume_id])
    if volume.state == CREATING:
        raise Ec2Error("IncorrectState", f"The volume '{volume_id}' is 'creating' | Wait until it is available.")
    return volume


def snapshot_volume(
    context: RequestContext, volume: Volume, description: str | None, tags: Mapping[str, str]
) -> Snapshot:
    """A completed snapshot that holds what ``volume`` does; pending until its bytes are there.

    Raises ``StoreError``, and ``ConflictError`` for too many tags.
    """
    place, snapshot_id = context.place, new_id("snap-")
    made = Snapshot(
        id=snapshot_id,
        place=place,
        state=PENDING,
        size=volume.size_gib * GIB,
        description=description,
        created_at=datetime.now(UTC),
        bucket=place.region,
        key=f"{place.account_id}/{snapshot_id}.qcow2",
        task_id=None,
        volume_id=volume.id,
    )
    snapshots = context.services.catalog.snapshots
    snapshots.begin(made)
    try:
        # A volume whose image is its own may be written in place at any time: such a snapshot gets bytes of its own.
        copy_blob(context.services.images, volume.bucket, volume.key, made.bucket, made.key, further=True)
        context.services.catalog.tags.put(place, [snapshot_id], tags)
        snapshots.complete(snapshot_id, None)
    except BaseException:
        snapshots.discard(snapshot_id)
        context.services.images.delete(made.bucket, made.key)
        raise
    return replace(made, state=COMPLETED)
