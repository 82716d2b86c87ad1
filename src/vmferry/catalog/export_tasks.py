"""Export tasks: which AMI, or which instance, goes where, and how far it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, select

from vmferry.catalog._client_tokens import claim_token
from vmferry.catalog._outbox import ACTIVE, COMPLETED, DELETED, DELETING, Outbox, check_quota
from vmferry.catalog._schema import ExportTaskRow
from vmferry.catalog.pages import Wanted, newest_query, page_query, position_of
from vmferry.catalog.places import Place
from vmferry.catalog.tags import put_tags
from vmferry.errors import ConflictError

__all__ = ["ACTIVE", "COMPLETED", "DELETED", "DELETING", "EXPORT_IMAGE", "EXPORT_INSTANCE", "ExportTask", "ExportTasks"]

EXPORT_IMAGE, EXPORT_INSTANCE = "export-image-task", "export-instance-task"
"""Kinds of tasks, as tags call them."""


@dataclass(frozen=True, slots=True)
class ExportTask:
    """An export task. ``status`` is that of ExportImage; ``stage`` is the word in StatusMessage while it is active."""

    id: str
    place: Place
    created_at: datetime
    image_id: str | None
    """The AMI, or ``None`` where it is an instance that goes."""
    format: str
    """EC2's name of what the object is, upper case: ``VMDK``, ``OVA``."""
    bucket: str
    prefix: str
    """As it was given."""
    key: str
    """Of the object."""
    description: str | None = None
    role_name: str | None = None
    status: str = ACTIVE
    stage: str = "pending"
    progress: int = 0
    reason: str | None = None
    waiting_for: str | None = None
    waiting_since: datetime | None = None
    instance_id: str | None = None
    target_environment: str | None = None
    """``vmware``, ``microsoft`` or ``citrix``, for an instance."""

    @property
    def kind(self) -> str:
        """``EXPORT_IMAGE`` or ``EXPORT_INSTANCE``."""
        return EXPORT_IMAGE if self.instance_id is None else EXPORT_INSTANCE

    @property
    def position(self) -> str:
        """Where it stands among all, oldest first."""
        return position_of(self.created_at, self.id)


class ExportTasks(Outbox[ExportTaskRow]):
    """The export tasks of every region and account."""

    row = ExportTaskRow
    noun = "export"
    ended_code = "IncorrectState"

    def add(self, task: ExportTask, tags: Mapping[str, str], token: str | None, fingerprint: str, most: int) -> str:
        """Record a new task with its tags and answer its id; see ``ImportTasks.add`` for ``token``.

        Raises ``ConflictError`` while the image or instance is being exported already, and where the account has
        ``most`` exports in the region that have not ended.
        """
        with self._database.write() as session:
            if token is not None:
                earlier = claim_token(session, task.place, "ExportImage", token, fingerprint, task.id)
                if earlier is not None:
                    return earlier
            query = select(ExportTaskRow.id).where(
                ExportTaskRow.image_id.is_(None) if task.image_id is None else ExportTaskRow.image_id == task.image_id,
                ExportTaskRow.instance_id.is_(None)
                if task.instance_id is None
                else ExportTaskRow.instance_id == task.instance_id,
                ExportTaskRow.status.in_((ACTIVE, DELETING)),
            )
            if (other := session.scalars(query).first()) is not None:
                what = f"image {task.image_id}" if task.instance_id is None else f"instance {task.instance_id}"
                raise ConflictError(
                    f"The {what} is being exported by {other}; wait for it, or cancel it.", code="IncorrectState"
                )
            noun = "export image" if task.instance_id is None else "export instance"
            check_quota(session, ExportTaskRow, task.place, most, noun)
            session.add(_row(task))
            session.flush()
            put_tags(session, task.place, task.id, task.kind, tags)
        return task.id

    def describe(self, place: Place, kind: str, ids: Collection[str]) -> list[ExportTask]:
        """The tasks of ``kind`` in ``place`` with these ids, oldest first, or ``NotFoundError``."""
        with self._database.read() as session:
            return [_fact(row) for row in self._find(session, place, ids, _is_of(kind))]

    def newest(self, place: Place, kind: str, most: int) -> list[ExportTask]:
        """The ``most`` tasks of ``kind`` in ``place`` that were begun last, oldest first."""
        query = newest_query(ExportTaskRow, place, most).where(_is_of(kind))
        with self._database.read() as session:
            return [_fact(row) for row in reversed(list(session.scalars(query)))]

    def page(self, place: Place, kind: str, wanted: Wanted, after: str | None, most: int) -> list[ExportTask]:
        """The next ``most`` tasks of ``kind`` in ``place``, oldest first, after the position ``after``."""
        query = page_query(ExportTaskRow, ["created_at", "id"], place, wanted, after, most)
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(query.where(_is_of(kind)))]

    def get(self, task_id: str) -> ExportTask:
        """The task, in whichever region and account. Raises ``NotFoundError``."""
        with self._database.read() as session:
            return _fact(self._get(session, task_id))

    def ended(self, since: datetime) -> list[ExportTask]:
        """All tasks, of every region and account, that were begun after ``since`` and have ended, oldest first."""
        row = ExportTaskRow
        query = select(row).where(row.status.in_((COMPLETED, DELETED)), row.created_at >= since.astimezone(UTC))
        with self._database.read() as session:
            return [_fact(found) for found in session.scalars(query.order_by(row.created_at, row.id))]

    def advance(self, task_id: str, stage: str, progress: int) -> None:
        """Go on to ``stage``; progress never falls. Raises ``TaskCancelledError`` when the task is no longer active."""
        with self._database.write() as session:
            row = self._get_active(session, task_id)
            row.stage, row.waiting_for, row.waiting_since = stage, None, None
            row.progress = max(row.progress, progress)

    def complete(self, task_id: str) -> None:
        """The object is there. Raises ``TaskCancelledError`` when the task was cancelled."""
        with self._database.write() as session:
            row = self._get(session, task_id)
            if row.status != COMPLETED:
                row = self._get_active(session, task_id)
                row.status, row.progress = COMPLETED, 100
                row.waiting_for = row.waiting_since = None


def _is_of(kind: str) -> ColumnElement[bool]:
    of_image = ExportTaskRow.instance_id.is_(None)
    return of_image if kind == EXPORT_IMAGE else ~of_image


def _row(task: ExportTask) -> ExportTaskRow:
    return ExportTaskRow(
        id=task.id,
        region=task.place.region,
        account_id=task.place.account_id,
        created_at=task.created_at.astimezone(UTC),
        image_id=task.image_id,
        instance_id=task.instance_id,
        target_environment=task.target_environment,
        format=task.format,
        bucket=task.bucket,
        prefix=task.prefix,
        key=task.key,
        description=task.description,
        role_name=task.role_name,
        status=task.status,
        stage=task.stage,
        progress=task.progress,
        dispatched=False,
        cancel_sent=False,
    )


def _fact(row: ExportTaskRow) -> ExportTask:
    return ExportTask(
        id=row.id,
        place=Place(row.region, row.account_id),
        created_at=row.created_at,
        image_id=row.image_id,
        format=row.format,
        bucket=row.bucket,
        prefix=row.prefix,
        key=row.key,
        description=row.description,
        role_name=row.role_name,
        status=row.status,
        stage=row.stage,
        progress=row.progress,
        reason=row.reason,
        waiting_for=row.waiting_for,
        waiting_since=row.waiting_since,
        instance_id=row.instance_id,
        target_environment=row.target_environment,
    )
