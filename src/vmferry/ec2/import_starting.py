"""What ImportImage and ImportSnapshot have in common: a request that was checked becomes a task."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vmferry.aws.fingerprint import fingerprint
from vmferry.aws.service_role import Purpose
from vmferry.catalog.import_tasks import IMPORT_IMAGE, ImportRequest, ImportTask
from vmferry.ec2.actions import RequestContext
from vmferry.ec2.disk_containers import check_objects
from vmferry.ec2.ids import new_id
from vmferry.ec2.resources import KINDS
from vmferry.ec2.service_roles import check_role
from vmferry.tasks.import_image.stages import Stage


def start_import(
    context: RequestContext, request: Mapping[str, Any], kind: str, asked: ImportRequest, tags: Mapping[str, str]
) -> ImportTask:
    """Look for the role and the objects, record a task of ``kind``, wake the dispatcher; the task as it stands.

    Raises ``Ec2Error`` for a role that may not read them and for an object that is not there or too large,
    ``ConflictError`` for a client token of another request and for more tasks than may be under way.
    """
    quotas = context.services.quotas
    objects = [(container.bucket, container.key) for container in asked.containers]
    check_role(context, asked.role_name, Purpose.IMPORT, [(bucket, key) for bucket, key in objects if bucket and key])
    check_objects(context, asked.containers, quotas.import_image if kind == IMPORT_IMAGE else quotas.import_snapshot)
    task = ImportTask(
        id=new_id(next(one.prefix for one in KINDS if one.tag_type == kind)),
        kind=kind,
        place=context.place,
        created_at=datetime.now(UTC),
        request=asked,
        stage=Stage.PENDING.message,
        progress=Stage.PENDING.first,
    )
    tasks = context.services.catalog.import_tasks
    token, most = request.get("ClientToken") or None, quotas.concurrent_import_tasks
    task_id = tasks.add(task, tags, token, fingerprint(request), most)
    context.services.wake()
    return tasks.get(task_id)
