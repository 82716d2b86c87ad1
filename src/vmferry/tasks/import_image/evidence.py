"""What the boot check of an import saw: files in the data directory, and objects that any S3 client can get.

The objects lie in a bucket of the account's, ``NAME-evidence``, or in the one that the configuration names in an S3
service of one's own, as ``TASK/serial.log`` and so on; the task has a tag for each, ``vmferry:evidence:serial.log``,
that says ``s3://bucket/key``. All of it is removed after ``evidence_days``.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from vmferry import own_tags
from vmferry.blob import foreign_error
from vmferry.catalog.import_tasks import ImportTask
from vmferry.catalog.places import Place
from vmferry.errors import BlobNotFoundError, ConfigError, ConflictError, NotFoundError, StoreError
from vmferry.guest.boot_check import BootOutcome, keep_evidence
from vmferry.stores import SupportsBuckets
from vmferry.tasks import Services


def keep(services: Services, task: ImportTask, outcome: BootOutcome) -> dict[str, str]:
    """Keep what was seen: as files, as objects, and as tags of the task; the tags.

    Objects are a second copy: where the object store takes none, the files are all there is, and the log says why.
    Raises ``StoreError`` where there is no room for the files.
    """
    folder = services.config.evidence_dir / task.id
    keep_evidence(outcome, folder)
    log = structlog.get_logger("vmferry.tasks")
    try:
        tags = _put_objects(services, task, folder)
        services.catalog.tags.put(task.place, [task.id], tags)
    except (StoreError, ConfigError, ConflictError, NotFoundError) as error:
        log.warning("the evidence of a boot check is not in the object store", task=task.id, reason=str(error))
        return {}
    return tags


def remove_old(services: Services, now: datetime) -> None:
    """Remove evidence that is older than ``evidence_days``: objects, tags and files. What cannot be removed from the
    object store is tried again the next time."""
    before = (now - timedelta(days=services.config.evidence_days)).timestamp()
    for folder in sorted(services.config.evidence_dir.glob("*")):
        if not folder.is_dir() or folder.stat().st_mtime >= before:
            continue
        try:
            _remove(services, folder)
        except (StoreError, ConfigError) as error:
            log = structlog.get_logger("vmferry.tasks")
            log.warning("old evidence of a boot check is still there", task=folder.name, reason=str(error))


def _put_objects(services: Services, task: ImportTask, folder: Path) -> dict[str, str]:
    bucket = _bucket(services, task.place)
    if bucket is None:
        return {}
    store = services.objects(task.place)
    if services.config.s3_endpoint is None and isinstance(store, SupportsBuckets):
        store.ensure_bucket(bucket)
    for path in sorted(folder.iterdir()):
        writer = store.create(bucket, _key(path))
        try:
            writer.write_at(0, path.read_bytes())
            writer.finish()
        except BaseException:
            writer.abort()
            raise
    return {own_tags.EVIDENCE + path.name: f"s3://{bucket}/{_key(path)}" for path in sorted(folder.iterdir())}


def _remove(services: Services, folder: Path) -> None:
    try:
        task = services.catalog.import_tasks.get(folder.name)
    except NotFoundError:
        task = None
    bucket = None if task is None else _bucket(services, task.place)
    paths = sorted(folder.iterdir())
    if task is not None and bucket is not None:
        store = services.objects(task.place)
        for path in paths:
            with suppress(BlobNotFoundError):  # there is no such bucket any more
                store.delete(bucket, _key(path))
        services.catalog.tags.remove(task.place, [task.id], {own_tags.EVIDENCE + path.name: None for path in paths})
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise foreign_error(error, str(folder)) from error


def _bucket(services: Services, place: Place) -> str | None:
    """Whose bucket the evidence of ``place`` goes to; ``None`` in an S3 service of one's own that names none."""
    if services.config.s3_endpoint is not None:
        return services.config.evidence_bucket
    account = services.catalog.accounts.get(place.account_id)
    return f"{account.name or account.id}-evidence"


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
