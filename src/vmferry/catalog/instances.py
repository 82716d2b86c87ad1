"""Instances: machines with their volumes, made of an AMI or by an import."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from vmferry.catalog._client_tokens import claim_token, find_token
from vmferry.catalog._database import Database
from vmferry.catalog._schema import InstanceRow
from vmferry.catalog.hardware import Hardware, hardware_from_json, hardware_to_json
from vmferry.catalog.images import ImageSupport
from vmferry.catalog.pages import Wanted, page_query
from vmferry.catalog.places import Place
from vmferry.catalog.tags import put_tags
from vmferry.catalog.volumes import Volume, add_volume, part_volumes
from vmferry.errors import ConflictError, NotFoundError, quote

PENDING, RUNNING, STOPPING, STOPPED = "pending", "running", "stopping", "stopped"
SHUTTING_DOWN, TERMINATED = "shutting-down", "terminated"
CODES = {PENDING: 0, RUNNING: 16, SHUTTING_DOWN: 32, TERMINATED: 48, STOPPING: 64, STOPPED: 80}
"""EC2's number for each state."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance; its volumes are those that hang on it (``Volumes.of_instances``)."""

    id: str
    reservation_id: str
    place: Place
    state: str
    """A key of ``CODES``."""
    state_reason: str | None
    """Why it is in that state, in a sentence."""
    image_id: str | None
    instance_type: str
    architecture: str
    platform: str | None
    """``Windows``, or ``None`` for anything else."""
    boot_mode: str
    root_device_name: str
    zone: str
    private_ip: str | None
    launched_at: datetime
    launch_index: int = 0
    key_name: str | None = None
    security_groups: tuple[str, ...] = ()
    """Ids."""
    user_data: str | None = None
    """Base64, as it was given."""
    shutdown_behavior: str = "stop"
    disable_api_termination: bool = False
    disable_api_stop: bool = False
    ebs_optimized: bool = False
    task_id: str | None = None
    """The conversion task that imported it: only then may it be exported."""
    support: ImageSupport = field(default_factory=ImageSupport)
    """Its AMI's, when it was launched."""
    hardware: Hardware | None = None
    """What the machine that it came from was made of, where that is known."""
    usage_operation: str | None = None
    """EC2's code for how its AMI was billed when it was launched, where that is known."""

    @property
    def billed_as(self) -> str:
        """EC2's code for how it is billed: as its AMI was, else as its system is."""
        return self.usage_operation or ("RunInstances:0002" if self.platform else "RunInstances")


@dataclass(frozen=True, slots=True)
class NewInstance:
    """An instance to be recorded, with the volumes that hang on it and the tags of both."""

    instance: Instance
    volumes: Sequence[Volume]
    tags: Mapping[str, str]
    volume_tags: Mapping[str, str]


