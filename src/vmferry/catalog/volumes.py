"""Volumes: disks of their own, made of a snapshot, by an import, or empty; attached to an instance or not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from vmferry.catalog._client_tokens import claim_token
from vmferry.catalog._database import Database
from vmferry.catalog._schema import InstanceRow, VolumeRow
from vmferry.catalog.pages import Wanted, page_query
from vmferry.catalog.places import Place
from vmferry.catalog.tags import drop_tags, put_tags
from vmferry.errors import ConflictError, NotFoundError, quote

CREATING, AVAILABLE, IN_USE = "creating", "available", "in-use"
_HOLDING = ("running", "stopping", "stopped")
"""States of instances that a volume may be hung on."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a volume hangs on."""

    instance_id: str
    device_name: str
    attached_at: datetime
    delete_on_termination: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume. Its disk image stands at ``bucket``/``key`` of the image store once it is no longer ``creating``.

    The image is a standalone qcow2. It may share its bytes with a snapshot's, so it is never written in place: what
    opens it for writing makes a copy first, and lets it grow to ``size_gib``, of which the image may hold less.
    """

    id: str
    place: Place
    state: str
    """EC2's: ``creating``, ``available``, ``in-use``."""
    size_gib: int
    zone: str
    snapshot_id: str | None
    """What it was made of; that one may be gone."""
    volume_type: str
    created_at: datetime
    bucket: str
    key: str
    task_id: str | None = None
    """The conversion task that made it."""
    attachment: Attachment | None = None


