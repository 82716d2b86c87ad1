"""AMIs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from vmferry.catalog._client_tokens import claim_token, find_token
from vmferry.catalog._database import Database
from vmferry.catalog._schema import BlockDeviceRow, ImageRow, SnapshotRow
from vmferry.catalog.hardware import Hardware, hardware_from_json, hardware_to_json
from vmferry.catalog.pages import Wanted, visible_page
from vmferry.catalog.permissions import drop_permissions, visible
from vmferry.catalog.places import Place
from vmferry.catalog.tags import drop_tags, put_tags
from vmferry.errors import ConflictError, NotFoundError, quote

AVAILABLE = "available"
DEFAULT_VOLUME_TYPE = "gp2"


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A device of an AMI and the snapshot behind it."""

    device_name: str
    snapshot_id: str
    volume_size_gib: int
    delete_on_termination: bool = True
    volume_type: str = DEFAULT_VOLUME_TYPE


@dataclass(frozen=True, slots=True)
class ImageSupport:
    """What an AMI says that its guest can do with, in EC2's words; instances have it of their AMI."""

    ena: bool = True
    """Amazon's network card, which everything that is imported is taken to know."""
    sriov_net: str | None = None
    """``simple``: Intel's virtual function."""
    tpm: str | None = None
    """``v2.0``"""
    imds: str | None = None
    """``v2.0``: only tokens open the metadata service."""
    uefi_data: str | None = None
    """The UEFI variables that it starts with: Base64, as it was given."""


@dataclass(frozen=True, slots=True)
class Image:
    """An AMI. ``block_devices`` stand in device order, the root's first."""

    id: str
    place: Place
    name: str
    description: str | None
    state: str
    architecture: str
    boot_mode: str
    platform: str | None
    """``Windows``, or ``None`` for anything else."""
    usage_operation: str | None
    root_device_name: str
    created_at: datetime
    block_devices: tuple[BlockDevice, ...]
    support: ImageSupport = field(default_factory=ImageSupport)
    public: bool = False
    """Whether it is shared with everybody: read, never recorded (``Permissions``)."""
    hardware: Hardware | None = None
    """What the machine that it came from was made of, where that is known."""


class Images:
    """The AMIs of every region and account."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self, place: Place, ids: Collection[str] | None = None, *, shared: bool = False) -> list[Image]:
        """AMIs of ``place``, and where ``shared`` those that others share with its account, oldest first; with ``ids``
        only those, or ``NotFoundError``."""
        query = select(ImageRow).where(visible(ImageRow, place, shared=shared))
        if ids is not None:
            query = query.where(ImageRow.id.in_(list(ids)))
        with self._database.read() as session:
            found = [_fact(row) for row in session.scalars(query.order_by(ImageRow.created_at, ImageRow.id))]
        if missing := sorted(set(ids or ()) - {image.id for image in found}):
            raise _not_found(missing)
        return found

    def page(self, place: Place, wanted: Wanted, after: str | None, most: int) -> list[Image]:
        """The next ``most`` AMIs of ``place``, and of those shared with its account, by id, after the id ``after``."""
        with self._database.read() as session:
            return [_fact(row) for row in visible_page(session, ImageRow, place, wanted, after, most)]

    def made_by(self, place: Place, action: str, token: str, fingerprint: str) -> str | None:
        """The AMI that ``action`` made for a client token; ``None`` where it was not used yet.

        Raises ``ConflictError`` when it was used with other parameters.
        """
        with self._database.read() as session:
            return find_token(session, place, action, token, fingerprint)

    def register(
        self, image: Image, tags: Mapping[str, str], claim: tuple[str, str | None, str] = ("", None, "")
    ) -> str:
        """Record ``image`` with its tags; its id. ``claim`` is an action, its client token and the fingerprint of its
        parameters: where the token was used before, nothing is recorded, and the id is the one of then.

        Raises ``ConflictError`` when the name is in use, ``NotFoundError`` when a snapshot was removed meanwhile.
        """
        action, token, fingerprint = claim
        with self._database.write() as session:
            if token is not None:
                earlier = claim_token(session, image.place, action, token, fingerprint, image.id)
                if earlier is not None:
                    return earlier
            for device in image.block_devices:
                if session.get(SnapshotRow, device.snapshot_id) is None:
                    raise NotFoundError(
                        f"The snapshot '{device.snapshot_id}' does not exist.", resource_id=device.snapshot_id
                    )
            add_image(session, image)
            session.flush()
            put_tags(session, image.place, image.id, "image", tags)
        return image.id

    def set_description(self, place: Place, image_id: str, description: str | None) -> None:
        """Describe the AMI anew. Raises ``NotFoundError``."""
        with self._database.write() as session:
            _owned(session, place, image_id).description = description

    def set_imds_support(self, place: Place, image_id: str, version: str) -> None:
        """Let only tokens open the metadata service, or what else ``version`` says. Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = _owned(session, place, image_id)
            row.support = {**row.support, "imds": version}

    def deregister(self, place: Place, image_id: str) -> Image:
        """Forget the AMI; its snapshots stay. Raises ``NotFoundError``."""
        with self._database.write() as session:
            row = _owned(session, place, image_id)
            image = _fact(row)
            drop_tags(session, image_id)
            drop_permissions(session, image_id)
            session.delete(row)
            return image


