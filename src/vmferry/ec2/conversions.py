"""What ImportInstance and ImportVolume have in common: a disk image in parts becomes a volume, by a conversion task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vmferry.catalog.images import DEFAULT_VOLUME_TYPE
from vmferry.catalog.import_tasks import (
    ACTIVE,
    COMPLETED,
    CONVERSION,
    DELETED,
    DELETING,
    DiskContainer,
    ImportRequest,
    ImportTask,
)
from vmferry.catalog.instances import Instance
from vmferry.catalog.volumes import CREATING, Volume
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import new_id
from vmferry.ec2.import_task_views import tag_list, waiting_message
from vmferry.ec2.manifests import check_image_size, check_manifests, check_volume_holds
from vmferry.ec2.volume_images import check_volume_size
from vmferry.errors import VmferryError
from vmferry.quotas import ImageBounds
from vmferry.stores.s3 import parse_location
from vmferry.tasks.import_image.stages import Stage

_EXPIRES_AFTER = timedelta(days=7)
_STATES = {ACTIVE: "active", COMPLETED: "completed", DELETING: "cancelling", DELETED: "cancelled"}
_SECOND_PHASE = Stage.UPDATING.first
"""The Progress from which on the volumes are whole and the rest is made."""


def read_disk_image(
    context: RequestContext,
    image: Mapping[str, Any],
    volume: Mapping[str, Any],
    description: str | None,
    bounds: ImageBounds,
) -> DiskContainer:
    """A disk image as a request names it, within ``bounds``. Raises ``Ec2Error``."""
    check_volume_size(context, size := volume["Size"])
    if image["Bytes"] < 1:
        raise Ec2Error("InvalidParameterValue", f"Value ({image['Bytes']}) for parameter bytes is invalid.")
    check_image_size(image["Bytes"], bounds.size_gib, "the parameter bytes")
    url = image["ImportManifestUrl"]
    try:
        bucket, key = parse_location(url, context.services.s3_endpoint)
    except VmferryError as error:
        raise Ec2Error("InaccessibleStorageLocation", f"The manifest's URL cannot be accessed. | {error}") from error
    try:
        kind = choose(image["Format"], bounds.formats, "format")
    except Ec2Error as error:
        raise Ec2Error("InvalidFormat", str(error)) from error
    if kind == "RAW":
        check_volume_holds(image["Bytes"], size)
    return DiskContainer(
        bucket=bucket,
        key=key,
        url=url,
        format=kind,
        description=description,
        volume_id=new_id("vol-"),
        volume_size_gib=size,
        said_bytes=image["Bytes"],
    )


def start_conversion(
    context: RequestContext,
    zone: str,
    containers: Sequence[DiskContainer],
    description: str | None,
    instance: Instance | None = None,
) -> ImportTask:
    """Record the task with all that it makes, wake the dispatcher; the task as it stands.

    Raises as ``new_conversion`` does, ``ConflictError`` where as many conversions are under way as may be.
    """
    task = new_conversion(context, zone, containers, description, instance)
    volumes = [_creating(context, task, one) for one in containers]
    made = None if instance is None else replace(instance, task_id=task.id)
    most = context.services.quotas.concurrent_conversion_tasks
    context.services.catalog.conversion_tasks.add(task, volumes, made, most)
    context.services.wake()
    return context.services.catalog.import_tasks.get(task.id)


def new_conversion(
    context: RequestContext,
    zone: str,
    containers: Sequence[DiskContainer],
    description: str | None,
    instance: Instance | None = None,
) -> ImportTask:
    """A task that is recorded nowhere. The parts may be uploaded later; a manifest that is there already is looked at,
    and raises as ``check_manifests`` does.
    """
    quotas = context.services.quotas
    bounds = quotas.import_volume if instance is None else quotas.import_instance
    check_manifests(context, containers, bounds.size_gib)
    return ImportTask(
        id=new_id("import-vol-" if instance is None else "import-i-"),
        kind=CONVERSION,
        place=context.place,
        created_at=datetime.now(UTC),
        request=ImportRequest(
            containers=tuple(containers),
            description=description,
            architecture=None if instance is None else instance.architecture,
            platform=None if instance is None else instance.platform or "Linux",
            instance_id=None if instance is None else instance.id,
            zone=zone,
        ),
        stage=Stage.PENDING.message,
        progress=Stage.PENDING.first,
    )


def describe_conversion(task: ImportTask, tags: Mapping[str, str]) -> dict[str, Any]:
    """A conversion task as DescribeConversionTasks shows it, and the calls that begin one."""
    volumes = [_describe_volume(task, index) for index in range(len(task.request.containers))]
    made: dict[str, Any]
    if task.request.instance_id is None:
        shown = ("AvailabilityZone", "BytesConverted", "Description", "Image", "Volume")
        made = {"ImportVolume": {name: volumes[0][name] for name in shown}}
    else:
        made = {
            "ImportInstance": {
                "Description": task.request.description,
                "InstanceId": task.request.instance_id,
                "Platform": task.request.platform,
                "Volumes": volumes,
            }
        }
    return {
        "ConversionTaskId": task.id,
        "ExpirationTime": f"{(task.created_at + _EXPIRES_AFTER).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        **made,
        "State": _STATES[task.status],
        "StatusMessage": _status_message(task),
        "Tags": tag_list(tags),
    }


def _creating(context: RequestContext, task: ImportTask, container: DiskContainer) -> Volume:
    volume_id = container.volume_id or ""
    return Volume(
        id=volume_id,
        place=context.place,
        state=CREATING,
        size_gib=container.volume_size_gib,
        zone=task.request.zone or "",
        snapshot_id=None,
        volume_type=DEFAULT_VOLUME_TYPE,
        created_at=task.created_at,
        bucket=context.place.region,
        key=f"{context.place.account_id}/{volume_id}.qcow2",
        task_id=task.id,
    )


def _status_message(task: ImportTask) -> str | None:
    if task.status == COMPLETED:
        return None
    if task.status != ACTIVE:
        return task.reason
    stage = f"Progress: {task.progress}%" if task.progress >= _SECOND_PHASE else "Pending"
    return waiting_message(stage, task.waiting_for, task.waiting_since)


def _describe_volume(task: ImportTask, index: int) -> dict[str, Any]:
    container = task.request.containers[index]
    share = _share(task, index)
    message = "Pending : Downloaded 0" if not share else f"Progress: {int(100 * share)}%"
    return {
        "AvailabilityZone": task.request.zone,
        "BytesConverted": int(container.said_bytes * share),
        "Description": container.description if task.request.instance_id is not None else task.request.description,
        "Image": {"Format": container.format, "ImportManifestUrl": container.url, "Size": container.said_bytes},
        "Status": "cancelled" if task.status in (DELETING, DELETED) else _STATES[task.status],
        "StatusMessage": message if task.status == ACTIVE else None,
        "Volume": {
            "Id": container.volume_id if task.status == COMPLETED else None,
            "Size": container.volume_size_gib,
        },
    }


def _share(task: ImportTask, index: int) -> float:
    """How much of a container's disk is converted, from 0 to 1."""
    if task.status == COMPLETED:
        return 1.0
    for position, disk in enumerate(task.facts.disks):
        if disk.container == index and position < len(task.conversion):
            part = task.conversion[position]
            return min(part.done / part.data, 1.0) if part.data else 1.0
    return 0.0
