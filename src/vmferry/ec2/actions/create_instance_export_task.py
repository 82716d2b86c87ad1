"""CreateInstanceExportTask: an instance that was imported goes to S3, for the hypervisor it came from or another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.catalog.export_tasks import EXPORT_INSTANCE, ExportTask
from vmferry.catalog.instances import STOPPED, Instance
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.export_targets import check_export_sizes, check_export_target
from vmferry.ec2.export_task_views import describe_instance_export
from vmferry.ec2.ids import check_id, new_id
from vmferry.ec2.tag_specifications import tags_for
from vmferry.tasks.export_image.formats import export_key

_FORMAT_OF = {"vmware": "VMDK", "microsoft": "VHD", "citrix": "VHD"}
"""Target environment → the format of its disks, which is the only one that EC2 allows it."""


def create_instance_export_task(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Check what can be checked at once, record the task, wake the dispatcher, answer the task as it stands."""
    task, tags = _read_request(context, request)
    check_export_target(context, task)
    tasks = context.services.catalog.export_tasks
    tasks.add(task, tags, None, "", context.services.quotas.concurrent_export_tasks)
    context.services.wake()
    return {"ExportTask": describe_instance_export(task, tags)}


def check_create_instance_export_task(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: the parameters."""
    _read_request(context, request)


ACTION = Action("CreateInstanceExportTask", create_instance_export_task, check_create_instance_export_task)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> tuple[ExportTask, dict[str, str]]:
    target = choose(request["TargetEnvironment"], _FORMAT_OF, "targetEnvironment")
    given: Mapping[str, Any] = request["ExportToS3Task"]
    wanted = _read_format(given, target)
    bucket, prefix = given.get("S3Bucket"), given.get("S3Prefix") or ""
    if not bucket:
        raise Ec2Error("MissingParameter", "The request must contain the parameter exportToS3.s3Bucket")
    instance = _find_instance(context, check_id(request["InstanceId"], "i-"), wanted)
    task_id = new_id("export-i-")
    task = ExportTask(
        id=task_id,
        place=context.place,
        created_at=datetime.now(UTC),
        image_id=None,
        format=wanted,
        bucket=bucket,
        prefix=prefix,
        key=export_key(prefix, task_id, wanted),
        description=request.get("Description"),
        instance_id=instance.id,
        target_environment=target,
    )
    return task, tags_for(request.get("TagSpecifications"), EXPORT_INSTANCE)


def _read_format(given: Mapping[str, Any], target: str) -> str:
    """What the object is to be: the disk itself, or an OVA around it."""
    disk = choose(given.get("DiskImageFormat") or _FORMAT_OF[target], ("VMDK", "VHD", "RAW"), "diskImageFormat")
    if disk != _FORMAT_OF[target]:
        raise Ec2Error(
            "InvalidParameterCombination",
            f"The disk image format {disk.lower()} is not for the target environment {target} | "
            f"Use {_FORMAT_OF[target].lower()}.",
        )
    if not given.get("ContainerFormat"):
        return disk
    choose(given["ContainerFormat"], ("ova",), "containerFormat")
    if target != "vmware":
        raise Ec2Error("InvalidParameterCombination", f"An OVA is for vmware; leave ContainerFormat out for {target}.")
    return "OVA"


def _find_instance(context: RequestContext, instance_id: str, wanted: str) -> Instance:
    """The instance, which may be exported: EC2 lets only those go that were imported."""
    (instance,) = context.services.catalog.instances.describe(context.place, [instance_id])
    if instance.task_id is None:
        raise Ec2Error("NotExportable", f"Only imported instances can be exported. | {instance_id} was launched here.")
    if instance.state != STOPPED:
        raise Ec2Error(
            "IncorrectInstanceState",
            f"The instance '{instance_id}' is not in the 'stopped' state. | It is {instance.state}.",
        )
    volumes = context.services.catalog.volumes.of_instances([instance_id])[instance_id]
    imported = [one for one in volumes if one.task_id == instance.task_id]
    if not imported:
        raise Ec2Error("NotExportable", f"The volumes that {instance_id} was imported with are gone.")
    refusal = Ec2Error("NotExportable", "This instance cannot be exported.")
    check_export_sizes(context, refusal, [one.size_gib for one in imported])
    if wanted != "OVA" and len(imported) > 1:
        raise Ec2Error(
            "UnsupportedOperation",
            f"The instance {instance_id} has {len(imported)} volumes, and a {wanted} holds one | Export it for vmware "
            "with ContainerFormat ova, which holds all of them.",
        )
    return instance
