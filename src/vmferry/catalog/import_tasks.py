"""Import tasks, which make AMIs or snapshots: the table of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from vmferry.catalog._client_tokens import claim_token
from vmferry.catalog._outbox import ACTIVE, COMPLETED, DELETED, DELETING, Outbox, check_active, check_quota
from vmferry.catalog._schema import ImportTaskRow, SliceRow
from vmferry.catalog.images import Image, add_image
from vmferry.catalog.import_facts import (
    ImportChange,
    ImportedDisk,
    ImportFacts,
    ImportFinding,
    ObjectPin,
    facts_from_json,
    facts_to_json,
    found_tags,
)
from vmferry.catalog.import_task import (
    CONVERSION,
    IMPORT_IMAGE,
    IMPORT_SNAPSHOT,
    DiskContainer,
    DiskConversion,
    ImportRequest,
    ImportTask,
    Slice,
)
from vmferry.catalog.pages import Wanted, newest_query, page_query
from vmferry.catalog.places import Place
from vmferry.catalog.snapshots import complete_snapshot
from vmferry.catalog.tags import put_tags

__all__ = [
    "ACTIVE",
    "COMPLETED",
    "CONVERSION",
    "DELETED",
    "DELETING",
    "IMPORT_IMAGE",
    "IMPORT_SNAPSHOT",
    "DiskContainer",
    "DiskConversion",
    "ImportChange",
    "ImportFacts",
    "ImportFinding",
    "ImportRequest",
    "ImportTask",
    "ImportTasks",
    "ImportedDisk",
    "ObjectPin",
    "Slice",
]

_TOKEN_ACTIONS = {IMPORT_IMAGE: "ImportImage", IMPORT_SNAPSHOT: "ImportSnapshot"}


class ImportTasks(Outbox[ImportTaskRow]):
    """The import tasks of every region and account."""

    row = ImportTaskRow
    noun = "import"
    ended_code = "DeleteConversionTaskError"

    # -- what the front end does

    def add(self, task: ImportTask, tags: Mapping[str, str], token: str | None, fingerprint: str, most: int) -> str:
        """Record a new task with its tags and answer its id.

        A ``token`` that was used before with the same ``fingerprint`` answers the id of then and records nothing;
        with another one it raises ``ConflictError``. So does a task more than ``most`` that have not ended, of those
        of the account in the region that make AMIs or snapshots.
        """
        with self._database.write() as session:
            if token is not None:
                action = _TOKEN_ACTIONS[task.kind]
                if (earlier := claim_token(session, task.place, action, token, fingerprint, task.id)) is not None:
                    return earlier
            noun = "import image" if task.kind == IMPORT_IMAGE else "import snapshot"
            counted = ImportTaskRow.kind.in_((IMPORT_IMAGE, IMPORT_SNAPSHOT))
            check_quota(session, ImportTaskRow, task.place, most, noun, counted)
            session.add(import_task_row(task))
            session.flush()
            put_tags(session, task.place, task.id, task.kind, tags)
        return task.id

    def describe(self, place: Place, kind: str, ids: Collection[str]) -> list[ImportTask]:
        """The tasks of ``kind`` in ``place`` with these ids, oldest first, or ``NotFoundError``."""
        with self._database.read() as session:
            found = self._find(session, place, ids, ImportTaskRow.kind == kind)
            return _with_conversion(session, [import_task_of(row) for row in found])

    def newest(self, place: Place, kind: str, most: int) -> list[ImportTask]:
        """The ``most`` tasks of ``kind`` in ``place`` that were begun last, oldest first."""
        query = newest_query(ImportTaskRow, place, most).where(ImportTaskRow.kind == kind)
        with self._database.read() as session:
            rows = list(session.scalars(query))
            return _with_conversion(session, [import_task_of(row) for row in reversed(rows)])

    def page(self, place: Place, kind: str, wanted: Wanted, after: str | None, most: int) -> list[ImportTask]:
        """The next ``most`` tasks of ``kind`` in ``place``, oldest first, after the position ``after``."""
        query = page_query(ImportTaskRow, ["created_at", "id"], place, wanted, after, most)
        with self._database.read() as session:
            rows = session.scalars(query.where(ImportTaskRow.kind == kind))
            return _with_conversion(session, [import_task_of(row) for row in rows])

    # -- what the metrics tell

    def active(self) -> list[ImportTask]:
        """Every active task, in whichever region and account, oldest first."""
        query = select(ImportTaskRow).where(ImportTaskRow.status == ACTIVE)
        with self._database.read() as session:
            rows = session.scalars(query.order_by(ImportTaskRow.created_at, ImportTaskRow.id))
            return _with_conversion(session, [import_task_of(row) for row in rows])

    # -- what the task does

    def get(self, task_id: str) -> ImportTask:
        """The task, in whichever region and account. Raises ``NotFoundError``."""
        with self._database.read() as session:
            return import_task_of(self._get(session, task_id))

    def advance(self, task_id: str, stage: str, progress: int, facts: ImportFacts | None = None) -> None:
        """Go on to ``stage``; progress never falls. A step that begins the same stage again still waits.

        Raises ``TaskCancelledError`` when the task is no longer active.
        """
        with self._database.write() as session:
            row = self._get_active(session, task_id)
            if row.stage != stage:
                row.stage, row.waiting_for, row.waiting_since = stage, None, None
            row.progress = max(row.progress, progress)
            if facts is not None:
                row.facts = facts_to_json(facts)

    def plan(self, task_id: str, slices: Iterable[Slice]) -> None:
        """Record the slices of the task; a second time changes nothing."""
        with self._database.write() as session:
            self._get_active(session, task_id)
            if session.scalars(select(SliceRow.number).where(SliceRow.task_id == task_id)).first() is None:
                session.add_all(SliceRow(task_id=task_id, **asdict(piece)) for piece in slices)

    def slices(self, task_id: str) -> list[Slice]:
        """The slices of the task, in order."""
        query = select(SliceRow).where(SliceRow.task_id == task_id).order_by(SliceRow.disk, SliceRow.number)
        with self._database.read() as session:
            return [_slice(row) for row in session.scalars(query)]

    def slice(self, task_id: str, disk: int, number: int) -> Slice:
        """A slice of the task, which was planned."""
        with self._database.read() as session:
            return _slice(session.get_one(SliceRow, (task_id, disk, number)))

    def unconverted(self, task_id: str, disk: int) -> list[Slice]:
        """The slices of a disk, in order, that ``keep_digest`` was not called for yet."""
        query = select(SliceRow).where(SliceRow.task_id == task_id, SliceRow.disk == disk, SliceRow.digest.is_(None))
        with self._database.read() as session:
            return [_slice(row) for row in session.scalars(query.order_by(SliceRow.number))]

    def record_slices(
        self, task_id: str, disk: int, done: Mapping[int, int], *, read: int = 0, written: int = 0
    ) -> tuple[int, int]:
        """Record how much of a disk's slices is converted, by their numbers; answers DATA bytes done and to do, over
        the whole task.

        ``read`` and ``written`` are bytes that went by since the last call.

        Raises ``TaskCancelledError`` when the task is no longer active.
        """
        with self._database.write() as session:
            row = self._get_active(session, task_id)
            row.waiting_for = row.waiting_since = None
            row.bytes_read += read
            row.bytes_written += written
            for number, part in done.items():
                session.get_one(SliceRow, (task_id, disk, number)).done = part
            session.flush()
            sums = select(func.sum(SliceRow.done), func.sum(SliceRow.data)).where(SliceRow.task_id == task_id)
            finished, planned = session.execute(sums).one()
            row.recorded_at = datetime.now(UTC)
            if row.measured_since is None:
                row.measured_since, row.done_before, row.read_before = row.recorded_at, int(finished), row.bytes_read
            return int(finished), int(planned)

    def keep_digest(self, task_id: str, disk: int, number: int, nodes: bytes, file_digest: bytes | None = None) -> None:
        """Keep what a slice, now converted, adds to the digest of its disk; and how far the one of its file is."""
        with self._database.write() as session:
            row = session.get_one(SliceRow, (task_id, disk, number))
            row.digest, row.file_digest = nodes, file_digest

    def file_digest(self, task_id: str, disk: int) -> bytes | None:
        """How far the digest of a disk's file was when the last of its converted slices was done."""
        query = select(SliceRow.file_digest).where(
            SliceRow.task_id == task_id, SliceRow.disk == disk, SliceRow.file_digest.is_not(None)
        )
        with self._database.read() as session:
            return session.scalars(query.order_by(SliceRow.number.desc())).first()

    def digests(self, task_id: str, disk: int) -> list[bytes | None]:
        """What ``keep_digest`` kept of each slice of a disk; ``None`` for a slice of which nothing was kept."""
        query = select(SliceRow.digest).where(SliceRow.task_id == task_id, SliceRow.disk == disk)
        with self._database.read() as session:
            return list(session.scalars(query.order_by(SliceRow.number)))

    def complete_disk(self, task_id: str, disk: int, digest: str | None) -> None:
        """A disk of the task is whole, with this guest digest; its slices' are let go of.

        Raises ``TaskCancelledError`` when the task is no longer active.
        """
        with self._database.write() as session:
            row = self._get_active(session, task_id)
            facts = facts_from_json(row.facts)
            known = facts.disks[disk].digest or digest
            whole = replace(facts.disks[disk], status="completed", digest=known)
            row.facts = facts_to_json(replace(facts, disks=(*facts.disks[:disk], whole, *facts.disks[disk + 1 :])))
            session.execute(
                update(SliceRow)
                .where(SliceRow.task_id == task_id, SliceRow.disk == disk)
                .values(digest=None, file_digest=None)
            )

    def receipt(self, task_id: str) -> str | None:
        """The receipt of a completed task, in text; ``None`` where there is none. Raises ``NotFoundError``."""
        with self._database.read() as session:
            return self._get(session, task_id).receipt

    def complete(self, task_id: str, image: Image | None, receipt: str | None = None) -> str | None:
        """Complete the task and its snapshots, register ``image`` where there is one, keep the receipt: all or nothing.

        Answers the AMI's id. A task that is complete already answers what it has. Raises ``TaskCancelledError`` when it
        was cancelled.
        """
        with self._database.write() as session:
            row = self._get(session, task_id)
            if row.status == COMPLETED:
                return row.image_id
            check_active(row)
            digests = {found.snapshot_id: found.digest for found in facts_from_json(row.facts).disks}
            made = list(digests) if image is None else [device.snapshot_id for device in image.block_devices]
            for snapshot_id in made:
                complete_snapshot(session, snapshot_id, digests.get(snapshot_id))
            session.flush()
            if image is not None:
                add_image(session, image)
                put_tags(session, image.place, image.id, "image", found_tags(facts_from_json(row.facts)))
                row.image_id = image.id
            row.status, row.progress, row.receipt = COMPLETED, 100, receipt
            row.waiting_for = row.waiting_since = None
            return row.image_id


