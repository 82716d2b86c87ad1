"""ImportSnapshot: one disk image in S3 becomes a snapshot, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmferry.catalog.import_tasks import IMPORT_SNAPSHOT, ImportRequest
from vmferry.ec2.actions import Action, RequestContext
from vmferry.ec2.disk_containers import read_container
from vmferry.ec2.errors import Ec2Error
from vmferry.ec2.import_starting import new_import, start_import, try_import
from vmferry.ec2.import_task_views import describe_import_snapshot_task
from vmferry.ec2.refusals import ENCRYPTION
from vmferry.ec2.tag_specifications import tags_for


def import_snapshot(context: RequestContext, request: Mapping[str, Any]) -> dict[str, Any]:
    """Check what can be checked at once, record the task, wake the dispatcher, answer the task as it stands."""
    asked = _read_request(context, request)
    tags = tags_for(request.get("TagSpecifications"), IMPORT_SNAPSHOT)
    return describe_import_snapshot_task(start_import(context, request, IMPORT_SNAPSHOT, asked, tags), tags)


def check_import_snapshot(context: RequestContext, request: Mapping[str, Any]) -> None:
    """What a DryRun checks: all that the call does, and the disk, which may come later."""
    asked = _read_request(context, request)
    tags_for(request.get("TagSpecifications"), IMPORT_SNAPSHOT)
    try_import(context, new_import(context, IMPORT_SNAPSHOT, asked))


ACTION = Action(
    "ImportSnapshot",
    import_snapshot,
    check_import_snapshot,
    refuses=ENCRYPTION,
    idle={"ClientData": "it tells EC2 of an upload that is over"},
)


def _read_request(context: RequestContext, request: Mapping[str, Any]) -> ImportRequest:
    given = request.get("DiskContainer")
    if not given:
        raise Ec2Error("MissingParameter", "The request must contain the parameter DiskContainer")
    if (given.get("Format") or "").upper() == "OVA":
        raise Ec2Error(
            "InvalidParameterValue",
            "Value (OVA) for parameter DiskContainer.Format is invalid. Expected one of RAW, VHD, VHDX, VMDK."
            " | A snapshot is one disk: import a whole machine with ImportImage.",
        )
    container = read_container(context, given, context.services.quotas.import_snapshot)
    return ImportRequest(
        containers=(container,), description=request.get("Description"), role_name=request.get("RoleName")
    )
