"""Snapshots: the point-in-time contents of a volume, kept as a disk image in a store."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from vmferry import own_tags
from vmferry.catalog._database import Database
from vmferry.catalog._outbox import ACTIVE, DELETING
from vmferry.catalog._schema import BlockDeviceRow, SnapshotRow, SnapshotUploadRow
from vmferry.catalog.pages import Wanted, visible_page
from vmferry.catalog.permissions import drop_permissions, visible
from vmferry.catalog.places import Place
from vmferry.catalog.tags import drop_tags, put_tags
from vmferry.errors import ConflictError, NotFoundError, quote
from vmferry.units import to_gib

PENDING, COMPLETED, ERROR = "pending", "completed", "error"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot. Its disk image stands at ``bucket``/``key`` of the image store, whole once ``state`` is completed."""

    id: str
    place: Place
    state: str
    size: int
    """Guest bytes."""
    description: str | None
    created_at: datetime
    bucket: str
    key: str
    task_id: str | None
    """The task that made it."""
    digest: str | None = None
    """The guest digest of its bytes, once it is known."""
    volume_id: str | None = None
    """The volume that it was made of, if any."""
    state_message: str | None = None
    """Why it ended in error."""
    progress: int | None = None
    """How far its making is, in percent, where somebody has said so."""

    @property
    def volume_size_gib(self) -> int:
        return to_gib(self.size)