def add_image(session: Session, image: Image) -> None:
    """Record ``image`` inside a transaction. Raises ``ConflictError`` when its name is in use."""
    query = select(ImageRow.id).where(
        ImageRow.region == image.place.region,
        ImageRow.account_id == image.place.account_id,
        ImageRow.name == image.name,
    )
    if (holder := session.scalars(query).first()) is not None:
        raise ConflictError(
            f"AMI name {quote(image.name)} is already in use by AMI {holder}", code="InvalidAMIName.Duplicate"
        )
    session.add(
        ImageRow(
            id=image.id,
            region=image.place.region,
            account_id=image.place.account_id,
            name=image.name,
            description=image.description,
            state=image.state,
            architecture=image.architecture,
            boot_mode=image.boot_mode,
            platform=image.platform,
            usage_operation=image.usage_operation,
            root_device_name=image.root_device_name,
            created_at=image.created_at.astimezone(UTC),
            support=asdict(image.support),
            hardware=hardware_to_json(image.hardware),
            block_devices=[
                BlockDeviceRow(
                    position=position,
                    device_name=device.device_name,
                    snapshot_id=device.snapshot_id,
                    volume_size_gib=device.volume_size_gib,
                    delete_on_termination=device.delete_on_termination,
                    volume_type=device.volume_type,
                )
                for position, device in enumerate(image.block_devices)
            ],
        )
    )


def _owned(session: Session, place: Place, image_id: str) -> ImageRow:
    row = session.get(ImageRow, image_id)
    if row is None or (row.region, row.account_id) != (place.region, place.account_id):
        raise _not_found([image_id])
    return row


def _not_found(ids: list[str]) -> NotFoundError:
    listed = ", ".join(quote(i) for i in ids)
    noun, verb = ("id", "does") if len(ids) == 1 else ("ids", "do")
    return NotFoundError(f"The image {noun} '[{listed}]' {verb} not exist", resource_id=ids[0])


def _fact(row: ImageRow) -> Image:
    return Image(
        id=row.id,
        place=Place(row.region, row.account_id),
        name=row.name,
        description=row.description,
        state=row.state,
        architecture=row.architecture,
        boot_mode=row.boot_mode,
        platform=row.platform,
        usage_operation=row.usage_operation,
        root_device_name=row.root_device_name,
        created_at=row.created_at,
        block_devices=tuple(
            BlockDevice(b.device_name, b.snapshot_id, b.volume_size_gib, b.delete_on_termination, b.volume_type)
            for b in row.block_devices
        ),
        support=ImageSupport(**row.support),
        public=row.public,
        hardware=hardware_from_json(row.hardware),
    )
