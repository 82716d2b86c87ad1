"""ExportImage: an AMI becomes an object in S3, in the format of another hypervisor."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.fingerprint import fingerprint
from vmferry.aws.service_role import Purpose
from vmferry.catalog.export_tasks import EXPORT_IMAGE, ExportTask
from vmferry.catalog.images import AVAILABLE
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.export_targets import check_export_sizes, check_export_target
from vmferry.ec2.export_task_views import describe_export_task
from vmferry.ec2.ids import check_id, new_id
from vmferry.ec2.service_roles import check_role
from vmferry.ec2.tag_specifications import tags_for
from vmferry.tasks.export_image.formats import EXPORT_FORMATS, export_key


def export_image(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Check what can be checked at once, record the task, wake the dispatcher, answer the task as it stands."""
    task, tags = _read_request(context, request)
    _check_target(context, task)
    tasks = context.services.catalog.export_tasks
    token, most = request.get("ClientToken") or None, context.services.quotas.concurrent_export_tasks
    task_id = tasks.add(task, tags, token, fingerprint(request), most)
    context.services.wake()
    kept = tasks.get(task_id)
    return {
        **describe_export_task(kept, tags),
        "DiskImageFormat": request["DiskImageFormat"],
        "ImageId": kept.image_id,
        "RoleName": kept.role_name,
    }


def check_export_image(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: all that the call does."""
    _check_target(context, _read_request(context, request)[0])


ACTION = Action("ExportImage", export_image, check_export_image)


def _check_target(context: RequestContext, task: ExportTask) -> None:
    check_role(context, task.role_name, Purpose.EXPORT, [(task.bucket, task.key)])
    check_export_target(context, task)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[ExportTask, dict[str, str]]:
    image_id = check_id(request["ImageId"], "ami-")
    (image,) = context.services.catalog.images.describe(context.place, [image_id])
    if image.state != AVAILABLE:
        raise Ec2Error("IncorrectState", f"The image {image_id} is {image.state}: wait until it is available.")
    wanted = choose(request["DiskImageFormat"], EXPORT_FORMATS, "DiskImageFormat")
    if wanted != "OVA" and len(image.block_devices) > 1:
        raise Ec2Error(
            "UnsupportedOperation",
            f"The image {image_id} has {len(image.block_devices)} disks, and a {wanted} holds one"
            " | Export it with DiskImageFormat OVA, which holds all of them.",
        )
    refusal = Ec2Error("InvalidParameter", f"The image ID ({image_id}) provided is not exportable.")
    check_export_sizes(context, refusal, [device.volume_size_gib for device in image.block_devices])
    location = request["S3ExportLocation"]
    bucket, prefix = location["S3Bucket"], location.get("S3Prefix") or ""
    task_id = new_id("export-ami-")
    key = export_key(prefix, task_id, wanted)
    task = ExportTask(
        id=task_id,
        place=context.place,
        created_at=datetime.now(UTC),
        image_id=image_id,
        format=wanted,
        bucket=bucket,
        prefix=prefix,
        key=key,
        description=request.get("Description"),
        role_name=request.get("RoleName"),
    )
    return task, tags_for(request.get("TagSpecifications"), EXPORT_IMAGE)