class Snapshots:
    """The snapshots of every region and account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, snapshot: Snapshot) -> None:
        """Record a pending snapshot; the same id again changes nothing."""
        with self._database.write() as session:
            if session.get(SnapshotRow, snapshot.id) is None:
                session.add(snapshot_row(snapshot))

    def complete(self, snapshot_id: str, digest: str | None = None) -> None:
        """The image is whole, and holds what ``digest`` says: the snapshot may be used. Raises ``NotFoundError``."""
        with self._database.write() as session:
            complete_snapshot(session, snapshot_id, digest)

    def describe(self, place: Place, ids: Collection[str] | None = None, *, shared: bool = False) -> list[Snapshot]:
        """Snapshots of ``place``, and where ``shared`` those that others share with its account, oldest first; with
        ``ids`` only those, and ``NotFoundError`` when one is missing."""
        query = select(SnapshotRow).where(visible(SnapshotRow, place, shared=shared))
        if ids is not None:
            query = query.where(SnapshotRow.id.in_(list(ids)))
        with self._database.read() as session:
            found = [_fact(row) for row in session.scalars(query.order_by(SnapshotRow.created_at, SnapshotRow.id))]
        if missing := sorted(set(ids or ()) - {snapshot.id for snapshot in found}):
            raise NotFoundError(f"The snapshot '{quote(missing[0])}' does not exist.", resource_id=missing[0])
        return found

    def page(self, place: Place, wanted: Wanted, after: str | None, most: int) -> list[Snapshot]:
        """The next ``most`` snapshots of ``place``, and of those shared with its account, by id, after the id
        ``after``."""
        with self._database.read() as session:
            return [_fact(row) for row in visible_page(session, SnapshotRow, place, wanted, after, most)]

    def find(self, snapshot_id: str) -> Snapshot | None:
        """The snapshot, in whichever region and account: for whoever runs the server."""
        with self._database.read() as session:
            row = session.get(SnapshotRow, snapshot_id)
            return None if row is None else _fact(row)

    def keys(self, bucket: str) -> set[str]:
        """The keys of all disk images in a bucket of the image store, of whichever account."""
        with self._database.read() as session:
            return set(session.scalars(select(SnapshotRow.key).where(SnapshotRow.bucket == bucket)))

    def abandoned(self, before: datetime) -> list[Snapshot]:
        """Pending snapshots that no task and no client puts together, begun before ``before``: a request that made them
        died."""
        query = select(SnapshotRow).where(
            SnapshotRow.state == PENDING,
            SnapshotRow.task_id.is_(None),
            SnapshotRow.created_at < before,
            SnapshotRow.id.not_in(select(SnapshotUploadRow.id)),
        )
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(query)]

    def of_task(self, task_id: str) -> list[Snapshot]:
        """The snapshots that a task has begun or made."""
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(select(SnapshotRow).where(SnapshotRow.task_id == task_id))]

    def remove(self, place: Place, snapshot_id: str) -> Snapshot:
        """Forget the snapshot; the caller then deletes its image.

        Raises ``NotFoundError``, and ``ConflictError`` while an AMI uses it or a task still writes it.
        """
        with self._database.write() as session:
            row = session.get(SnapshotRow, snapshot_id)
            if row is None or (row.region, row.account_id) != (place.region, place.account_id):
                raise NotFoundError(f"The snapshot '{quote(snapshot_id)}' does not exist.", resource_id=snapshot_id)
            if row.state == PENDING and not _end_upload(session, snapshot_id):
                raise ConflictError(
                    f"The snapshot {snapshot_id} is being written by {row.task_id}; cancel that task instead."
                    if row.task_id is not None
                    else f"The snapshot {snapshot_id} is being copied; wait until it is completed.",
                    code="IncorrectState",
                )
            return remove_snapshot(session, row)

    def discard(self, snapshot_id: str) -> None:
        """Forget a snapshot of a task that failed. What is not there is passed over."""
        with self._database.write() as session:
            row = session.get(SnapshotRow, snapshot_id)
            if row is not None:
                remove_snapshot(session, row)


def complete_snapshot(session: Session, snapshot_id: str, digest: str | None) -> None:
    """As ``Snapshots.complete``, inside a transaction. The digest is shown as a tag, too."""
    row = session.get(SnapshotRow, snapshot_id)
    if row is None:
        raise NotFoundError(f"The snapshot {quote(snapshot_id)} does not exist.", resource_id=snapshot_id)
    row.state, row.digest = COMPLETED, digest
    if digest is not None:
        with suppress(ConflictError):  # the user's own tags may take all the room there is
            put_tags(
                session, Place(row.region, row.account_id), snapshot_id, "snapshot", {own_tags.GUEST_DIGEST: digest}
            )


def _end_upload(session: Session, snapshot_id: str) -> bool:
    """Whether a snapshot is one that blocks are put into; then nothing more is. A task that puts it together ends and
    cleans up after itself."""
    upload = session.get(SnapshotUploadRow, snapshot_id)
    if upload is None:
        return False
    if upload.status == ACTIVE:
        upload.status, upload.reason = DELETING, "The snapshot was deleted."
    else:
        session.delete(upload)
    return True


def snapshot_row(snapshot: Snapshot) -> SnapshotRow:
    """``snapshot`` as it is recorded."""
    return SnapshotRow(
        id=snapshot.id,
        region=snapshot.place.region,
        account_id=snapshot.place.account_id,
        state=snapshot.state,
        size=snapshot.size,
        description=snapshot.description,
        created_at=snapshot.created_at.astimezone(UTC),
        bucket=snapshot.bucket,
        key=snapshot.key,
        task_id=snapshot.task_id,
        digest=snapshot.digest,
        volume_id=snapshot.volume_id,
        state_message=snapshot.state_message,
        progress=snapshot.progress,
    )


def remove_snapshot(session: Session, row: SnapshotRow) -> Snapshot:
    """Forget ``row`` inside a transaction. Raises ``ConflictError`` while an AMI uses it."""
    user = session.scalars(select(BlockDeviceRow.image_id).where(BlockDeviceRow.snapshot_id == row.id)).first()
    if user is not None:
        raise ConflictError(
            f"The snapshot {row.id} is currently in use by {user}", code="InvalidSnapshot.InUse", resource_id=row.id
        )
    snapshot = _fact(row)
    drop_tags(session, row.id)
    drop_permissions(session, row.id)
    session.delete(row)
    return snapshot


def _fact(row: SnapshotRow) -> Snapshot:
    return Snapshot(
        id=row.id,
        place=Place(row.region, row.account_id),
        state=row.state,
        size=row.size,
        description=row.description,
        created_at=row.created_at,
        bucket=row.bucket,
        key=row.key,
        task_id=row.task_id,
        digest=row.digest,
        volume_id=row.volume_id,
        state_message=row.state_message,
        progress=row.progress,
    )