class Volumes:
    """The volumes of every region and account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, volume: Volume, tags: Mapping[str, str], claim: tuple[str, str | None, str] = ("", None, "")) -> str:
        """Record ``volume`` with its tags; its id. ``claim`` is as for ``Images.register``."""
        action, token, fingerprint = claim
        with self._database.write() as session:
            if token is not None:
                earlier = claim_token(session, volume.place, action, token, fingerprint, volume.id)
                if earlier is not None:
                    return earlier
            add_volume(session, volume, tags)
        return volume.id

    def describe(self, place: Place, ids: Collection[str] | None = None) -> list[Volume]:
        """Volumes of ``place``, oldest first; with ``ids`` only those, or ``NotFoundError``."""
        query = select(VolumeRow).where(VolumeRow.region == place.region, VolumeRow.account_id == place.account_id)
        if ids is not None:
            query = query.where(VolumeRow.id.in_(list(ids)))
        with self._database.read() as session:
            found = [_fact(row) for row in session.scalars(query.order_by(VolumeRow.created_at, VolumeRow.id))]
        if missing := sorted(set(ids or ()) - {volume.id for volume in found}):
            raise _not_found(missing[0])
        return found

    def page(self, place: Place, wanted: Wanted, after: str | None, most: int) -> list[Volume]:
        """The next ``most`` volumes of ``place`` by their ids, after the id ``after``."""
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(page_query(VolumeRow, ["id"], place, wanted, after, most))]

    def find(self, volume_id: str) -> Volume | None:
        """The volume, in whichever region and account."""
        with self._database.read() as session:
            row = session.get(VolumeRow, volume_id)
            return None if row is None else _fact(row)

    def keys(self, bucket: str) -> set[str]:
        """The keys of all disk images in a bucket of the image store, of whichever account."""
        with self._database.read() as session:
            return set(session.scalars(select(VolumeRow.key).where(VolumeRow.bucket == bucket)))

    def of_instances(self, instance_ids: Collection[str]) -> dict[str, list[Volume]]:
        """The volumes that hang on each of ``instance_ids``, by device."""
        found: dict[str, list[Volume]] = {instance_id: [] for instance_id in instance_ids}
        query = select(VolumeRow).where(VolumeRow.instance_id.in_(list(found))).order_by(VolumeRow.device_name)
        with self._database.read() as session:
            for row in session.scalars(query):
                found[str(row.instance_id)].append(_fact(row))
        return found

    def attach(self, place: Place, volume_id: str, instance_id: str, device_name: str) -> Volume:
        """Hang a volume on an instance; it outlives the instance.

        Raises ``NotFoundError``, and ``ConflictError`` where the volume hangs on one already, is not whole or in
        another zone, the instance is terminated, or the device is taken.
        """
        with self._database.write() as session:
            row = _row(session, place, volume_id)
            instance = session.get(InstanceRow, instance_id)
            if instance is None or (instance.region, instance.account_id) != (place.region, place.account_id):
                raise NotFoundError(f"The instance ID '{quote(instance_id)}' does not exist", resource_id=instance_id)
            _check_attachable(session, row, instance, device_name)
            row.state, row.instance_id, row.device_name = IN_USE, instance_id, device_name
            row.attached_at, row.delete_on_termination = datetime.now(UTC), False
            return _fact(row)

    def detach(
        self, place: Place, volume_id: str, instance_id: str | None = None, device_name: str | None = None
    ) -> Volume:
        """Take a volume off its instance, and answer it as it was. ``instance_id`` and ``device_name`` must be right
        where they are given.

        Raises ``NotFoundError``, and ``ConflictError`` where it hangs on none or on another one.
        """
        with self._database.write() as session:
            row = _row(session, place, volume_id)
            before = _fact(row)
            held = before.attachment
            wanted = instance_id or (held.instance_id if held is not None else None)
            if wanted is None:
                raise ConflictError(f"Volume '{volume_id}' is in the '{row.state}' state.", code="IncorrectState")
            if held is None or held.instance_id != wanted:
                raise ConflictError(
                    f"Volume {volume_id} can not be detached from {wanted} because it is not attached",
                    code="InvalidAttachment.NotFound",
                )
            if device_name is not None and held.device_name != device_name:
                raise ConflictError(
                    f"The volume {volume_id} is not attached to instance {wanted} as device {quote(device_name)}",
                    code="InvalidAttachment.NotFound",
                )
            release(row)
            return before

    def set_delete_on_termination(self, instance_id: str, device_name: str, *, delete: bool) -> None:
        """Whether the volume at a device goes with its instance. Raises ``NotFoundError`` for a device without one."""
        query = select(VolumeRow).where(VolumeRow.instance_id == instance_id, VolumeRow.device_name == device_name)
        with self._database.write() as session:
            row = session.scalars(query).first()
            if row is None:
                raise NotFoundError(
                    f"The instance {instance_id} has no volume at {quote(device_name)}", resource_id=instance_id
                )
            row.delete_on_termination = delete

    def complete(self, volume_id: str) -> None:
        """The volume's image is whole: ``creating`` → ``available``. Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = session.get(VolumeRow, volume_id)
            if row is None:
                raise _not_found(volume_id)
            if row.state == CREATING:
                row.state = AVAILABLE

    def remove(self, place: Place, volume_id: str) -> Volume:
        """Forget a volume; its image is the caller's to delete. Raises ``NotFoundError``, ``ConflictError`` while it
        hangs on an instance or is being made."""
        with self._database.write() as session:
            row = _row(session, place, volume_id)
            if row.instance_id is not None:
                raise ConflictError(
                    f"Volume {volume_id} is currently attached to {row.instance_id}", code="VolumeInUse"
                )
            if row.state == CREATING:
                raise ConflictError(
                    f"The volume {volume_id} is being made by {row.task_id or 'a request'}; wait, or cancel that.",
                    code="IncorrectState",
                )
            return remove_volume(session, row)

    def discard(self, volume_id: str) -> None:
        """Forget a volume of what failed, whatever it hangs on. What is not there is passed over."""
        with self._database.write() as session:
            row = session.get(VolumeRow, volume_id)
            if row is not None:
                remove_volume(session, row)


