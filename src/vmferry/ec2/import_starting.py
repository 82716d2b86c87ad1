"""What ImportImage and ImportSnapshot have in common: a request that was checked becomes a task, or is only tried."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.fingerprint import fingerprint
from vmferry.aws.service_role import Purpose
from vmferry.catalog.import_tasks import IMPORT_IMAGE, ImportRequest, ImportTask
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.disk_containers import check_objects
from vmferry.ec2.errors import Ec2Error, dry_run_succeeded, from_error
from vmferry.ec2.ids import new_id
from vmferry.ec2.resources import KINDS
from vmferry.ec2.service_roles import check_role
from vmferry.tasks.import_image.preview import RefusedError
from vmferry.tasks.import_image.stages import Stage


def start_import(
    context: RequestContext, request: Mapping[str, Any], kind: str, asked: ImportRequest, tags: Mapping[str, str]
) -> ImportTask:
    """Record a task of ``kind``, wake the dispatcher; the task as it stands.

    Raises as ``new_import`` and ``check_objects`` do, ``ConflictError`` for a client token of another request and for
    more tasks than may be under way.
    """
    quotas = context.services.quotas
    task = new_import(context, kind, asked)
    check_objects(context, asked.containers, quotas.import_image if kind == IMPORT_IMAGE else quotas.import_snapshot)
    tasks = context.services.catalog.import_tasks
    token, most = request.get("ClientToken") or None, quotas.concurrent_import_tasks
    task_id = tasks.add(task, tags, token, fingerprint(request), most)
    context.services.wake()
    return tasks.get(task_id)


def new_import(context: RequestContext, kind: str, asked: ImportRequest) -> ImportTask:
    """A task of ``kind``, recorded nowhere. Raises ``Ec2Error`` for a role that may not read its objects."""
    objects = [(container.bucket, container.key) for container in asked.containers]
    check_role(context, asked.role_name, Purpose.IMPORT, [(bucket, key) for bucket, key in objects if bucket and key])
    return ImportTask(
        id=new_id(next(one.prefix for one in KINDS if one.tag_type == kind)),
        kind=kind,
        place=context.place,
        created_at=datetime.now(UTC),
        request=asked,
        stage=Stage.PENDING.message,
        progress=Stage.PENDING.first,
    )


def try_import(context: RequestContext, task: ImportTask) -> None:
    """What a DryRun of any import checks last: the disks themselves, where they are there already. ``task`` is recorded
    nowhere.

    Always raises ``Ec2Error``: the refusal that the task would end with, or that it would have succeeded, and what is
    to be said of its disks.
    """
    try:
        notes = context.services.preview(task)
    except RefusedError as refused:
        known = from_error(refused.reason)
        raise Ec2Error("InvalidParameter" if known is None else known.code, str(refused)) from refused
    raise dry_run_succeeded(notes)
