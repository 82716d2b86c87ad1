"""Removing a snapshot: first from the catalog, then its disk image."""

from __future__ import annotations

from vmferry.ec2.actions import RequestContext


def remove_snapshot(context: RequestContext, snapshot_id: str) -> None:
    """Forget the snapshot and delete its image. Raises ``NotFoundError``, ``ConflictError`` and ``StoreError``.

    The catalog comes first: what dies in between is a file that nobody knows, never a snapshot without its bytes.
    """
    snapshot = context.services.catalog.snapshots.remove(context.place, snapshot_id)
    context.services.images.delete(snapshot.bucket, snapshot.key)