class Instances:
    """The instances of every region and account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def made_by(self, place: Place, action: str, token: str, fingerprint: str) -> str | None:
        """The reservation that ``action`` made for a client token; ``None`` where it was not used yet.

        Raises ``ConflictError`` when it was used with other parameters.
        """
        with self._database.read() as session:
            return find_token(session, place, action, token, fingerprint)

    def add(self, made: Sequence[NewInstance], claim: tuple[str, str | None, str] = ("", None, "")) -> str:
        """Record the instances of one reservation, all or none; the reservation's id. ``claim`` is as for
        ``Images.register``, and made for the reservation."""
        action, token, fingerprint = claim
        first = made[0].instance
        with self._database.write() as session:
            if token is not None:
                earlier = claim_token(session, first.place, action, token, fingerprint, first.reservation_id)
                if earlier is not None:
                    return earlier
            for one in made:
                session.add(instance_row(one.instance))
                session.flush()
                put_tags(session, one.instance.place, one.instance.id, "instance", one.tags)
                for volume in one.volumes:
                    add_volume(session, volume, one.volume_tags)
        return first.reservation_id

    def describe(self, place: Place, ids: Collection[str] | None = None) -> list[Instance]:
        """Instances of ``place``, oldest first; with ``ids`` only those, or ``NotFoundError``."""
        query = select(InstanceRow).where(
            InstanceRow.region == place.region, InstanceRow.account_id == place.account_id
        )
        if ids is not None:
            query = query.where(InstanceRow.id.in_(list(ids)))
        with self._database.read() as session:
            found = [_fact(row) for row in session.scalars(query.order_by(InstanceRow.launched_at, InstanceRow.id))]
        if missing := sorted(set(ids or ()) - {instance.id for instance in found}):
            raise _not_found(missing)
        return found

    def page(self, place: Place, wanted: Wanted, after: str | None, most: int) -> list[Instance]:
        """The next ``most`` instances of ``place`` by their ids, after the id ``after``."""
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(page_query(InstanceRow, ["id"], place, wanted, after, most))]

    def of_reservation(self, reservation_id: str) -> list[Instance]:
        """The instances of a reservation, in the order of their launch."""
        query = select(InstanceRow).where(InstanceRow.reservation_id == reservation_id)
        with self._database.read() as session:
            return [_fact(row) for row in session.scalars(query.order_by(InstanceRow.launch_index))]

    def change_state(self, instance_id: str, state: str, reason: str | None) -> None:
        """Set state and reason. Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = session.get(InstanceRow, instance_id)
            if row is None:
                raise _not_found([instance_id])
            row.state, row.state_reason = state, reason

    def modify(self, place: Place, instance_id: str, **values: object) -> None:
        """Set attributes by the names that ``Instance`` has for them. Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = _row(session, place, instance_id)
            for name, value in values.items():
                setattr(row, name, list(value) if isinstance(value, tuple) else value)

    def terminate(self, place: Place, instance_ids: Sequence[str]) -> tuple[list[Instance], list[Volume]]:
        """End instances, all or none; they as they were before, and the volumes that go with them, which are forgotten.

        What is terminated already stays so. Raises ``NotFoundError``, ``ConflictError`` for one that is
        protected or still being imported.
        """
        with self._database.write() as session:
            rows = [_row(session, place, instance_id) for instance_id in instance_ids]
            for row in rows:
                if row.disable_api_termination and row.state != TERMINATED:
                    raise ConflictError(
                        f"The instance '{row.id}' may not be terminated. Modify its 'disableApiTermination' instance "
                        "attribute and try again.",
                        code="OperationNotPermitted",
                    )
                if row.state == PENDING:
                    raise ConflictError(
                        f"The instance '{row.id}' is not in a state from which it can be terminated. | {row.task_id} "
                        "imports it: cancel that instead.",
                        code="IncorrectInstanceState",
                    )
            before, gone = [_fact(row) for row in rows], list[Volume]()
            for row in rows:
                gone += part_volumes(session, row.id)
                row.state, row.state_reason = TERMINATED, "Client.UserInitiatedShutdown: User initiated shutdown"
        return before, gone


def _row(session: Session, place: Place, instance_id: str) -> InstanceRow:
    row = session.get(InstanceRow, instance_id)
    if row is None or (row.region, row.account_id) != (place.region, place.account_id):
        raise _not_found([instance_id])
    return row


def _not_found(ids: list[str]) -> NotFoundError:
    listed = ", ".join(quote(i) for i in ids)
    noun, verb = ("ID", "does") if len(ids) == 1 else ("IDs", "do")
    return NotFoundError(f"The instance {noun} '{listed}' {verb} not exist", resource_id=ids[0])


def instance_row(instance: Instance) -> InstanceRow:
    """``instance`` as it is recorded."""
    return InstanceRow(
        id=instance.id,
        reservation_id=instance.reservation_id,
        region=instance.place.region,
        account_id=instance.place.account_id,
        state=instance.state,
        state_reason=instance.state_reason,
        image_id=instance.image_id,
        instance_type=instance.instance_type,
        architecture=instance.architecture,
        platform=instance.platform,
        boot_mode=instance.boot_mode,
        root_device_name=instance.root_device_name,
        zone=instance.zone,
        private_ip=instance.private_ip,
        launched_at=instance.launched_at.astimezone(UTC),
        launch_index=instance.launch_index,
        key_name=instance.key_name,
        security_groups=list(instance.security_groups),
        user_data=instance.user_data,
        shutdown_behavior=instance.shutdown_behavior,
        disable_api_termination=instance.disable_api_termination,
        disable_api_stop=instance.disable_api_stop,
        ebs_optimized=instance.ebs_optimized,
        task_id=instance.task_id,
        support=asdict(instance.support),
        usage_operation=instance.usage_operation,
        hardware=hardware_to_json(instance.hardware),
    )


def _fact(row: InstanceRow) -> Instance:
    return Instance(
        id=row.id,
        reservation_id=row.reservation_id,
        place=Place(row.region, row.account_id),
        state=row.state,
        state_reason=row.state_reason,
        image_id=row.image_id,
        instance_type=row.instance_type,
        architecture=row.architecture,
        platform=row.platform,
        boot_mode=row.boot_mode,
        root_device_name=row.root_device_name,
        zone=row.zone,
        private_ip=row.private_ip,
        launched_at=row.launched_at,
        launch_index=row.launch_index,
        key_name=row.key_name,
        security_groups=tuple(row.security_groups),
        user_data=row.user_data,
        shutdown_behavior=row.shutdown_behavior,
        disable_api_termination=row.disable_api_termination,
        disable_api_stop=row.disable_api_stop,
        ebs_optimized=row.ebs_optimized,
        task_id=row.task_id,
        support=ImageSupport(**row.support),
        usage_operation=row.usage_operation,
        hardware=hardware_from_json(row.hardware),
    )
