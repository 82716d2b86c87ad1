"""Removing a snapshot: first from the catalog, then its disk image."""

from __future__ import annotations

from vmferry.ec2.actions import RequestContext
from vmferry.snapshot_blocks import remove_blocks
from vmferry.stores.local import LocalStore


def remove_snapshot(context: RequestContext, snapshot_id: str) -> None:
    """Forget the snapshot and delete its image. Raises ``NotFoundError``, ``ConflictError`` and ``StoreError``.

    The catalog comes first: what dies in between is a file that nobody knows, never a snapshot without its bytes.
    """
    upload = context.services.catalog.snapshot_uploads.find(snapshot_id)
    snapshot = context.services.catalog.snapshots.remove(context.place, snapshot_id)
    context.services.images.delete(snapshot.bucket, snapshot.key)
    if upload is not None and isinstance(context.services.images, LocalStore):
        remove_blocks(context.services.images, upload, image=True)
