"""ImportImage: a machine in S3 becomes an AMI.

The request is checked and recorded here; a durable task does the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmferry.catalog.import_tasks import IMPORT_IMAGE, ImportRequest, ImportTask
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.disk_containers import read_container
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.import_starting import new_import, start_import, try_import
from vmferry.ec2.import_task_views import describe_requested_containers, tag_list
from vmferry.ec2.refusals import ENCRYPTION
from vmferry.ec2.tag_specifications import tags_for
from vmferry.tasks.import_image.licences import AWS, BYOL, LINUX, USAGE_OPERATIONS, WINDOWS

_CHOICES = {
    "Architecture": ("x86_64", "i386"),
    "BootMode": ("legacy-bios", "uefi"),
    "Platform": (WINDOWS, LINUX),
    "Hypervisor": ("xen",),
    "LicenseType": (AWS, BYOL),
    "UsageOperation": tuple(USAGE_OPERATIONS),
}


def import_image(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Check what can be checked at once, record the task, wake the dispatcher, answer the task as it stands."""
    asked = _read_request(context, request)
    tags = tags_for(request.get("TagSpecifications"), IMPORT_IMAGE)
    return _answer(start_import(context, request, IMPORT_IMAGE, asked, tags), tags)


def check_import_image(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: all that the call does, and the disks, which may come later."""
    asked = _read_request(context, request)
    tags_for(request.get("TagSpecifications"), IMPORT_IMAGE)
    try_import(context, new_import(context, IMPORT_IMAGE, asked))


ACTION = Action(
    "ImportImage",
    import_image,
    check_import_image,
    refuses={
        **ENCRYPTION,
        "LicenseSpecifications": "there is no License Manager",
    },
    idle={"ClientData": "it tells EC2 of an upload that is over"},
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> ImportRequest:
    chosen = _read_options(request)
    given: Sequence[Mapping[str, Any]] = request.get("DiskContainers") or ()
    if not given:
        raise Ec2Error("MissingParameter", "The request must contain the parameter DiskContainer")
    quotas = context.services.quotas
    if len(given) > (most := quotas.disks):
        raise Ec2Error("InvalidParameterValue", f"{len(given)} disk containers were given; at most {most} may be.")
    containers = tuple(read_container(context, container, quotas.import_image) for container in given)
    devices = [container.device_name for container in containers if container.device_name is not None]
    if len(set(devices)) != len(devices):
        raise Ec2Error("InvalidBlockDeviceMapping", "Two disk containers have the same DeviceName; give each its own.")
    return ImportRequest(
        containers=containers,
        description=request.get("Description"),
        architecture=chosen["Architecture"],
        boot_mode=chosen["BootMode"],
        platform=chosen["Platform"],
        license_type=chosen["LicenseType"],
        usage_operation=chosen["UsageOperation"],
        role_name=request.get("RoleName"),
        hypervisor=chosen["Hypervisor"],
    )


def _read_options(request: Mapping[str, Any]) -> dict[str, str | None]:
    """Each of ``_CHOICES`` as EC2 spells it; ``None`` where it is not given. What excludes one another is refused."""
    chosen = {
        name: choose(value, allowed, name) if (value := request.get(name)) else None
        for name, allowed in _CHOICES.items()
    }
    platform, license_type, operation = chosen["Platform"], chosen["LicenseType"], chosen["UsageOperation"]
    if license_type and operation:
        raise Ec2Error(
            "InvalidParameterCombination", "LicenseType and UsageOperation exclude one another; give one of them."
        )
    if license_type == AWS and platform == LINUX:
        raise Ec2Error("InvalidParameterCombination", "Linux is imported with LicenseType BYOL only.")
    if operation and platform and USAGE_OPERATIONS[operation].platform != platform:
        raise Ec2Error("InvalidParameterCombination", f"The UsageOperation {operation} is not for {platform}.")
    return chosen


def _answer(task: ImportTask, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "Architecture": task.request.architecture,
        "Description": task.request.description,
        "Hypervisor": task.request.hypervisor,
        "ImportTaskId": task.id,
        "LicenseType": task.request.license_type,
        "Platform": task.request.platform,
        "Progress": str(task.progress),
        "SnapshotDetails": describe_requested_containers(task.request),
        "Status": task.status,
        "StatusMessage": task.stage,
        "Tags": tag_list(tags),
        "UsageOperation": task.request.usage_operation,
    }
