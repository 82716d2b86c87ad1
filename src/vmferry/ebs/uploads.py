"""Snapshots that blocks are put into: found, opened, and held while somebody works on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vmferry.catalog.snapshot_uploads import ACTIVE, OPEN, SnapshotUpload
from vmferry.catalog.snapshots import Snapshot
from vmferry.ebs.errors import CONFLICT, NOT_FOUND, EbsError
from vmferry.ebs.operations import RequestContext
from vmferry.ebs.snapshots import find_snapshot
from vmferry.snapshot_blocks import SnapshotBlocks, open_blocks


def find_upload(context: RequestContext, snapshot_id: str) -> tuple[Snapshot, SnapshotUpload]:
    """The caller's snapshot, and its upload, whatever has become of it. Raises ``EbsError``."""
    snapshot = find_snapshot(context.services.catalog, context.place, snapshot_id)
    upload = context.services.catalog.snapshot_uploads.find(snapshot_id)
    if upload is None:
        raise _closed(snapshot)
    return snapshot, upload


def find_open(context: RequestContext, snapshot_id: str) -> tuple[Snapshot, SnapshotUpload]:
    """The same, if blocks may be put."""
    snapshot, upload = find_upload(context, snapshot_id)
    if upload.status != OPEN:
        raise _closed(snapshot)
    return snapshot, upload


@contextmanager
def hold_blocks(context: RequestContext, upload: SnapshotUpload, *, shared: bool) -> Iterator[SnapshotBlocks]:
    """The files of an open upload, held together with others who put, or alone. Raises ``EbsError``.

    That it is open is looked at again when they are held: then nobody ends it before the block does. Files that
    were made by opening them, because the snapshot is no more, are removed.
    """
    with open_blocks(context.services.images, upload) as blocks:
        blocks.lock(shared=shared)
        now = context.services.catalog.snapshot_uploads.find(upload.id)
        if now is None or now.status not in (OPEN, ACTIVE):
            blocks.abort()
        if now is None:
            raise EbsError(NOT_FOUND, f"The snapshot '{upload.id}' does not exist.", "SNAPSHOT_NOT_FOUND")
        if now.status != OPEN:
            raise _closed(find_snapshot(context.services.catalog, context.place, upload.id))
        yield blocks


def _closed(snapshot: Snapshot) -> EbsError:
    return EbsError(CONFLICT, f"The snapshot '{snapshot.id}' takes no blocks: it is {_word(snapshot)}.")


def _word(snapshot: Snapshot) -> str:
    if snapshot.state_message is not None:
        return f"in state {snapshot.state} | {snapshot.state_message}"
    return "being completed" if snapshot.state == "pending" else snapshot.state
