"""StartSnapshot: a pending snapshot that blocks can be put into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.aws.errors import ApiError
from vmferry.aws.fingerprint import fingerprint
from vmferry.aws.ids import new_id
from vmferry.aws.tags import check_tags
from vmferry.catalog.snapshot_uploads import SnapshotUpload
from vmferry.catalog.snapshots import PENDING, Snapshot
from vmferry.ebs.errors import invalid
from vmferry.ebs.operations import Operation, RequestContext
from vmferry.ebs.snapshots import find_completed, find_snapshot
from vmferry.snapshot_blocks import EBS_BLOCK_SIZE, begin_blocks, remove_blocks
from vmferry.units import GIB

DEFAULT_TIMEOUT_MINUTES = 60


def start_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """The snapshot is recorded with the files that stand for it; a repeated client token gives it again."""
    _check_encryption(request)
    services, uploads = context.services, context.services.catalog.snapshot_uploads
    tags = _check_tags(request)
    size = _check_size(request, services.quotas.snapshot_gib)
    parent = _find_parent(context, request, size)
    made = _new_snapshot(context, request, size)
    upload = SnapshotUpload(
        id=made.id,
        place=made.place,
        created_at=made.created_at,
        size=size,
        bucket=made.bucket,
        key=made.key,
        parent_id=None if parent is None else parent.id,
        timeout_minutes=request.get("Timeout", DEFAULT_TIMEOUT_MINUTES),
    )
    token = (request["ClientToken"], fingerprint(request)) if "ClientToken" in request else None
    snapshot_id = None
    try:
        begin_blocks(services.images, upload, None if parent is None else (parent.bucket, parent.key))
        snapshot_id = uploads.start(made, upload, tags, token, services.quotas.pending_snapshots)
    finally:
        if snapshot_id != made.id:  # refused, or started before
            remove_blocks(services.images, upload, image=True)
    return _answer(find_snapshot(services.catalog, context.place, snapshot_id), parent, tags)


def _answer(snapshot: Snapshot, parent: Snapshot | None, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "Description": snapshot.description,
        "SnapshotId": snapshot.id,
        "OwnerId": snapshot.place.account_id,
        "Status": snapshot.state,
        "StartTime": snapshot.created_at,
        "VolumeSize": snapshot.volume_size_gib,
        "BlockSize": EBS_BLOCK_SIZE,
        "Tags": [{"Key": key, "Value": tags[key]} for key in sorted(tags)] or None,
        "ParentSnapshotId": None if parent is None else parent.id,
        "SseType": "none",
    }


def _new_snapshot(context: RequestContext, request: Mapping[str, Any], size: int) -> Snapshot:
    place, snapshot_id = context.place, new_id("snap-")
    return Snapshot(
        id=snapshot_id,
        place=place,
        state=PENDING,
        size=size,
        description=request.get("Description"),
        created_at=context.services.clock(),
        bucket=place.region,
        key=f"{place.account_id}/{snapshot_id}.qcow2",
        task_id=None,
    )


def _check_encryption(request: Mapping[str, Any]) -> None:
    if request.get("Encrypted"):
        raise invalid("Encrypted snapshots are not offered here: leave Encrypted out, or set it to false.")
    if "KmsKeyArn" in request:
        raise invalid("KmsKeyArn is not offered here, as encrypted snapshots are not.", "INVALID_CUSTOMER_KEY")


def _check_tags(request: Mapping[str, Any]) -> dict[str, str]:
    try:
        return check_tags(request.get("Tags", ()))
    except ApiError as error:
        raise invalid(str(error), "INVALID_TAG") from error


def _check_size(request: Mapping[str, Any], most_gib: int) -> int:
    size: int = request["VolumeSize"] * GIB
    if size > most_gib * GIB:
        raise invalid(
            f"A volume of {request['VolumeSize']:,} GiB is too large: at most {most_gib:,} are allowed.",
            "INVALID_VOLUME_SIZE",
        )
    return size


def _find_parent(context: RequestContext, request: Mapping[str, Any], size: int) -> Snapshot | None:
    if (parent_id := request.get("ParentSnapshotId")) is None:
        return None
    parent = find_completed(context.services.catalog, context.place, parent_id)
    if parent.size > size:
        raise invalid(
            f"A volume of {request['VolumeSize']:,} GiB is smaller than that of the parent, "
            f"{parent.volume_size_gib:,} GiB.",
            "INVALID_VOLUME_SIZE",
        )
    return parent


OPERATION = Operation("StartSnapshot", start_snapshot)
