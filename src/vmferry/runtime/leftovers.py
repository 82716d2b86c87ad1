"""Leftovers: disk images, and records of such, that a process which died has left, and that nobody goes on with.

The catalog is the truth. An image that it does not know is removed when it is so old that nobody can still be about to
record it; a record whose image nobody makes any more goes, too.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from vmferry.errors import BlobNotFoundError
from vmferry.snapshot_blocks import file_keys, is_parent_key
from vmferry.tasks import Services
from vmferry.tasks.export_image import unfinished
from vmferry.tasks.import_image import evidence
from vmferry.tasks.import_image.preparing import changes_of

KEPT_FOR = timedelta(days=1)
"""How long what nobody knows is kept: no request takes so long between an image and its record."""

_FEW, _SHARE = 8, 100
"""More images that nobody knows than so many, and than one in so many, are no leftovers: the catalog is another one."""


def remove_unfinished(services: Services) -> None:
    """Remove unfinished images that no task and no upload goes on with. Only at the start: requests make others."""
    wanted = {
        (snapshot.bucket, snapshot.key)
        for task_id in services.catalog.import_tasks.unfinished()
        for snapshot in services.catalog.snapshots.of_task(task_id)
    }
    for upload in services.catalog.snapshot_uploads.unended():
        wanted |= {(upload.bucket, key) for key in file_keys(upload)}
    for region in services.config.regions:
        for key in list(services.images.unfinished(region)):
            if (region, key) not in wanted:
                services.images.resume(region, key).abort()
        for key in _keys(services, region):
            if is_parent_key(key) and (region, key) not in wanted:
                services.images.delete(region, key)


def remove_forgotten(services: Services, now: datetime | None = None) -> None:
    """Remove what was left more than a day before ``now``: copies of snapshots that nobody makes any more, and images
    that the catalog does not know; old evidence; and what was sent of exports that have ended. Run by one thread at a
    time; requests and tasks may run beside it.

    Where the catalog does not know many of the images, none is removed: it is more likely that it was exchanged for
    another one, or restored from an old copy. Raises ``StoreError``.
    """
    now = now or datetime.now(UTC)
    before = now - KEPT_FOR
    evidence.remove_old(services, now)
    unfinished.remove_dead(services, now)
    for snapshot in services.catalog.snapshots.abandoned(before):
        services.catalog.snapshots.discard(snapshot.id)
        services.images.delete(snapshot.bucket, snapshot.key)
    for region in services.config.regions:
        _remove_unknown(services, region, before)


def _remove_unknown(services: Services, region: str, before: datetime) -> None:
    log = structlog.get_logger("vmferry.runtime")
    keys = _keys(services, region)
    # First how old they are, then what the catalog knows: what is recorded in between is known, or was too young.
    old = [key for key in keys if _is_older(services, region, key, before)]
    unknown = sorted(set(old) - _known(services, region))
    if len(unknown) > max(_FEW, len(keys) // _SHARE):
        log.warning(
            "the catalog does not know many of the disk images: none is removed; is it the one that belongs to them?",
            region=region,
            unknown=len(unknown),
            images=len(keys),
            first=unknown[0],
        )
        return
    for key in unknown:
        services.images.delete(region, key)
        log.info("a disk image that nobody knows was removed", region=region, key=key)


def _known(services: Services, region: str) -> set[str]:
    """The keys of all images that somebody has, or makes."""
    catalog = services.catalog
    known = catalog.snapshots.keys(region) | catalog.volumes.keys(region)
    for upload in catalog.snapshot_uploads.unended():
        if upload.bucket == region:
            known.update(file_keys(upload))
    for task in map(catalog.import_tasks.get, catalog.import_tasks.unfinished()):
        known.update(changes_of(services, task, disk).key for disk in task.facts.disks)
    return known


def _keys(services: Services, region: str) -> list[str]:
    try:
        return list(services.images.keys(region))
    except BlobNotFoundError:  # a region in which nothing was made yet
        return []


def _is_older(services: Services, region: str, key: str, before: datetime) -> bool:
    with suppress(BlobNotFoundError):  # removed meanwhile
        return services.images.changed_at(region, key) < before
    return False
