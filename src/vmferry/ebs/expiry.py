"""Uploads that nobody goes on with: they end in error, and their bytes go."""

from __future__ import annotations

from datetime import timedelta

from vmferry.catalog.snapshot_uploads import OPEN, SnapshotUpload
from vmferry.ebs.services import Services
from vmferry.snapshot_blocks import open_blocks, remove_blocks


def expire_uploads(services: Services) -> None:
    """End every upload into which no block was put for as long as its client said. Run by one thread at a time."""
    now = services.clock()
    for upload in services.catalog.snapshot_uploads.open():
        if now - upload.created_at > timedelta(minutes=upload.timeout_minutes):
            _expire(services, upload)
    services.disks.close_removed(services.catalog)


def _expire(services: Services, upload: SnapshotUpload) -> None:
    """End ``upload`` unless somebody has put a block since, or does just now."""
    uploads = services.catalog.snapshot_uploads
    with open_blocks(services.images, upload) as blocks:
        if not blocks.lock(shared=False, wait=False):
            return
        found = uploads.find(upload.id)
        if found is None:  # deleted meanwhile; opening the files may have made them again
            blocks.abort()
            return
        if found.status != OPEN or services.clock() - blocks.put_at <= timedelta(minutes=upload.timeout_minutes):
            return
        uploads.end(upload.id, f"No block was put for {upload.timeout_minutes} minutes, the Timeout of StartSnapshot.")
    remove_blocks(services.images, upload, image=True)
