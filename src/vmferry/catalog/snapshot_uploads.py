"""Snapshots that clients put together block by block: begun, then completed by a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select

from vmferry.catalog._client_tokens import claim_token
from vmferry.catalog._outbox import ACTIVE, COMPLETED, DELETED, DELETING, Outbox
from vmferry.catalog._schema import SnapshotRow, SnapshotUploadRow
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import ERROR, Snapshot, complete_snapshot, snapshot_row
from vmferry.catalog.tags import put_tags
from vmferry.errors import ConflictError

__all__ = ["ACTIVE", "COMPLETED", "DELETED", "DELETING", "OPEN", "SnapshotUpload", "SnapshotUploads"]

OPEN = "open"
"""Blocks may be put. Then active: a task makes the image of them."""


@dataclass(frozen=True, slots=True)
class SnapshotUpload:
    """What is known of a snapshot that is put together, beside what the snapshot itself tells. It has the same id."""

    id: str
    place: Place
    created_at: datetime
    size: int
    """Guest bytes."""
    bucket: str
    key: str
    """Of the image that is made."""
    parent_id: str | None
    """The snapshot whose blocks show where none are put."""
    timeout_minutes: int
    """How long it stays open without a block being put."""
    changed_blocks: int | None = None
    """How many blocks were put, once no more may be."""
    checksum: str | None = None
    """The SHA-256, in base64, of the SHA-256 of those, one after the other."""
    status: str = OPEN


class SnapshotUploads(Outbox[SnapshotUploadRow]):
    """The uploads of every region and account."""

    row = SnapshotUploadRow
    noun = "snapshot"
    ended_code = "IncorrectState"

    def start(
        self,
        snapshot: Snapshot,
        upload: SnapshotUpload,
        tags: Mapping[str, str],
        token: tuple[str, str] | None,
        most: int,
    ) -> str:
        """Record a pending snapshot with its tags, and that blocks may be put; its id.

        ``token`` is a client token and the fingerprint of its request: where it made a snapshot before, that one's id
        is the answer. Raises ``ConflictError`` for a token of another request, and for more than ``most`` at a time.
        """
        place = snapshot.place
        with self._database.write() as session:
            if token is not None:
                earlier = claim_token(session, place, "StartSnapshot", *token, snapshot.id)
                if earlier is not None:
                    return earlier
            query = select(func.count()).where(
                SnapshotUploadRow.region == place.region,
                SnapshotUploadRow.account_id == place.account_id,
                SnapshotUploadRow.status.in_((OPEN, ACTIVE)),
            )
            if (session.scalar(query) or 0) >= most:
                raise ConflictError(
                    f"{most} snapshots are pending, the most that an account may have: complete or delete some.",
                    code="PendingSnapshotLimitExceeded",
                )
            session.add(snapshot_row(snapshot))
            session.add(_row(upload))
            session.flush()
            put_tags(session, place, snapshot.id, "snapshot", tags)
        return snapshot.id

    def find(self, snapshot_id: str) -> SnapshotUpload | None:
        """The upload, in whichever region and account."""
        with self._database.read() as session:
            row = session.get(SnapshotUploadRow, snapshot_id)
            return None if row is None else _fact(row)

    def open(self) -> list[SnapshotUpload]:
        """Those into which blocks may be put, oldest first."""
        return self._select(OPEN)

    def unended(self) -> list[SnapshotUpload]:
        """Those whose files are wanted, oldest first."""
        return self._select(OPEN, ACTIVE, DELETING)

    def report(self, snapshot_id: str, percent: int) -> None:
        """The client says how far it is. Progress never falls."""
        with self._database.write() as session:
            row = session.get(SnapshotRow, snapshot_id)
            if row is not None:
                row.progress = max(row.progress or 0, percent)

    def ask_completion(self, snapshot_id: str, changed_blocks: int, checksum: str) -> None:
        """No more blocks: have the image made of those that were put. What is asked for already is asked for once."""
        with self._database.write() as session:
            row = self._get(session, snapshot_id)
            if row.status == OPEN:
                row.status, row.dispatched = ACTIVE, False
                row.changed_blocks, row.checksum = changed_blocks, checksum

    def complete(self, snapshot_id: str, digest: str) -> None:
        """The image is whole. Raises ``TaskCancelledError`` when the snapshot was deleted meanwhile."""
        with self._database.write() as session:
            row = self._get(session, snapshot_id)
            if row.status != COMPLETED:
                row = self._get_active(session, snapshot_id)
                row.status = COMPLETED
                row.waiting_for = row.waiting_since = None
                complete_snapshot(session, snapshot_id, digest)

    def end(self, snapshot_id: str, reason: str) -> None:
        """Let the snapshot, if it is still there and pending, be in error for ``reason``: its files are gone."""
        with self._database.write() as session:
            row = self._get(session, snapshot_id)
            if row.status in (COMPLETED, DELETED):
                return
            row.status, row.reason = DELETED, row.reason or reason
            row.waiting_for = row.waiting_since = None
            snapshot = session.get(SnapshotRow, snapshot_id)
            if snapshot is not None:
                snapshot.state, snapshot.state_message = ERROR, row.reason

    def _select(self, *statuses: str) -> list[SnapshotUpload]:
        query = select(SnapshotUploadRow).where(SnapshotUploadRow.status.in_(statuses))
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(query.order_by(SnapshotUploadRow.created_at))]


def _row(upload: SnapshotUpload) -> SnapshotUploadRow:
    return SnapshotUploadRow(
        id=upload.id,
        region=upload.place.region,
        account_id=upload.place.account_id,
        created_at=upload.created_at.astimezone(UTC),
        size=upload.size,
        bucket=upload.bucket,
        key=upload.key,
        parent_id=upload.parent_id,
        timeout_minutes=upload.timeout_minutes,
        changed_blocks=upload.changed_blocks,
        checksum=upload.checksum,
        status=upload.status,
        dispatched=True,  # there is nothing to tell of it until it is to be completed
        cancel_sent=False,
    )


def _fact(row: SnapshotUploadRow) -> SnapshotUpload:
    return SnapshotUpload(
        id=row.id,
        place=Place(row.region, row.account_id),
        created_at=row.created_at,
        size=row.size,
        bucket=row.bucket,
        key=row.key,
        parent_id=row.parent_id,
        timeout_minutes=row.timeout_minutes,
        changed_blocks=row.changed_blocks,
        checksum=row.checksum,
        status=row.status,
    )
