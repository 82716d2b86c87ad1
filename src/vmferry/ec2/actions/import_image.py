"""ImportImage: a machine in S3 becomes an AMI.

The request is checked and recorded here; a durable task does the work.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vmferry.catalog.import_tasks import DiskContainer, ImportImageTask, ImportRequest
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.choices import choose
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.ids import new_id
from vmferry.ec2.import_task_views import describe_requested_containers, tag_list
from vmferry.ec2.tag_specifications import check_tag_specifications
from vmferry.errors import AccessDeniedError, BlobNotFoundError, StoreUnavailableError, VmferryError, quote
from vmferry.stores.s3 import parse_location
from vmferry.tasks.import_image.devices import MAX_DISKS
from vmferry.tasks.import_image.stages import Stage

_CHOICES = {
    "Architecture": ("x86_64", "i386"),
    "BootMode": ("legacy-bios", "uefi"),
    "Platform": ("Windows", "Linux"),
    "Hypervisor": ("xen",),
    "LicenseType": ("AWS", "BYOL"),
}
_EC2_FORMATS = ("OVA", "RAW", "VHD", "VHDX", "VMDK")
_DEVICE = re.compile(r"/dev/(sd[a-z][0-9]{0,2}|xvd[a-z]{1,2}|hd[a-z][0-9]{0,2}|nvme[0-9]{1,2}n[0-9]{1,2})")


def import_image(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Check what can be checked at once, record the task, wake the dispatcher, answer the task as it stands."""
    asked = _read_request(context, request)
    tags = _read_tags(request)
    _check_objects(context, asked.containers)
    task = ImportImageTask(
        id=new_id("import-ami-"),
        place=context.place,
        created_at=datetime.now(UTC),
        request=asked,
        stage=Stage.PENDING.message,
        progress=Stage.PENDING.first,
    )
    tasks = context.services.catalog.import_tasks
    task_id = tasks.add(task, tags, request.get("ClientToken") or None, _fingerprint(request))
    context.services.wake()
    return _answer(tasks.get(task_id), tags)


