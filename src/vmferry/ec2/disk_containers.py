"""Disk containers as ImportImage and ImportSnapshot take them: where a disk lies, and what it is said to be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vmferry.catalog.import_tasks import DiskContainer
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import check_id
from vmferry.ec2.manifests import check_image_size
from vmferry.ec2.snapshot_copies import check_completed
from vmferry.errors import AccessDeniedError, BlobNotFoundError, StoreUnavailableError, VmferryError, quote
from vmferry.quotas import ImageBounds
from vmferry.stores.s3 import parse_location

_DEVICE = re.compile(r"/dev/(sd[a-z][0-9]{0,2}|xvd[a-z]{1,2}|hd[a-z][0-9]{0,2}|nvme[0-9]{1,2}n[0-9]{1,2})")


def read_container(context: RequestContext, given: Mapping[str, Any], bounds: ImageBounds) -> DiskContainer:
    """A container whose one source has the right form, in one of the formats of ``bounds``; a snapshot is there, and
    the caller may use it.

    Raises ``Ec2Error``, and ``NotFoundError`` for a snapshot that the caller has not.
    """
    bucket, key, snapshot_id = _read_source(context, given)
    device = given.get("DeviceName") or None
    if device is not None:
        check_device_name(device)
    return DiskContainer(
        bucket=bucket,
        key=key,
        url=given.get("Url") or None,
        format=_read_format(given.get("Format") or None, bounds),
        description=given.get("Description") or None,
        device_name=device,
        snapshot_id=snapshot_id,
    )


def check_device_name(device: str) -> str:
    """``device`` itself, when disks can have such a name. Raises ``Ec2Error``."""
    if not _DEVICE.fullmatch(device):
        raise Ec2Error(
            "InvalidBlockDeviceMapping",
            f"Value ({quote(device)}) for parameter DeviceName is invalid. Use e.g. /dev/sdf.",
        )
    return device


def _read_source(context: RequestContext, given: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Bucket and key, or the id of a snapshot."""
    sources = [name for name in ("SnapshotId", "Url", "UserBucket") if given.get(name)]
    if len(sources) != 1:
        what = " and ".join(sources) if sources else "none of them"
        raise Ec2Error(
            "InvalidParameterCombination" if sources else "MissingParameter",
            f"A disk container needs exactly one of Url, UserBucket and, for ImportImage, SnapshotId; it has {what}.",
        )
    if sources == ["SnapshotId"]:
        return None, None, _read_snapshot(context, given)
    return (*_read_place(context, given), None)


def _read_snapshot(context: RequestContext, given: Mapping[str, Any]) -> str:
    if (given.get("Format") or "").upper() == "OVA":
        raise Ec2Error("InvalidParameterCombination", "A snapshot is one disk: a container with SnapshotId is no OVA.")
    snapshot_id = check_id(given["SnapshotId"], "snap-")
    (snapshot,) = context.services.catalog.snapshots.describe(context.place, [snapshot_id], shared=True)
    check_completed(snapshot)
    return snapshot_id


def _read_place(context: RequestContext, given: Mapping[str, Any]) -> tuple[str, str]:
    if given.get("Url"):
        try:
            return parse_location(given["Url"], context.services.s3_endpoint)
        except VmferryError as error:
            raise Ec2Error("InvalidParameter", f"Invalid S3 source location | {error}") from error
    user_bucket: Mapping[str, Any] = given.get("UserBucket") or {}
    for name in ("S3Bucket", "S3Key"):
        if not user_bucket.get(name):
            raise Ec2Error(
                "MissingParameter", f"The request must contain the parameter DiskContainer.UserBucket.{name}"
            )
    return user_bucket["S3Bucket"], user_bucket["S3Key"]


def _read_format(given: str | None, bounds: ImageBounds) -> str | None:
    if given is None:
        return None
    name = given.upper()
    if name not in bounds.formats:
        listed = ", ".join(bounds.formats)
        raise Ec2Error(
            "InvalidParameter",
            "Parameter disk-image-size=0 has an invalid format"
            f" | {quote(given)} is not a disk-image format that is imported here: use one of {listed}.",
        )
    return name


def check_objects(context: RequestContext, containers: Sequence[DiskContainer], bounds: ImageBounds) -> None:
    """Fail at once for an object that is not there, and for a raw disk that is larger than ``bounds`` allow.

    For an object store that is away the task waits.
    """
    store = context.services.objects(context.place)
    for container in containers:
        if container.snapshot_id is not None:
            continue
        try:
            blob = store.open(container.bucket or "", container.key or "")
            blob.close()
        except StoreUnavailableError:
            return
        except BlobNotFoundError as error:
            raise Ec2Error("InvalidParameter", f"Invalid S3 source location | {error}") from error
        except AccessDeniedError as error:
            sentence = "We do not have access to the given resource. Reason 403 Forbidden"
            raise Ec2Error("InvalidParameter", f"{sentence} | {error}") from error
        if container.format == "RAW":
            check_image_size(blob.size, bounds.size_gib, "the object's size")