def add_volume(session: Session, volume: Volume, tags: Mapping[str, str]) -> None:
    """Record ``volume`` inside a transaction."""
    held = volume.attachment
    session.add(
        VolumeRow(
            id=volume.id,
            region=volume.place.region,
            account_id=volume.place.account_id,
            state=volume.state,
            size_gib=volume.size_gib,
            zone=volume.zone,
            snapshot_id=volume.snapshot_id,
            volume_type=volume.volume_type,
            created_at=volume.created_at.astimezone(UTC),
            bucket=volume.bucket,
            key=volume.key,
            task_id=volume.task_id,
            instance_id=None if held is None else held.instance_id,
            device_name=None if held is None else held.device_name,
            attached_at=None if held is None else held.attached_at,
            delete_on_termination=held is not None and held.delete_on_termination,
        )
    )
    session.flush()
    put_tags(session, volume.place, volume.id, "volume", tags)


def remove_volume(session: Session, row: VolumeRow) -> Volume:
    """Forget ``row`` inside a transaction."""
    volume = _fact(row)
    drop_tags(session, row.id)
    session.delete(row)
    return volume


def settle_volume(row: VolumeRow, instance_id: str | None, device_name: str) -> None:
    """Inside a transaction, let a volume appear that a task has made; on an instance where there is one."""
    row.state = AVAILABLE if instance_id is None else IN_USE
    if instance_id is not None:
        row.instance_id, row.device_name = instance_id, device_name
        row.attached_at, row.delete_on_termination = datetime.now(UTC), True


def release(row: VolumeRow) -> None:
    """Take the volume off its instance inside a transaction."""
    row.state = AVAILABLE if row.state == IN_USE else row.state
    row.instance_id = row.device_name = row.attached_at = None
    row.delete_on_termination = False


def part_volumes(session: Session, instance_id: str) -> list[Volume]:
    """Inside a transaction, let go of the volumes of an instance that ends; answers those that go with it."""
    gone = []
    for row in session.scalars(select(VolumeRow).where(VolumeRow.instance_id == instance_id)).all():
        if row.delete_on_termination:
            gone.append(remove_volume(session, row))
        else:
            release(row)
    return gone


def _check_attachable(session: Session, row: VolumeRow, instance: InstanceRow, device_name: str) -> None:
    if row.instance_id is not None:
        raise ConflictError(f"{row.id} is already attached to an instance", code="VolumeInUse")
    if row.state != AVAILABLE:
        raise ConflictError(f"{row.id} is not 'available'. | It is {row.state}.", code="IncorrectState")
    if instance.state not in _HOLDING:
        raise ConflictError(
            f"Instance '{instance.id}' is not 'running'. | It is {instance.state}.", code="IncorrectState"
        )
    if row.zone != instance.zone:
        raise ConflictError(
            f"The volume '{row.id}' is not in the same availability zone as instance '{instance.id}'",
            code="InvalidVolume.ZoneMismatch",
        )
    taken = select(VolumeRow.id).where(VolumeRow.instance_id == instance.id, VolumeRow.device_name == device_name)
    if (holder := session.scalars(taken).first()) is not None:
        raise ConflictError(
            f"Invalid value '{quote(device_name)}' for unixDevice. Attachment point {quote(device_name)} is already in "
            f"use | by {holder}.",
            code="InvalidParameterValue",
        )


def _row(session: Session, place: Place, volume_id: str) -> VolumeRow:
    row = session.get(VolumeRow, volume_id)
    if row is None or (row.region, row.account_id) != (place.region, place.account_id):
        raise _not_found(volume_id)
    return row


def _not_found(volume_id: str) -> NotFoundError:
    return NotFoundError(f"The volume '{quote(volume_id)}' does not exist.", resource_id=volume_id)


def _fact(row: VolumeRow) -> Volume:
    held = None
    if row.instance_id is not None and row.device_name is not None and row.attached_at is not None:
        held = Attachment(row.instance_id, row.device_name, row.attached_at, row.delete_on_termination)
    return Volume(
        id=row.id,
        place=Place(row.region, row.account_id),
        state=row.state,
        size_gib=row.size_gib,
        zone=row.zone,
        snapshot_id=row.snapshot_id,
        volume_type=row.volume_type,
        created_at=row.created_at,
        bucket=row.bucket,
        key=row.key,
        task_id=row.task_id,
        attachment=held,
    )