def check_import_image(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: the parameters, and nothing in S3, as with AWS."""
    _read_request(context, request)
    _read_tags(request)


ACTION = Action("ImportImage", import_image, check_import_image)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> ImportRequest:
    _check_options(request)
    given: Sequence[Mapping[str, Any]] = request.get("DiskContainers") or ()
    if not given:
        raise Ec2Error("MissingParameter", "The request must contain the parameter DiskContainer")
    if len(given) > MAX_DISKS:
        raise Ec2Error("InvalidParameterValue", f"{len(given)} disk containers were given; at most {MAX_DISKS} may be.")
    containers = tuple(_read_container(context, container) for container in given)
    devices = [container.device_name for container in containers if container.device_name is not None]
    if len(set(devices)) != len(devices):
        raise Ec2Error("InvalidBlockDeviceMapping", "Two disk containers have the same DeviceName; give each its own.")
    platform = request.get("Platform")
    return ImportRequest(
        containers=containers,
        description=request.get("Description"),
        architecture=request.get("Architecture"),
        boot_mode=request.get("BootMode"),
        platform=platform.capitalize() if platform else None,
        license_type=request.get("LicenseType"),
        usage_operation=request.get("UsageOperation"),
        role_name=request.get("RoleName"),
        hypervisor=request.get("Hypervisor"),
    )


def _read_tags(request: Mapping[str, Any]) -> dict[str, str]:
    allowed = ("import-image-task",)
    return check_tag_specifications(request.get("TagSpecifications", ()), allowed).get(allowed[0], {})


def _check_options(request: Mapping[str, Any]) -> None:
    for name, allowed in _CHOICES.items():
        if value := request.get(name):
            choose(value, allowed, name)
    if request.get("LicenseType") and request.get("UsageOperation"):
        raise Ec2Error(
            "InvalidParameterCombination", "LicenseType and UsageOperation exclude one another; give one of them."
        )
    if request.get("LicenseType") == "AWS" and (request.get("Platform") or "").lower() == "linux":
        raise Ec2Error("InvalidParameterCombination", "Linux is imported with LicenseType BYOL only.")
    if request.get("KmsKeyId") and not request.get("Encrypted"):
        message = "The parameter [KmsKeyId] requires the parameter Encrypted to be set."
        raise Ec2Error("InvalidParameterDependency", message)
    if request.get("Encrypted"):
        raise Ec2Error("UnsupportedOperation", "vmferry does not encrypt snapshots yet: leave Encrypted out.")
    if request.get("LicenseSpecifications"):
        raise Ec2Error("UnsupportedOperation", "vmferry has no License Manager: leave LicenseSpecifications out.")


def _read_container(context: RequestContext, given: Mapping[str, Any]) -> DiskContainer:
    bucket, key = _read_source(context, given)
    device = given.get("DeviceName") or None
    if device is not None and not _DEVICE.fullmatch(device):
        raise Ec2Error(
            "InvalidBlockDeviceMapping",
            f"Value ({quote(device)}) for parameter DeviceName is invalid. Use e.g. /dev/sdf.",
        )
    return DiskContainer(
        bucket=bucket,
        key=key,
        url=given.get("Url") or None,
        format=_read_format(given.get("Format") or None),
        description=given.get("Description") or None,
        device_name=device,
    )


def _read_source(context: RequestContext, given: Mapping[str, Any]) -> tuple[str, str]:
    user_bucket: Mapping[str, Any] = given.get("UserBucket") or {}
    sources = [name for name in ("Url", "UserBucket", "SnapshotId") if given.get(name)]
    if len(sources) != 1:
        what = " and ".join(sources) if sources else "none of them"
        raise Ec2Error(
            "InvalidParameterCombination" if sources else "MissingParameter",
            f"A disk container needs exactly one of Url, UserBucket and SnapshotId; it has {what}.",
        )
    if given.get("SnapshotId"):
        raise Ec2Error(
            "UnsupportedOperation", "vmferry does not import disks from snapshots yet: name an object in S3."
        )
    if given.get("Url"):
        try:
            return parse_location(given["Url"], context.services.s3_endpoint)
        except VmferryError as error:
            raise Ec2Error("InvalidParameter", f"Invalid S3 source location | {error}") from error
    for name in ("S3Bucket", "S3Key"):
        if not user_bucket.get(name):
            raise Ec2Error(
                "MissingParameter", f"The request must contain the parameter DiskContainer.UserBucket.{name}"
            )
    return user_bucket["S3Bucket"], user_bucket["S3Key"]


def _read_format(given: str | None) -> str | None:
    if given is None:
        return None
    name = given.upper()
    if name not in _EC2_FORMATS:
        listed = ", ".join(_EC2_FORMATS)
        raise Ec2Error(
            "InvalidParameter",
            "Parameter disk-image-size=0 has an invalid format"
            f" | {quote(given)} is not a disk-image format: use one of {listed}.",
        )
    return name


def _check_objects(context: RequestContext, containers: Sequence[DiskContainer]) -> None:
    """Fail at once for an object that is not there. For an object store that is away the task waits."""
    store = context.services.objects(context.place)
    for container in containers:
        try:
            store.open(container.bucket or "", container.key or "").close()
        except StoreUnavailableError:
            return
        except BlobNotFoundError as error:
            raise Ec2Error("InvalidParameter", f"Invalid S3 source location | {error}") from error
        except AccessDeniedError as error:
            sentence = "We do not have access to the given resource. Reason 403 Forbidden"
            raise Ec2Error("InvalidParameter", f"{sentence} | {error}") from error


def _fingerprint(request: Mapping[str, Any]) -> str:
    """The same for the same parameters, whatever their order; the token itself does not count."""
    counted = {name: value for name, value in request.items() if name not in ("ClientToken", "DryRun")}
    return hashlib.sha256(json.dumps(counted, sort_keys=True, default=str).encode()).hexdigest()


def _answer(task: ImportImageTask, tags: Mapping[str, str]) -> dict[str, Any]:
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
