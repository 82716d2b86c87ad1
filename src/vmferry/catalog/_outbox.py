"""What tasks of every kind have in common: they wait for the dispatcher, and perhaps for something that is away."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from vmferry.catalog._database import Database
from vmferry.catalog._schema import ExportTaskRow, ImportTaskRow, SnapshotUploadRow
from vmferry.catalog.places import Place
from vmferry.errors import ConflictError, NotFoundError, TaskCancelledError, quote

ACTIVE, COMPLETED, DELETING, DELETED = "active", "completed", "deleting", "deleted"
TaskRow = TypeVar("TaskRow", ImportTaskRow, ExportTaskRow, SnapshotUploadRow)


class Outbox(Generic[TaskRow]):
    """The tasks of one kind that the dispatcher looks at: the catalog is the truth, the workflow server is told."""

    row: type[TaskRow]
    noun: str
    """``import``, ``export``."""
    ended_code: str
    """EC2's code for a task that has ended and cannot be cancelled."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cancel(self, place: Place, task_id: str, reason: str) -> str:
        """Mark an active task as being deleted and answer its status before. Cancelling twice is the same as once.

        Raises ``NotFoundError``, and ``ConflictError`` when the task has ended.
        """
        with self._database.write() as session:
            row = session.get(self.row, task_id)
            if row is None or (row.region, row.account_id) != (place.region, place.account_id):
                raise self._not_found(task_id)
            before = row.status
            if before in (COMPLETED, DELETED):
                raise ConflictError(f"The task {task_id} is {before} and cannot be cancelled.", code=self.ended_code)
            if before == ACTIVE:
                row.status, row.reason = DELETING, reason
            return before

    def undispatched(self) -> list[str]:
        """Tasks that no workflow was started for yet, oldest first."""
        return self._ids(self.row.dispatched.is_(False))

    def uncancelled(self) -> list[str]:
        """Tasks being deleted whose workflow was not told yet."""
        return self._ids(self.row.dispatched, self.row.status == DELETING, self.row.cancel_sent.is_(False))

    def unfinished(self) -> list[str]:
        """Tasks that have not ended."""
        return self._ids(self.row.status.in_((ACTIVE, DELETING)))

    def mark_dispatched(self, task_id: str) -> None:
        """A workflow for the task runs."""
        with self._database.write() as session:
            self._get(session, task_id).dispatched = True

    def mark_cancel_sent(self, task_id: str) -> None:
        """The task's workflow was told to end."""
        with self._database.write() as session:
            self._get(session, task_id).cancel_sent = True

    def counts(self) -> dict[str, int]:
        """How many tasks there are of each status."""
        query = select(self.row.status, func.count()).group_by(self.row.status)
        with self._database.read() as session:
            return {status: int(count) for status, count in session.execute(query)}

    def wait(self, task_id: str, what: str) -> datetime:
        """Say what the task waits for, and answer since when it has waited without moving."""
        with self._database.write() as session:
            row = self._get(session, task_id)
            row.waiting_for = what
            row.waiting_since = row.waiting_since or datetime.now(UTC)
            return row.waiting_since

    def fail(self, task_id: str, reason: str) -> None:
        """Mark the task as being deleted for ``reason``; a reason that stands already is kept. Not after the end."""
        with self._database.write() as session:
            row = self._get(session, task_id)
            if row.status == ACTIVE:
                row.status, row.reason = DELETING, reason

    def mark_deleted(self, task_id: str) -> None:
        """The task has ended and left nothing behind but its record."""
        with self._database.write() as session:
            row = self._get(session, task_id)
            if row.status != COMPLETED:
                row.status = DELETED
                row.waiting_for = row.waiting_since = None

    def _find(
        self, session: Session, place: Place, ids: Collection[str], *conditions: ColumnElement[bool]
    ) -> list[TaskRow]:
        """The tasks in ``place`` with these ids that meet ``conditions``, oldest first, or ``NotFoundError``."""
        row = self.row
        query = select(row).where(
            row.region == place.region, row.account_id == place.account_id, row.id.in_(list(ids)), *conditions
        )
        found = list(session.scalars(query.order_by(row.created_at, row.id)))
        if missing := sorted(set(ids) - {one.id for one in found}):
            raise self._not_found(missing[0])
        return found

    def _ids(self, *conditions: Any) -> list[str]:
        query = select(self.row.id).where(*conditions).order_by(self.row.created_at)
        with self._database.read() as session:
            return list(session.scalars(query))

    def _get(self, session: Session, task_id: str) -> TaskRow:
        row = session.get(self.row, task_id)
        if row is None:
            raise self._not_found(task_id)
        return row

    def _get_active(self, session: Session, task_id: str) -> TaskRow:
        row = self._get(session, task_id)
        check_active(row)
        return row

    def _not_found(self, task_id: str) -> NotFoundError:
        return NotFoundError(f"The {self.noun} task ID '{quote(task_id)}' does not exist", resource_id=task_id)


def check_quota(
    session: Session, row: type[TaskRow], place: Place, most: int, noun: str, *conditions: ColumnElement[bool]
) -> None:
    """Inside the transaction that records one more: raise ``ConflictError`` where ``most`` tasks of ``place`` have not
    ended. ``noun`` is what is asked for, ``conditions`` say which tasks count."""
    query = select(func.count()).where(
        row.region == place.region,
        row.account_id == place.account_id,
        row.status.in_((ACTIVE, DELETING)),
        *conditions,
    )
    if (found := session.scalar(query) or 0) >= most:
        raise ConflictError(
            f"Concurrent {noun} tasks limit ({most}) reached | {found} tasks of the account that count for it have not "
            f"ended in {place.region}: wait for one, or cancel it.",
            code="ResourceCountLimitExceeded",
        )


def check_active(row: ImportTaskRow | ExportTaskRow | SnapshotUploadRow) -> None:
    """Raise ``TaskCancelledError`` for a task that has ended, or is to end."""
    if row.status != ACTIVE:
        raise TaskCancelledError(row.reason or f"The task {row.id} is {row.status}.")