def import_task_row(task: ImportTask) -> ImportTaskRow:
    """``task`` as it is recorded."""
    return ImportTaskRow(
        id=task.id,
        kind=task.kind,
        region=task.place.region,
        account_id=task.place.account_id,
        created_at=task.created_at,
        status=task.status,
        stage=task.stage,
        progress=task.progress,
        request=asdict(task.request),
        facts=facts_to_json(task.facts),
        dispatched=False,
        cancel_sent=False,
    )


def import_task_of(row: ImportTaskRow) -> ImportTask:
    """The task that ``row`` records, without how far its disks are."""
    containers = tuple(DiskContainer(**c) for c in row.request["containers"])
    return ImportTask(
        id=row.id,
        kind=row.kind,
        place=Place(row.region, row.account_id),
        created_at=row.created_at,
        request=ImportRequest(**{**row.request, "containers": containers}),
        status=row.status,
        stage=row.stage,
        progress=row.progress,
        reason=row.reason,
        waiting_for=row.waiting_for,
        waiting_since=row.waiting_since,
        facts=facts_from_json(row.facts),
        image_id=row.image_id,
        bytes_read=row.bytes_read,
        bytes_written=row.bytes_written,
        measured_since=row.measured_since,
        done_before=row.done_before,
        read_before=row.read_before,
        recorded_at=row.recorded_at,
    )


def _with_conversion(session: Session, tasks: list[ImportTask]) -> list[ImportTask]:
    """``tasks``, of which the active ones know how far each disk is."""
    ids = [task.id for task in tasks if task.status == ACTIVE]
    sums = select(SliceRow.task_id, SliceRow.disk, func.sum(SliceRow.done), func.sum(SliceRow.data))
    query = sums.where(SliceRow.task_id.in_(ids)).group_by(SliceRow.task_id, SliceRow.disk)
    known = {(task, disk): DiskConversion(int(done), int(data)) for task, disk, done, data in session.execute(query)}
    planned = {task for task, _ in known}
    return [
        task
        if task.id not in planned
        else replace(
            task,
            conversion=tuple(known.get((task.id, disk), DiskConversion(0, 0)) for disk in range(len(task.facts.disks))),
        )
        for task in tasks
    ]


def _slice(row: SliceRow) -> Slice:
    return Slice(disk=row.disk, number=row.number, start=row.start, end=row.end, data=row.data, done=row.done)
