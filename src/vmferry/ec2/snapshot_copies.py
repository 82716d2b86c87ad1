"""Copies of snapshots: a snapshot of its own, over the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import COMPLETED, PENDING, Snapshot
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import new_id
from vmferry.errors import quote
from vmferry.stores import copy_blob


def source_place(context: RequestContext, request: Mapping[str, Any]) -> Place:
    """The account's namespace in the region that a copy is made from. Raises ``Ec2Error`` for one that is none."""
    region = request["SourceRegion"]
    if region not in context.services.regions:
        raise Ec2Error(
            "InvalidRegion",
            f"The source region {quote(region)} is not valid | Regions here: {', '.join(context.services.regions)}.",
        )
    return replace(context.place, region=region)


def check_completed(snapshot: Snapshot) -> None:
    """Raise ``Ec2Error`` for a snapshot whose bytes are not all there."""
    if snapshot.state != COMPLETED:
        remedy = "wait until it is completed" if snapshot.state == PENDING else "it never will be completed"
        raise Ec2Error(
            "IncorrectState", f"Snapshot is in invalid state - {snapshot.state} | That is {snapshot.id}: {remedy}."
        )


def copy_snapshot_to(
    context: RequestContext, source: Snapshot, description: str | None, tags: Mapping[str, str]
) -> Snapshot:
    """A completed snapshot in the caller's place that holds what ``source`` does. Raises ``StoreError``,
    ``ConflictError`` for too many tags, ``Ec2Error`` where as many are being copied there as may be.

    It is pending until its bytes are there: what dies in between is a snapshot that nobody can use.
    """
    services = context.services
    with services.copies.one_more(context.place, services.quotas.concurrent_snapshot_copies):
        return _copy(context, source, description, tags)


def _copy(context: RequestContext, source: Snapshot, description: str | None, tags: Mapping[str, str]) -> Snapshot:
    place, snapshot_id = context.place, new_id("snap-")
    made = Snapshot(
        id=snapshot_id,
        place=place,
        state=PENDING,
        size=source.size,
        description=description,
        created_at=datetime.now(UTC),
        bucket=place.region,
        key=f"{place.account_id}/{snapshot_id}.qcow2",
        task_id=None,
        digest=source.digest,
    )
    snapshots = context.services.catalog.snapshots
    snapshots.begin(made)
    try:
        copy_blob(context.services.images, source.bucket, source.key, made.bucket, made.key)
        context.services.catalog.tags.put(place, [snapshot_id], tags)
        snapshots.complete(snapshot_id, source.digest)
    except BaseException:
        snapshots.discard(snapshot_id)
        context.services.images.delete(made.bucket, made.key)
        raise
    return replace(made, state=COMPLETED)
