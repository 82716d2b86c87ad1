"""What was sent of an object that did not become whole: in S3, where nobody sees it and it takes room, or kept here."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from vmferry.catalog.export_tasks import COMPLETED, DELETED, ExportTask
from vmferry.errors import (
    AccessDeniedError,
    BlobNotFoundError,
    ConfigError,
    NotFoundError,
    StoreError,
    StoreUnavailableError,
)
from vmferry.stores import SupportsUpload
from vmferry.tasks import Services
from vmferry.tasks.export_image.plan import load_plan
from vmferry.units import MIB

UPLOAD_MEMORY = 24 * MIB
"""Of an OVA: a worker has two exports in hand, and 256 MiB for all."""

SWEPT_FOR = timedelta(days=7)
"""How long after its begin something of a task that has ended is looked for."""


def find_store(services: Services, task: ExportTask) -> SupportsUpload:
    """Where the object of ``task`` goes. Raises ``StoreError`` where that takes no uploads in parts."""
    store = services.objects(task.place)
    if not isinstance(store, SupportsUpload):
        raise StoreError("The object store takes no uploads in parts: exports need S3.")
    return store


def find_folder(services: Services, task_id: str) -> Path:
    """What is not in S3 yet of an object that is being written; gone when it is whole, or the task has ended."""
    return services.config.exports_dir / task_id


def discard(services: Services, task: ExportTask) -> None:
    """Remove all that was done of an object that is not whole, in S3 and here. Raises ``StoreError``."""
    folder = find_folder(services, task.id)
    if (plan := load_plan(folder)) is not None:
        with suppress(AccessDeniedError, BlobNotFoundError):  # the bucket is gone, or the right to it
            find_store(services, task).upload_in_parts(task.bucket, task.key).abort(plan.upload)
    abort_uploads(services, task)
    shutil.rmtree(folder, ignore_errors=True)


def abort_uploads(services: Services, task: ExportTask) -> None:
    """Remove what earlier attempts have sent: nobody else uses a key with the task's id. Raises ``StoreError``."""
    try:
        find_store(services, task).abort_uploads(task.bucket, task.key)
    except (AccessDeniedError, BlobNotFoundError) as error:  # EC2's role for exports has no right to list them
        log = structlog.get_logger("vmferry.tasks")
        log.warning("unfinished uploads stay", key=task.key, error=str(error))


def remove_dead(services: Services, now: datetime) -> None:
    """Remove what is left of exports that have ended: of a worker that was taken for dead, or that died when its task
    had ended already. What cannot be removed is tried again the next time, and all the rest where S3 is away."""
    tasks = services.catalog.export_tasks.ended(now - SWEPT_FOR)
    ids = {task.id for task in tasks}
    for folder in sorted(services.config.exports_dir.glob("*")):
        if folder.name not in ids:
            tasks += _find_ended(services, folder.name)
    for task in tasks:
        try:
            discard(services, task)
        except (StoreError, ConfigError, NotFoundError) as error:
            log = structlog.get_logger("vmferry.tasks")
            log.warning("what was sent of an export stays", task=task.id, reason=str(error))
            if isinstance(error, StoreUnavailableError):
                return


def _find_ended(services: Services, task_id: str) -> list[ExportTask]:
    """The task, if there is such a one and it has ended."""
    try:
        task = services.catalog.export_tasks.get(task_id)
    except NotFoundError:
        return []
    return [task] if task.status in (COMPLETED, DELETED) else []
